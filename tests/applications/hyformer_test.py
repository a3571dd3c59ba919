import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

import keras_unirec as ku
from keras_unirec import layers
from tests.applications.families import pad_histories
from tests.applications.families import to_rows
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase

T, D, L, F, E, H = 16, 32, 2, 48, 32, 32  # hyformer_tiny; H: of queries.


def decoding(**kwargs):
    """The reader of `hyformer_tiny`, with other options."""
    return layers.QueryDecoding(
        **{"num_heads": 2, "attention": "sigmoid", **kwargs}
    )


def longer(recent_length, **kwargs):
    return layers.Longer(recent_length, **kwargs)


def queries(**kwargs):
    return layers.QueryGeneration(hidden_dim=H, **kwargs)


NUM_QUERIES = {"watched": 2, "liked": 1}
PER_HISTORY = {name: decoding(num_queries=n) for name, n in NUM_QUERIES.items()}
OPTIONS = {
    "longer": {"encoder": longer(3)},
    "transformer": {"encoder": "transformer"},
    "swiglu_as_written": {
        "encoder": layers.HistoryEncoder(residual="none"),
        "residual": "no_norm",
    },
    "post_layer": {
        "encoder": longer(3, residual="post_layer"),
        "residual": "post_layer",
    },
    "merged_tokens": {
        "encoder": longer(2, token_merge=3, inner_transformer=True),
    },
    "merged_histories": {
        "events": layers.Events(E, join="concatenate", position="newest_first"),
        "encoder": "longer",
    },
    "one_choice_per_history": {
        "reader": PER_HISTORY,
        "events": layers.Events(
            {"watched": 24, "liked": 16}, position="newest_first"
        ),
        "encoder": {"watched": longer(3), "liked": "transformer"},
    },
    "softmax": {"reader": decoding(attention="softmax")},
    "self_attention": {"mixer": "self_attention"},
    "without_mixing": {"mixer": None},
    "swiglu_tokens": {"feed_forward": "swiglu"},
    "without_pooling": {"queries": queries(context="without_pooling")},
    "target": {"queries": queries(context="target")},
    "causal": {"encoder": longer(3, causal=True)},
    "causal_transformer": {"encoder": layers.TransformerEncoder(causal=True)},
    "selected": {"queries": queries(tokens=[0, 3], compression_dim=8)},
    "concatenate": {"readout": "concatenate"},
    "no_positions_or_lengths": {
        "events": layers.Events(E),
        "history_lengths": False,
    },
    "without_encoder": {"encoder": None},
}


# Options of encoders and attention: masks, dynamic lengths, merged events.
READING = {"reader", "encoder", "events"}


class HyFormerTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, _, _ = small_batch(self.schema)

    def load(self, name="hyformer_tiny", **kwargs):
        return ku.applications.load(name, self.schema, **kwargs)

    @parameterized.named_parameters(OPTIONS.items())
    def test_invariants_of_every_option(self, overrides):
        if keras.backend.backend() == "jax" and not READING & set(overrides):
            self.skipTest("What backends do differently is how they read.")
        model = self.load(**overrides)
        outputs = model(self.inputs)
        padded = model(pad_histories(self.schema, self.inputs, extra=5))
        rows = model(to_rows(self.schema, self.inputs, candidates=3))
        state = model.encode_user(self.inputs)
        halves = model.score_items(state, self.inputs)
        projected = model.with_kv_mode("projected")
        projected = projected(self.inputs)
        for label, value in outputs.items():
            self.assertFinite(value)  # The first history of each is empty.
            self.assertAllClose(padded[label], value, atol=1e-5)
            self.assertAllClose(
                ops.reshape(rows[label], (-1, 3)), value, atol=1e-5
            )
            self.assertAllClose(halves[label], value, atol=1e-5)
            self.assertAllClose(projected[label], value, atol=1e-5)
        copy = type(model).from_config(model.get_config())
        self.assertEqual(copy.get_config(), model.get_config())
        no_events, _, _ = small_batch(self.schema, events=0)
        self.assertFinite(model(no_events)["is_click"])

    @parameterized.named_parameters(
        (
            "without_pooling",
            {"queries": queries(context="without_pooling")},
            -2 * E * 2 * H,
        ),
        (
            # Item columns instead of 14 tokens and two means.
            "target",
            {"queries": queries(context="target")},
            (8 + 4 + 1 + 4 + 4 - 14 * D - 2 * E) * 2 * H,
        ),
        (
            # The decoders of one history, and its positions join.
            "merge_histories",
            {
                "events": layers.Events(
                    E, join="concatenate", position="newest_first"
                )
            },
            -L * (2 * D * D + 2 * E * D + D)
            - L * (3 * E * 2 * E + E)
            - E * 2 * H,
        ),
        ("without_mixing", {"mixer": None}, 0),
        ("self_attention", {"mixer": "self_attention"}, L * 4 * D * D),
        (
            "swiglu",
            {"feed_forward": layers.SwiGLU(ratio=F / D, per_token=True)},
            L * T * (3 * D * F - 2 * D * F - F - D),
        ),
        ("two_queries", {"reader": PER_HISTORY}, None),
    )
    def test_parameters_of_options(self, overrides, more):
        full, other = self.load(), self.load(**overrides)
        difference = other.count_params() - full.count_params()
        if more is not None:
            self.assertEqual(difference, more)
        else:
            self.assertNotEqual(difference, 0)
        self.assertEqual(other(self.inputs)["is_click"].shape, (6, 3))

    def test_state(self):
        model = self.load()
        state = model.encode_user(self.inputs)
        self.assertEqual(
            sorted(state),
            sorted(
                [
                    *(f"state_histories_{s}_mask" for s in NUM_QUERIES),
                    *(
                        f"state_histories_{s}_events_{i}"
                        for i in range(L)
                        for s in NUM_QUERIES
                    ),
                    "state_summary",
                    "state_context",
                ]
            ),
        )
        state = model.with_kv_mode("projected").encode_user(self.inputs)
        keys = state["state_histories_watched_events_1_0"]
        self.assertEqual(keys.shape, (6, 2, 8, 16))
        self.assertNotIn("state_histories_watched_events_1", state)
        # LONGER keeps what the recent events became.
        state = self.load(encoder=longer(3)).encode_user(self.inputs)
        events = state["state_histories_watched_events_1"]
        self.assertEqual(events.shape, (6, 3, E))

    def test_short_histories_with_longer(self):
        # Shorter than the recent events: every event must be read.
        model = self.load(encoder=longer(5))
        inputs = dict(self.inputs)
        inputs["watched.length"] = np.full(6, 2, "int32")
        outputs = model(inputs)["is_click"]
        for event in (0, 1):
            changed = dict(inputs)
            ids = inputs["hist_video_id"].copy()
            ids[:, event] = ids[:, event] % 20 + 7
            changed["hist_video_id"] = ids
            moved = ops.abs(model(changed)["is_click"] - outputs)
            self.assertGreater(float(ops.max(moved)), 1e-6)
        changed["hist_video_id"] = inputs["hist_video_id"].copy()
        changed["hist_video_id"][:, 2:] = 5
        self.assertAllClose(model(changed)["is_click"], outputs, atol=1e-6)

    def test_queries_read_their_own_history(self):
        model = self.load()
        maps = ku.analysis.attention_weights(model, self.inputs)
        self.assertEqual(maps["query_decoding_1_liked"].shape, (6, 3, 1, 2, 4))
        changed = dict(self.inputs)
        changed["liked_id"] = changed["liked_id"] % 20 + 7
        state = model.encode_user(changed)
        before = model.encode_user(self.inputs)
        watched = "state_histories_watched_events_1"
        self.assertAllClose(state[watched], before[watched])

    def test_errors(self):
        for overrides, message in (
            ({"num_tokens": 2}, "`num_tokens` must exceed"),
            ({"num_tokens": 12}, "Nearest legal widths for 12 tokens"),
            ({"encoder": "lstm"}, "`encoder` must be one of"),
            ({"encoder": {"watched": "longer"}}, "one for each history"),
            (
                {"queries": queries(tokens=[14])},
                "indices of the 14 feature tokens",
            ),
            ({"queries": "generation"}, "`queries` must be one of"),
            ({"reader": decoding(num_heads=3)}, "`num_heads` must divide"),
            (
                {"encoder": layers.TransformerEncoder(num_heads=3)},
                "`num_heads` must divide",
            ),
            ({"readout": "sum"}, "`readout` must be one of"),
            ({"residual": "rms"}, "`residual` must be one of"),
            ({"feed_forward": "relu"}, "`feed_forward` must be one of"),
            ({"feed_forward": None}, "`feed_forward` must be"),
            (
                {
                    "events": layers.Events(
                        {"watched": 8, "liked": 4}, join="concatenate"
                    )
                },
                "share one `dim`",
            ),
            (
                {
                    "events": layers.Events(E, join="concatenate"),
                    "encoder": {"watched": "longer", "liked": "swiglu"},
                },
                "joined share one `encoder`",
            ),
            ({"encoders": "longer"}, "Did you mean `encoder`"),
            ({"recent_length": 3}, r"`encoder=.*Longer\(recent_length=3\)`"),
            ({"num_layers": True}, "`num_layers` must be a positive integer"),
            (
                {"tokenizer": layers.FeatureTokenizer(groups=[["city"]])},
                "14 lists \\(`num_tokens` less",
            ),
            ({"num_tokens": 1024, "dim": 1024}, "cannot be cut into 1022"),
            (
                {"reader": {1: decoding(), "watched": decoding()}},
                "one for each history",
            ),
            ({"output_activation": "relu"}, "`output_activation` must be"),
            ({"default_recipe": "x"}, "`default_recipe` must be one of"),
        ):
            with self.subTest(str(overrides)):
                with self.assertRaisesRegex(ValueError, message):
                    self.load(**overrides)

    def test_numpy_numbers(self):
        model = self.load(
            dim=np.int64(32), num_tokens=np.int32(16), history_lengths=True
        )
        path = f"{self.get_temp_dir()}/model.weights.h5"
        model.save_weights(path)
        again = self.load(num_tokens=16, dim=32, weights=path)
        self.assertAllClose(
            again(self.inputs)["is_click"], model(self.inputs)["is_click"]
        )

    def test_name_and_trainable(self):
        model = ku.applications.load("hyformer_tiny", self.schema, name="mine")
        model.trainable = False
        copy = type(model).from_config(model.get_config())
        self.assertEqual((copy.name, copy.trainable), ("mine", False))

    def test_state_errors(self):
        model = self.load()
        state = model.encode_user(self.inputs)
        state.pop("state_summary")
        with self.assertRaisesRegex(ValueError, "lacks.*state_summary"):
            model.score_items(state, self.inputs)


