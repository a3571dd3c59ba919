import warnings

import keras
import numpy as np
from absl.testing import parameterized

import keras_unirec as ku
from keras_unirec import layers
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase
from tests.test_case import to_numpy


class UniMixerTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, self.labels, _ = small_batch(self.schema)

    def load(self, name="unimixer_tiny", **overrides):
        if overrides.get("mixer", "uni_mixing") == "uni_mixing":
            if name.startswith("unimixer"):
                overrides.setdefault("num_iterations", 3)  # Quick to trace.
        return ku.applications.load(name, self.schema, **overrides)

    @parameterized.parameters(
        {"block_size": 8, "num_iterations": 3, "stddev": 0.5},
        {"shared_local": True, "symmetric": False},
        {"start_temperature": 0.5, "end_temperature": 0.5},
        {
            "mixer": "uni_mixing_lite",
            "num_iterations": 3,
            "num_bases": 2,
            "rank": 3,
        },
        {"mixer": "heterogeneous_attention", "num_heads": 2},
        {"mixer": "self_attention"},
        {"mixer": "fm"},
        {"mixer": "head_mixing"},
        {"mixer": "identity"},
        {"mixer": None, "feed_forward": "gelu"},
        {"norm": "post_rms", "normalize_input": True, "scale_by_depth": True},
        {"norm": "pre_rms", "readout": "concatenate", "tower_units": (5,)},
        {"history_reader": "decoding", "encoder": "swiglu"},
        {
            "history_reader": "decoding",
            "query_context": "all",
            "kv_mode": "projected",
            "num_queries": {"watched": 2, "liked": 1},
        },
    )
    def test_options(self, **overrides):
        model = self.load(num_layers=1, **overrides)
        outputs = model(self.inputs)
        self.assertFinite(outputs["is_click"])
        copy = type(model).from_config(model.get_config())
        self.assertEqual(copy.get_config(), model.get_config())
        self.assertEqual(
            [w.path for w in copy.weights], [w.path for w in model.weights]
        )
        if not {"norm", "history_reader"} & set(overrides):
            return  # Layers have tests of their own; tracing takes seconds.
        model.compile("sgd")
        model.fit(self.inputs, self.labels, verbose=0)
        for weight in model.weights:
            self.assertFinite(weight)

    def test_a_layer_as_mixer(self):
        """Every block has a copy with weights of its own."""
        mixer = layers.UniMixingLite(8, 3, num_iterations=3)
        for name in ("mixformer_tiny", "hyformer_tiny", "rankmixer_tiny"):
            model = self.load(name, mixer=mixer, dtype="mixed_bfloat16")
            first, second = model.mixings
            self.assertIsNot(first.bases, second.bases)
            self.assertEqual(first.compute_dtype, "bfloat16")
            self.assertEqual((first.block_size, first.num_bases), (8, 3))
            self.assertFalse(mixer.built)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertAllClose(
            loaded(self.inputs)["is_click"], model(self.inputs)["is_click"]
        )
        # Another layer with the same arguments, and a temperature.
        path = f"{self.get_temp_dir()}/model.weights.h5"
        model.save_weights(path)
        arguments = {"num_iterations": 3, "start_temperature": 0.05}
        again = layers.UniMixingLite(8, 3, **arguments)
        self.load(name, mixer=again, weights=path)
        other = layers.UniMixingLite(8, 4, num_iterations=3)
        with self.assertRaisesRegex(ValueError, "another model"):
            self.load(name, mixer=other, weights=path)

    def test_fit_plans_the_temperature(self):
        model = self.load(num_layers=2)
        model.compile("sgd")
        self.assertAllClose(model.mixings[0].temperature(), 1.0)
        fit = {"batch_size": 3, "verbose": 0}
        model.fit(self.inputs, self.labels, epochs=2, **fit)  # 4 steps
        for mixing in model.mixings:
            self.assertAllClose(mixing.temperature(), 0.05)
        # Cold stays cold.
        model.fit(self.inputs, self.labels, epochs=9, **fit)
        self.assertAllClose(model.mixings[1].temperature(), 0.05)
        model = self.load(anneal_steps=8, num_layers=1)
        model.compile("sgd")
        model.fit(self.inputs, self.labels, epochs=2, **fit)
        self.assertAllClose(model.mixings[0].temperature(), 0.525)

    def test_unknown_number_of_steps(self):
        def batches():
            while True:
                yield self.inputs, self.labels

        model = self.load()
        model.compile("sgd")
        with self.assertWarnsRegex(UserWarning, "temperature of .* stays at 1"):

            class Stop(keras.callbacks.Callback):
                def on_train_batch_end(self, batch, logs=None):
                    self.model.stop_training = True
                    raise KeyboardInterrupt

            try:
                model.fit(batches(), verbose=0, callbacks=[Stop()])
            except KeyboardInterrupt:
                pass
        # The step before the plan is no part of it.
        model.fit(batches(), steps_per_epoch=10, verbose=0)
        self.assertAllClose(model.mixings[0].step, 10.0)
        self.assertAllClose(model.mixings[0].planned_steps, 2.0)
        constant = self.load(end_temperature=1.0)
        constant.compile("sgd")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "The number of training steps")
            constant._plan_annealing(None)

    def test_two_stages(self):
        """The paper's warm-up: converge at 1.0, then go on at 0.05."""
        warm = self.load(end_temperature=1.0)
        warm.compile("sgd")
        warm.fit(self.inputs, self.labels, verbose=0)
        self.assertAllClose(warm.mixings[0].temperature(), 1.0)
        path = f"{self.get_temp_dir()}/warm.weights.h5"
        warm.save_weights(path)
        cold = self.load(start_temperature=0.05, weights=path)
        self.assertAllClose(cold.mixings[0].temperature(), 0.05)
        logits = to_numpy(cold.mixings[0].global_logits)
        self.assertAllClose(logits, warm.mixings[0].global_logits)
        cold.compile("sgd")
        cold.fit(self.inputs, self.labels, verbose=0)
        change = to_numpy(cold.mixings[0].global_logits) - logits
        self.assertGreater(np.abs(change).max(), 0)
        self.assertAllClose(cold.mixings[0].temperature(), 0.05)

    def test_matrices_are_per_step(self):
        """Rows of a batch share them: FLOPs but the products do not grow."""
        one, many = (
            ku.analysis.profile(self.load(), batch_size=size).flops
            for size in (1, 101)
        )
        per_sample = (many - one) / 100
        once = one - per_sample
        # 2 iterations of two products of N^2 + N B^2, in two blocks.
        expected = 2 * 2 * 4 * (128**2 + 128 * 16)
        self.assertAllClose(once, expected)

    def test_lite(self):
        model = self.load("unimixer_lite_tiny")
        self.assertIsInstance(model, ku.applications.UniMixerLite)
        self.assertIsInstance(model.mixings[0], layers.UniMixingLite)
        full = self.load(hidden_ratio=2.5)
        self.assertLess(model.count_params(), full.count_params())

    def test_errors(self):
        for overrides, message in (
            (
                {"rank": 3},
                r"`rank` is an argument of the mixers \['uni_mixing_",
            ),
            ({"mixer": "fm", "block_size": 4}, "`block_size` is an argument"),
            (
                {"mixer": layers.UniMixing(), "symmetric": False},
                "`symmetric` is an argument",
            ),
            ({"block_size": 5}, r"16 \* 32 = 512. Nearest .* \[4, 8\]"),
            ({"block_size": 0}, "`block_size` must be a positive integer"),
            ({"mixer": "unimixing"}, "`mixer` must be one of"),
            ({"norm": "rms"}, "`norm` must be one of"),
            ({"history_reader": "sum"}, "`history_reader` must be one of"),
            ({"encoder": "swiglu"}, 'needs `history_reader="decoding"`'),
            ({"kv_mode": "projected"}, 'needs `history_reader="decoding"`'),
            ({"end_temperature": 0}, "`end_temperature` must be a number bet"),
            ({"start_temperature": 0.01}, "temperature must not rise"),
            ({"symmetric": "no"}, "`symmetric` must be True or False"),
            ({"hidden_ratio": float("inf")}, "`hidden_ratio` must be a num"),
            ({"query_token": [1]}, "mean `query_tokens`"),
            ({"mixer": layers.UniMixing}, "`mixer` must be one of"),
            ({"mixer": keras.layers.Lambda(len)}, "`mixer` must be a layer"),
            ({"mixer": layers.HeadMixing(8)}, "`QueryBoosting` can revert"),
            ({"num_layer": 2}, "mean `num_layers`"),
            (
                {"history_reader": "decoding", "num_encoder_layers": 0},
                "`num_encoder_layers` must be a positive",
            ),
        ):
            with self.subTest(**overrides):
                with self.assertRaisesRegex(ValueError, message):
                    self.load(**overrides)
        with self.assertRaisesRegex(ValueError, "mean `num_layers`"):
            self.load("unimixer_lite_tiny", num_layer=2)
        with self.assertRaisesRegex(ValueError, r"UniMixing\(block_size=8\)"):
            self.load("mixformer_tiny", block_size=8)
        built = layers.UniMixing()
        built.build((None, 16, 32))
        with self.assertRaisesRegex(ValueError, "without weights yet"):
            self.load(mixer=built)

    def test_heads_are_reverted_in_hyformer(self):
        model = self.load(
            "hyformer_tiny", mixer=layers.HeadMixing(8), num_layers=1
        )
        self.assertFinite(model(self.inputs)["is_click"])
        for name in ("mixformer_tiny", "rankmixer_tiny"):
            with self.assertRaisesRegex(ValueError, "can revert `HeadMixing`"):
                self.load(name, mixer=layers.HeadMixing(4))

    def test_does_without_histories(self):
        schema = ku.Schema(
            user=self.schema.user,
            item=self.schema.item,
            labels=self.schema.labels,
        )
        model = ku.applications.load("unimixer_tiny", schema, num_tokens=8)
        inputs = {k: self.inputs[k] for s in schema.inputs() for k in s}
        self.assertFinite(model(inputs)["is_click"])
        with self.assertRaisesRegex(ValueError, "needs at least one `Seq"):
            ku.applications.load(
                "unimixer_tiny", schema, history_reader="decoding"
            )

    def test_numpy_numbers(self):
        model = self.load(num_layers=np.int64(1), block_size=np.int64(8))
        self.assertEqual(model.mixings[0].block_size, 8)
