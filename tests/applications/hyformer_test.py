import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

import keras_unirec as ku
from tests.applications.invariants_test import copy_weights
from tests.applications.invariants_test import pad_histories
from tests.applications.invariants_test import to_rows
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase

T, D, L, F, E, H = 16, 32, 2, 48, 32, 32  # hyformer_tiny; H: of queries.
PER_HISTORY = {"watched": 2, "liked": 1}
OPTIONS = {
    "longer": {"encoder": "longer", "recent_length": 3},
    "transformer": {"encoder": "transformer"},
    "swiglu_as_written": {"encoder_norm": None, "norm": None},
    "post_layer": {
        "encoder": "longer",
        "recent_length": 3,
        "encoder_norm": "post_layer",
        "norm": "post_layer",
    },
    "merged_tokens": {
        "encoder": "longer",
        "recent_length": 2,
        "token_merge": 3,
        "inner_transformer": True,
    },
    "merged_histories": {"merge_histories": True, "encoder": "longer"},
    "one_choice_per_history": {
        "num_queries": PER_HISTORY,
        "sequence_dim": {"watched": 24, "liked": 16},
        "encoder": {"watched": "longer", "liked": "transformer"},
        "recent_length": 3,
    },
    "softmax": {"attention": "softmax"},
    "self_attention": {"mixer": "self_attention"},
    "without_mixing": {"mixer": None},
    "swiglu_tokens": {"feed_forward": "swiglu"},
    "without_pooling": {"query_context": "without_pooling"},
    "target": {"query_context": "target"},
    "causal": {"encoder": "longer", "recent_length": 3, "encoder_causal": True},
    "causal_transformer": {"encoder": "transformer", "encoder_causal": True},
    "selected": {"query_tokens": [0, 3], "query_compression_dim": 8},
    "concatenate": {"readout": "concatenate"},
    "no_positions_or_lengths": {
        "position_embedding": False,
        "history_lengths": False,
    },
}


