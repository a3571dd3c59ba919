import numpy as np
from absl.testing import parameterized
from keras import ops

import keras_unirec as ku
from keras_unirec import layers
from tests.applications.families import pad_histories
from tests.small_log import small_batch
from tests.small_log import small_frame
from tests.small_log import small_schema
from tests.test_case import TestCase

N, D, L, HIDDEN = 8, 32, 2, 64  # mixformer_tiny.


class MixFormerTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, _, _ = small_batch(self.schema)

    def load(self, **kwargs):
        return ku.applications.load("mixformer_tiny", self.schema, **kwargs)

    def parameters(self, model, part):
        return sum(
            int(np.prod(weight.shape))
            for weight in model.weights
            if weight.path.startswith(part)
        )

    @parameterized.named_parameters(
        ("without_mixing", {"mixer": None}, -L * D),
        (
            "self_attention",
            {"mixer": "self_attention"},
            L * 4 * D * D,
        ),
        (
            "without_query_feed_forward",
            {"feed_forward": None},
            -L * (3 * N * D * HIDDEN + D),
        ),
        (
            "shared_history_encoder",
            {"encoder": layers.Shared("swiglu")},
            -(L - 1) * (3 * D * D + D),
        ),
        (
            "shared_output_fusion",
            {"fusion": layers.SwiGLU(ratio=2)},
            -L * (N - 1) * 3 * D * HIDDEN,
        ),
        # A LayerNorm has a bias; there are four per block.
        ("post_layer_norm", {"residual": "post_layer"}, L * 4 * D),
    )
    def test_ablations_of_figure_3(self, overrides, more_parameters):
        full, ablated = self.load(), self.load(**overrides)
        self.assertEqual(
            ablated.count_params() - full.count_params(), more_parameters
        )
        outputs = ablated(self.inputs)
        self.assertEqual(outputs["is_click"].shape, (6, 3))
        self.assertFinite(outputs["is_click"])

    def test_literal_event_width(self):
        model = self.load(
            events=layers.Events(N * D), encoder=layers.HistoryEncoder(16)
        )
        self.assertFinite(model(self.inputs)["is_click"])
        paths = [weight.path for weight in model.weights]
        self.assertNotIn("history_map/kernel", paths)
        self.assertIn(
            "history_map/kernel", [w.path for w in self.load().weights]
        )
        self.assertEqual(
            self.parameters(model, "history_encoder_0"),
            3 * N * D * 16 + N * D,
        )

    def test_encoders(self):
        """Each reads the events themselves, unless it is shared (eq. 5)."""
        for encoder in (
            layers.Longer(recent_length=3, num_heads=2),
            "transformer",
            layers.Shared("transformer"),
            None,
        ):
            with self.subTest(str(encoder)):
                model = self.load(encoder=encoder)
                padded = pad_histories(self.schema, self.inputs, extra=5)
                self.assertAllClose(
                    model(padded)["is_click"],
                    model(self.inputs)["is_click"],
                    atol=1e-5,
                )
        state = self.load(encoder=layers.Shared("swiglu")).encode_user(
            self.inputs
        )
        # What two blocks read alike is kept once.
        self.assertEqual(
            sorted(state),
            ["state_context", "state_history_events_0", "state_history_mask"],
        )

    def test_options(self):
        for overrides in (
            {"reader": "head_cross_attention"},  # Softmax.
            {"reader": layers.QueryDecoding(num_heads=2)},
            {"readout": "concatenate"},
            {"events": layers.Events(position="newest_first")},
            {"history_lengths": False},
            {"events": layers.Events(max_length=5)},
            {"tower": layers.Tower(())},
            {"tower": layers.Tower((16, 8))},
            {"dim": None},
            {"output_activation": "sigmoid"},
            {"mixer": layers.UniMixingLite(num_iterations=3)},
            {"feed_forward": "gelu", "fusion": "gelu", "residual": "no_norm"},
        ):
            with self.subTest(str(overrides)):
                model = self.load(**overrides)
                copy = type(model).from_config(model.get_config())
                self.assertEqual(copy.get_config(), model.get_config())
                self.assertFinite(model(self.inputs)["is_like"])

    def test_padding_with_softmax(self):
        # The `_tiny` size, whose invariants are tested, is the sigmoid form.
        model = self.load(reader="head_cross_attention")
        padded = pad_histories(self.schema, self.inputs, extra=5)
        for label, value in model(self.inputs).items():
            self.assertAllClose(model(padded)[label], value, atol=1e-5)
            self.assertFinite(value)

    def test_history_lengths_are_seen(self):
        model = self.load()
        inputs = dict(self.inputs)
        inputs["watched.count"] = inputs["watched.count"] + 1
        changed = model(inputs)["is_click"] - model(self.inputs)["is_click"]
        self.assertGreater(float(ops.max(ops.abs(changed))), 1e-6)

    def test_token_groups(self):
        state = self.load().user_model(
            {key: self.inputs[key] for key in self.schema.inputs()[0]}
        )
        keys = [
            *("user_id", "city", "hour", "watched.count", "liked.count"),
            *("video_id", "video_id.author", "video_id.duration"),
            *("price", "genres"),
        ]
        self.assertEqual(state["state_context"].shape[-1], 4 + 4 + 1 + 1 + 1)
        groups = [[key] for key in keys[:7]] + [keys[7:]]

        def load(groups):
            return self.load(tokenizer=layers.FeatureTokenizer(groups=groups))

        model = load(groups)
        self.assertFinite(model(self.inputs)["is_click"])
        self.assertEqual(
            self.parameters(model, "tokenizer"), (11 + 8 + 4 + 1 + 4 + 4) * D
        )
        for wrong in (groups[:-1], [*groups[:-1], ["price"]]):
            with self.assertRaisesRegex(ValueError, "exactly once"):
                load(wrong)

    def test_groups_of_a_prototype_are_its_own(self):
        # Groups that are given stay when another option is left open.
        keys = self.load().column_widths()
        names = [*keys[0], *keys[1]]
        groups = [[name] for name in names[:7]] + [names[7:]]
        tokenizer = layers.FeatureTokenizer(groups=groups)
        for _ in range(2):
            self.load(tokenizer=tokenizer)
        self.assertFalse(tokenizer.built)
        self.assertIsNone(tokenizer.dim)

    def test_merge_by_time_needs_times(self):
        with self.assertRaisesRegex(ValueError, "without one: .'liked'."):
            self.load(events=layers.Events(join="time"))

    def test_bad_arguments(self):
        for overrides, message in (
            ({"dim": 30}, r"\[24, 32\]"),
            ({"num_heads": 6}, "num_heads=6, dim=32"),
            ({"num_layers": 0}, "`num_layers` must be a positive"),
            ({"mixer": "sum"}, "`mixer` must be one of"),
            ({"readout": "max"}, "`readout` must be one of"),
            ({"residual": "batch"}, "`residual` must be one of"),
            ({"reader": "relu"}, "`reader` must be one of"),
            ({"events": "joined"}, "`events` must be one of"),
            (
                {"events": layers.Events({"watched": 8, "liked": 4})},
                "share one `dim`",
            ),
            ({"events": layers.Events(join="apart")}, "reads one history"),
            ({"fusion": None}, "`fusion` must be one of"),
            ({"feed_forward": layers.SwiGLU}, "an instance, not a class"),
        ):
            with self.subTest(str(overrides)):
                with self.assertRaisesRegex(ValueError, message):
                    self.load(**overrides)

    def test_a_schema_without_histories_is_refused(self):
        frame = small_frame()
        schema = ku.Schema(
            item=[ku.Categorical("video_id", 30, 8)],
            labels=[ku.Label("is_click")],
        ).adapt(frame)
        with self.assertRaisesRegex(ValueError, "at least one `Sequence`"):
            ku.applications.load("mixformer_tiny", schema)

    def test_smallest_schema(self):
        frame = small_frame()
        watched = ku.Categorical("hist_video_id", share_with="video_id")
        schema = ku.Schema(
            item=[ku.Categorical("video_id", 30, 8)],
            sequences=[ku.Sequence("watched", 8, [watched])],
            labels=[ku.Label("is_click")],
        ).adapt(frame)
        for overrides in ({}, {"history_lengths": False}):
            model = ku.applications.load("mixformer_tiny", schema, **overrides)
            predicted = ku.predict(model, frame)
            self.assertEqual(predicted.shape, (len(frame), 1))