def reading(**kwargs):
    """The reader of `longer_rankmixer_tiny`, with other options."""
    parts = {
        "events": layers.Events(E, position="newest_first"),
        "encoder": longer(20, num_heads=2),
        "queries": queries(context="target"),
        "reader": layers.QueryDecoding(num_heads=2, residual="pre_rms"),
    }
    return {"history_reader": layers.DecodingReader(**{**parts, **kwargs})}


class LongerRankMixerTest(TestCase):
    @parameterized.named_parameters(
        ("queries_of_all", reading(queries=queries())),
        (
            "joined",
            reading(
                events=layers.Events(
                    E, join="concatenate", position="newest_first"
                )
            ),
        ),
        (
            "attention",
            {**reading(encoder="transformer"), "mixer": "self_attention"},
        ),
        (
            "merged",
            reading(
                encoder=longer(2, token_merge=2),
                reader=layers.QueryDecoding(kv_mode="projected"),
            ),
        ),
        ("causal", reading(encoder=longer(3, causal=True))),
    )
    def test_options(self, overrides):
        if keras.backend.backend() == "jax":
            self.skipTest("HyFormer's options run the same encoders there.")
        schema = small_schema()
        inputs, _, _ = small_batch(schema)
        model = ku.applications.load(
            "longer_rankmixer_tiny", schema, **overrides
        )
        outputs = model(inputs)["is_click"]
        padded = model(pad_histories(schema, inputs, extra=5))
        self.assertAllClose(padded["is_click"], outputs, atol=1e-5)
        copy = type(model).from_config(model.get_config())
        self.assertEqual(copy.get_config(), model.get_config())


class RankMixerTest(TestCase):
    def test_the_name_of_a_mean_is_taken(self):
        watched = ku.Categorical("hist", share_with="item")
        schema = ku.Schema(
            user=[ku.Categorical("h.mean", 5, 4)],
            item=[ku.Categorical("item", 5, 4)],
            sequences=[ku.Sequence("h", 4, [watched])],
            labels=[ku.Label("click")],
        )
        with self.assertRaisesRegex(ValueError, "rename the column"):
            ku.applications.load("rankmixer_tiny", schema)

    def test_options(self):
        schema = small_schema()
        inputs, _, _ = small_batch(schema)
        for overrides in (
            {"mixer": "self_attention"},
            {"readout": "concatenate", "history_lengths": False},
            {"history_reader": layers.MeanReader({"watched": 8, "liked": 4})},
            {"history_reader": "target_attention"},
            {"feed_forward": "swiglu", "residual": "pre_rms"},
        ):
            with self.subTest(str(overrides)):
                model = ku.applications.load(
                    "rankmixer_tiny", schema, **overrides
                )
                self.assertFinite(model(inputs)["is_click"])
                copy = type(model).from_config(model.get_config())
                self.assertEqual(copy.get_config(), model.get_config())

    def test_does_without_histories(self):
        schema = ku.Schema(
            user=[ku.Categorical("user", 5, 4)],
            item=[ku.Categorical("item", 5, 4)],
            labels=[ku.Label("click")],
        )
        model = ku.applications.load(
            "rankmixer_tiny", schema, num_tokens=4, dim=8
        )
        inputs = {
            "user": np.array([2, 3], "int32"),
            "item": np.array([[2, 3], [4, 5]], "int32"),
        }
        self.assertEqual(model(inputs)["click"].shape, (2, 2))
        with self.assertRaisesRegex(ValueError, "user or context column"):
            ku.applications.load(
                "rankmixer_tiny",
                ku.Schema(
                    item=[ku.Categorical("item", 5, 4)],
                    labels=[ku.Label("click")],
                ),
            )