# Options of encoders and attention: masks, dynamic lengths, merged events.
READING = {
    "attention",
    "encoder",
    "merge_histories",
    "sequence_dim",
    "token_merge",
}


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
        projected = self.load(**overrides, kv_mode="projected")
        copy_weights(model, projected)
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
            {"query_context": "without_pooling"},
            -2 * E * 2 * H,
        ),
        (
            # Item columns instead of 14 tokens and two means.
            "target",
            {"query_context": "target"},
            (8 + 4 + 1 + 4 + 4 - 14 * D - 2 * E) * 2 * H,
        ),
        (
            # The decoders of one history, and its positions join.
            "merge_histories",
            {"merge_histories": True},
            -L * (2 * D * D + 2 * E * D + D)
            - L * (3 * E * 2 * E + E)
            - E * 2 * H,
        ),
        ("without_mixing", {"mixer": None}, 0),
        ("self_attention", {"mixer": "self_attention"}, L * 4 * D * D),
        (
            "swiglu",
            {"feed_forward": "swiglu"},
            L * T * (3 * D * F - 2 * D * F - F - D),
        ),
        ("two_queries", {"num_queries": PER_HISTORY}, None),
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
        state = self.load().encode_user(self.inputs)
        self.assertEqual(
            sorted(state),
            sorted(
                [
                    *(f"state_mask_{s}" for s in PER_HISTORY),
                    *(
                        f"state_history_{i}_{s}"
                        for i in range(L)
                        for s in PER_HISTORY
                    ),
                    "state_summary",
                    "state_request",
                ]
            ),
        )
        state = self.load(kv_mode="projected").encode_user(self.inputs)
        self.assertEqual(state["state_keys_1_watched"].shape, (6, 2, 8, 16))
        self.assertNotIn("state_history_1_watched", state)
        # LONGER keeps what the recent events became.
        state = self.load(encoder="longer", recent_length=3).encode_user(
            self.inputs
        )
        self.assertEqual(state["state_history_1_watched"].shape, (6, 3, E))

    def test_short_histories_with_longer(self):
        # Shorter than the recent events: every event must be read.
        model = self.load(encoder="longer", recent_length=5)
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
        self.assertAllClose(
            state["state_history_1_watched"], before["state_history_1_watched"]
        )

    def test_errors(self):
        for overrides, message in (
            ({"num_tokens": 2}, "`num_tokens` must exceed"),
            ({"num_tokens": 12}, "Nearest legal widths for 12 tokens"),
            ({"encoder": "lstm"}, "`encoder` must be one of"),
            ({"encoder": {"watched": "longer"}}, "one for each history"),
            ({"query_context": "none"}, "`query_context` must be one of"),
            ({"query_tokens": [14]}, "indices of the 14 feature tokens"),
            ({"query_tokens": []}, "indices of the 14 feature tokens"),
            ({"num_heads": 3}, "`num_heads` must divide"),
            ({"num_queries": 0}, "`num_queries` must be a positive"),
            ({"recent_length": 0}, "`recent_length` must be a positive"),
            ({"sequence_dim": 0}, "`sequence_dim` must be a positive"),
            ({"readout": "sum"}, "`readout` must be one of"),
            ({"norm": "rms"}, "`norm` must be one of"),
            ({"feed_forward": "relu"}, "`feed_forward` must be one of"),
            ({"attention": "none"}, "`attention` must be"),
            (
                {
                    "merge_histories": True,
                    "sequence_dim": {"watched": 8, "liked": 4},
                },
                "share one `sequence_dim`",
            ),
            ({"encoders": "longer"}, "Did you mean `encoder`"),
            (
                {"encoder": "transformer", "encoder_heads": 3},
                "`encoder_heads` must divide",
            ),
            ({"encoder_norm": "x"}, "`encoder_norm` must be one of"),
            ({"hidden_ratio": 0}, "`hidden_ratio` must be a number"),
            ({"hidden_ratio": None}, "`hidden_ratio` must be a number"),
            ({"encoder_hidden_ratio": "2"}, "`encoder_hidden_ratio` must be"),
            ({"head_dim": 8.0}, "`head_dim` must be a positive integer"),
            ({"query_hidden_dim": 0}, "`query_hidden_dim` must be a positive"),
            (
                {"query_compression_dim": 0},
                "`query_compression_dim` must be a positive",
            ),
            ({"num_layers": True}, "`num_layers` must be a positive integer"),
            ({"query_tokens": 3}, "list of different indices"),
            ({"query_tokens": [0.0]}, "list of different indices"),
            (
                {"query_tokens": [0], "query_context": "target"},
                "of the item columns alone",
            ),
            ({"inner_transformer": True}, "`token_merge` of at least 2"),
            ({"merge_histories": "no"}, "`merge_histories` must be one of"),
            ({"tower_units": 8}, "`tower_units` must be a list"),
            ({"tower_units": [0]}, "`tower_units` must be a positive"),
            ({"token_groups": 5}, "`token_groups` must be a list of lists"),
            ({"token_groups": []}, "14 lists \\(`num_tokens` less"),
            ({"num_tokens": 1024, "dim": 1024}, "cannot be cut into 1022"),
            ({"num_queries": {1: 1, "watched": 2}}, "one for each history"),
            ({"output_activation": "relu"}, "`output_activation` must be"),
            ({"default_recipe": "x"}, "`default_recipe` must be one of"),
        ):
            with self.subTest(str(overrides)):
                with self.assertRaisesRegex(ValueError, message):
                    self.load(**overrides)

    def test_numpy_numbers(self):
        model = self.load(dim=np.int64(32), num_queries=np.int32(1))
        path = f"{self.get_temp_dir()}/model.weights.h5"
        model.save_weights(path)
        again = self.load(num_queries=1, dim=32, weights=path)
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


class LongerRankMixerTest(TestCase):
    @parameterized.parameters(
        {"query_context": "all"},
        {"merge_histories": True},
        {"encoder": "transformer", "mixer": "self_attention"},
        {"token_merge": 2, "recent_length": 2, "kv_mode": "projected"},
        {"encoder_causal": True, "recent_length": 3},
    )
    def test_options(self, **overrides):
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
            {"sequence_dim": {"watched": 8, "liked": 4}},
            {"feed_forward": "swiglu", "norm": "pre_rms"},
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
