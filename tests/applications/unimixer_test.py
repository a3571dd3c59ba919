import warnings

import keras
import numpy as np
from absl.testing import parameterized

import keras_unirec as ku
from keras_unirec import layers
from keras_unirec.training.plan import plan_fit
from tests.applications import families
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase
from tests.test_case import to_numpy


def uni_mixing(**kwargs):
    """Quick to trace, with few iterations."""
    return layers.UniMixing(**{"num_iterations": 3, **kwargs})


class UniMixerTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, self.labels, _ = small_batch(self.schema)

    def load(self, name="unimixer_tiny", **overrides):
        return families.load(name, self.schema, **overrides)

    @parameterized.named_parameters(
        ("blocks", {"mixer": uni_mixing(block_size=8, stddev=0.5)}),
        (
            "one_block",
            {"mixer": uni_mixing(shared_local=True, symmetric=False)},
        ),
        (
            "constant",
            {"mixer": uni_mixing(start_temperature=0.5, end_temperature=0.5)},
        ),
        (
            "lite",
            {
                "mixer": layers.UniMixingLite(
                    num_iterations=3, num_bases=2, rank=3
                )
            },
        ),
        ("heterogeneous", {"mixer": layers.HeterogeneousAttention(2)}),
        ("self_attention", {"mixer": "self_attention"}),
        ("fm", {"mixer": "fm"}),
        ("head_mixing", {"mixer": "head_mixing"}),
        ("identity", {"mixer": "identity"}),
        ("without_mixing", {"mixer": None, "feed_forward": "gelu"}),
        (
            "post_norm",
            {"residual": "post_rms"},
        ),
        (
            "siamese",
            {
                "residual": layers.SiameseNorm(
                    normalize_input=True, scale_by_depth=True
                )
            },
        ),
        (
            "pre_norm",
            {
                "residual": layers.PreNorm(final_norm=True),
                "readout": "concatenate",
                "tower": layers.Tower((5,)),
            },
        ),
        (
            "decoding",
            {"history_reader": layers.DecodingReader(encoder="swiglu")},
        ),
        (
            "queries",
            {
                "history_reader": layers.DecodingReader(
                    queries=layers.QueryGeneration(context="all"),
                    reader={
                        "watched": layers.QueryDecoding(
                            num_queries=2, kv_mode="projected"
                        ),
                        "liked": layers.QueryDecoding(),
                    },
                )
            },
        ),
        ("target_attention", {"history_reader": "target_attention"}),
    )
    def test_options(self, overrides):
        model = self.load(num_layers=1, **overrides)
        outputs = model(self.inputs)
        self.assertFinite(outputs["is_click"])
        copy = type(model).from_config(model.get_config())
        self.assertEqual(copy.get_config(), model.get_config())
        self.assertEqual(
            [w.path for w in copy.weights], [w.path for w in model.weights]
        )
        if not {"residual", "history_reader"} & set(overrides):
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
        model = self.load(mixer=uni_mixing(anneal_steps=8), num_layers=1)
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
        constant = self.load(mixer=uni_mixing(end_temperature=1.0))
        constant.compile("sgd")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "The number of training steps")
            plan_fit(constant, None)

    def test_two_stages(self):
        """The paper's warm-up: converge at 1.0, then go on at 0.05."""
        warm = self.load(mixer=uni_mixing(end_temperature=1.0))
        warm.compile("sgd")
        warm.fit(self.inputs, self.labels, verbose=0)
        self.assertAllClose(warm.mixings[0].temperature(), 1.0)
        path = f"{self.get_temp_dir()}/warm.weights.h5"
        warm.save_weights(path)
        cold = self.load(mixer=uni_mixing(start_temperature=0.05), weights=path)
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
        wide = layers.SwiGLU(ratio=2.5, per_token=True)
        full = self.load(feed_forward=wide)
        self.assertLess(model.count_params(), full.count_params())

    def test_errors(self):
        for overrides, message in (
            (
                {"rank": 3},
                r"`mixer=keras_unirec.layers.UniMixingLite\(rank=3\)`",
            ),
            (
                {"mixer": layers.UniMixing(stddev=0.5), "symmetric": False},
                r"UniMixing\(stddev=0.5, symmetric=False\)",
            ),
            (
                {"mixer": uni_mixing(block_size=5)},
                r"16 \* 32 = 512. Nearest .* \[4, 8\]",
            ),
            ({"mixer": "unimixing"}, "mean 'uni_mixing'"),
            ({"residual": "rms"}, "`residual` must be one of"),
            ({"history_reader": "sum"}, "`history_reader` must be one of"),
            ({"encoder": "swiglu"}, r"DecodingReader\(.*encoder='swiglu'\)"),
            ({"kv_mode": "projected"}, r"QueryDecoding\(.*kv_mode='projected'"),
            ({"mixer": layers.UniMixing}, "an instance, not a class"),
            (
                {"mixer": keras.layers.Lambda(len)},
                "`mixer` must be what a saved",
            ),
            ({"mixer": layers.HeadMixing(8)}, "`QueryBoosting` can revert"),
            ({"num_layer": 2}, "mean `num_layers`"),
        ):
            with self.subTest(str(overrides)):
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
        with self.assertRaisesRegex(ValueError, "at least one `Sequence`"):
            ku.applications.load(
                "unimixer_tiny", schema, history_reader="decoding"
            )

    def test_numpy_numbers(self):
        model = self.load(num_layers=np.int64(1), dim=np.int64(32))
        self.assertLen(model.mixings, 1)
        self.assertEqual(model.get_config()["num_layers"], 1)
