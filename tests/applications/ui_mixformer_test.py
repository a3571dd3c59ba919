import keras
import numpy as np
from keras import ops

import keras_unirec as ku
from keras_unirec import layers
from tests.layers import references
from tests.small_log import small_batch
from tests.small_log import small_frame
from tests.small_log import small_schema
from tests.test_case import TestCase
from tests.test_case import to_numpy

N, D, L = 8, 32, 2  # ui_mixformer_tiny.
BLOCK = ("query_mixer", "cross_attention", "output_fusion", "history_")


class UIMixFormerTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, _, _ = small_batch(self.schema)

    def load(self, **kwargs):
        kwargs = {"num_item_heads": "by_width", **kwargs}
        return ku.applications.load("ui_mixformer_tiny", self.schema, **kwargs)

    def tokens(self, model):
        """What the two tokenizers make of the inputs."""
        tokens = []
        for half, name in (
            (model.user_model, "user_tokenizer"),
            (model.item_model, "item_tokenizer"),
        ):
            layer = half.get_layer(name)
            part = keras.Model(half.inputs, layer.output)
            tokens.append(
                to_numpy(part([self.all(model)[x.name] for x in half.inputs]))
            )
        return tokens

    def all(self, model):
        inputs = {k: ops.convert_to_tensor(v) for k, v in self.inputs.items()}
        return {**inputs, **model.encode_user(inputs)}

    def test_equals_the_paper(self):
        """Eq. 3-11 on all N heads, with the mask of eq. 10."""
        model = self.load(reader="head_cross_attention")
        for weight in model.weights:  # Scales are 1 before training.
            if weight.path.endswith("scale"):
                weight.assign(np.random.uniform(0.5, 1.5, weight.shape))
        state = {k: to_numpy(v) for k, v in self.all(model).items()}
        user, items = self.tokens(model)
        num_user_heads = user.shape[2]
        self.assertEqual((num_user_heads, items.shape[2]), (3, 5))
        mask_of_heads = np.ones((N, D))
        mask_of_heads[:num_user_heads, num_user_heads * D // N :] = 0

        x = np.concatenate([np.repeat(user, 3, axis=1), items], axis=2)

        def layer(name):
            half = "user_" if name.startswith("user_") else "item_"
            return getattr(model, f"{half}model").get_layer(name)

        def both(name, i):
            return layer(f"user_{name}_{i}"), layer(f"item_{name}_{i}")

        def per_head(x, networks):
            cut = num_user_heads
            parts = x[..., :cut, :], x[..., cut:, :]
            return np.concatenate(
                [references.swiglu(p, n) for p, n in zip(parts, networks)],
                axis=-2,
            )

        maps = [
            to_numpy(layer(f"{side}_cross_attention_0").history_map.kernel)
            for side in ("user", "item")
        ]
        history_map = np.concatenate(maps, axis=1)  # (E, N, D)
        for i in range(L):
            mixers = both("query_mixer", i)
            norms = mixers[0].residual.norms
            p = references.normalize(x, norms["mixer_norm"])
            p = mask_of_heads * references.head_mixing(p) + x
            q = references.normalize(p, norms["feed_forward_norm"])
            q = per_head(q, [mixer.feed_forward for mixer in mixers]) + p
            np.testing.assert_allclose(  # The mask stands in for a copy.
                q[:, 0, :num_user_heads], q[:, 2, :num_user_heads], atol=1e-5
            )
            attentions = both("cross_attention", i)
            key, value = (
                np.concatenate([to_numpy(getattr(a, name)) for a in attentions])
                for name in ("key_kernel", "value_kernel")
            )
            z = q.copy()
            for r, c, n in np.ndindex(q.shape[:3]):
                events = state[f"state_history_events_{i}"][r]
                events = events[state["state_history_mask"][r]]
                events = events @ history_map[:, n]
                z[r, c, n] += references.attention(
                    q[r, c, n], events @ key[n], events @ value[n]
                )
            fusions = both("output_fusion", i)
            norms = fusions[0].residual.norms
            o = references.normalize(z, norms["feed_forward_norm"])
            x = per_head(o, [each.feed_forward for each in fusions]) + z
            self.assertAllClose(
                state[f"state_user_heads_{i + 1}"],
                x[:, 0, :num_user_heads],
                atol=1e-4,
            )
        mean = x.mean(axis=2)
        for label, outputs in model(self.inputs).items():
            tower = layer(f"{label}_tower_0"), layer(f"{label}_logit")
            self.assertAllClose(
                outputs, to_numpy(tower[1](tower[0](mean)))[..., 0], atol=1e-4
            )

    def test_blocks_have_the_parameters_of_mixformer(self):
        def count(model):
            return {
                kind: sum(
                    int(np.prod(weight.shape))
                    for weight in model.weights
                    if kind in weight.path
                )
                for kind in (*BLOCK, "tower", "logit")
            }

        for overrides in (
            {},
            {"mixer": "self_attention"},
            {"residual": "post_layer"},
            {"events": layers.Events(N * D)},
        ):
            with self.subTest(str(overrides)):
                coupled = ku.applications.load(
                    "mixformer_tiny", self.schema, **overrides
                )
                self.assertEqual(count(self.load(**overrides)), count(coupled))

    def test_users_see_no_items(self):
        """No activation of a user head depends on an item, in any mixer."""
        for mixer in ("head_mixing", "self_attention", "identity", None):
            model = self.load(mixer=mixer)
            items = {x.name for x in model.item_model.inputs}
            users = {x.name for x in model.user_model.inputs}
            self.assertFalse(users & set(self.schema.inputs()[1]))
            self.assertLessEqual(set(model.user_model.output), items)
            reads = mixer in ("head_mixing", "self_attention")
            self.assertEqual("state_user_heads_0" in items, reads)
            # The items do see the user.
            state = dict(model.encode_user(self.inputs))
            before = model.score_items(state, self.inputs)["is_click"]
            for i in range(L + 1):
                name = f"state_user_heads_{i}"
                if name not in state:
                    continue
                changed = {**state, name: state[name] + 1.0}
                after = model.score_items(changed, self.inputs)["is_click"]
                difference = float(ops.max(ops.abs(after - before)))
                self.assertGreater(difference, 1e-6, (mixer, name))

    def test_state(self):
        model = self.load()
        state = {k: tuple(v.shape) for k, v in self.all(model).items()}
        for i in range(L + 1):
            self.assertEqual(state[f"state_user_heads_{i}"], (6, 3, D))
        for i in range(L):
            self.assertEqual(state[f"state_history_events_{i}"], (6, 12, D))
        self.assertNotIn("state_context", state)
        self.assertEqual(model.num_user_heads, 3)
        # One event, or one request, does not stand for all.
        state = model.encode_user(self.inputs)
        for name, value in (
            ("state_history_mask", state["state_history_mask"][:, :1]),
            (
                "state_history_events_1",
                state["state_history_events_1"][:, :5],
            ),
            ("state_user_heads_0", state["state_user_heads_0"][:1]),
        ):
            with self.assertRaisesRegex(ValueError, "same number of"):
                model.score_items({**state, name: value}, self.inputs)
        for name, axis in (
            ("user_id", 0),
            ("watched.length", 0),
            ("price", 1),
            ("hist_click", 1),
        ):
            value = np.take(self.inputs[name], [0], axis=axis)
            with self.assertRaisesRegex(ValueError, f"same number.*{name}"):
                model({**self.inputs, name: value})
        projected = model.with_kv_mode("projected")
        state = projected.encode_user(self.inputs)
        for i in range(L):
            self.assertNotIn(f"state_history_events_{i}", state)
            for j in range(2):  # Keys, values.
                shape = state[f"state_history_events_{i}_{j}"].shape
                self.assertEqual(tuple(shape), (6, 5, 12, D))
        # The same in the model that is not decoupled, and of all heads.
        coupled = ku.applications.load("mixformer_tiny", self.schema)
        coupled = coupled.with_kv_mode("projected")
        keys = coupled.encode_user(self.inputs)["state_history_events_1_0"]
        self.assertEqual(tuple(keys.shape), (6, N, 12, D))

    def test_options(self):
        for overrides in (
            {"num_item_heads": 1},
            {"num_item_heads": N - 1},
            {"readout": "concatenate"},
            {
                "events": layers.Events(N * D),
                "reader": layers.HeadCrossAttention(kv_mode="projected"),
            },
            {"encoder": layers.Shared("swiglu")},
            {"fusion": layers.SwiGLU(ratio=2)},
            {"mixer": layers.TokenSelfAttention(num_heads=2)},
            {"mixer": layers.HeadMixing(num_heads=N)},
            {"mixer": layers.Shared("self_attention")},
            {"feed_forward": None},
            {"history_lengths": False},
            {"events": layers.Events(max_length=5)},
        ):
            with self.subTest(str(overrides)):
                model = self.load(**overrides)
                copy = type(model).from_config(model.get_config())
                self.assertEqual(copy.get_config(), model.get_config())
                outputs = model(self.inputs)
                self.assertFinite(outputs["is_like"])
                halves = model.score_items(
                    model.encode_user(self.inputs), self.inputs
                )
                self.assertAllClose(
                    halves["is_click"], outputs["is_click"], atol=1e-5
                )

    def test_readout_of_both_sides(self):
        """The concatenation of N heads, users first."""
        model = self.load(readout="concatenate", tower=layers.Tower(()))
        state = model.encode_user(self.inputs)
        last = model.item_model.get_layer(f"item_output_fusion_{L - 1}")
        part = keras.Model(model.item_model.inputs, last.output)
        inputs = self.all(model)
        items = part([inputs[x.name] for x in part.inputs])
        user = to_numpy(state[f"state_user_heads_{L}"])
        heads = np.concatenate(
            [np.repeat(user[:, None], 3, axis=1), to_numpy(items)], axis=2
        )
        layer = model.item_model.get_layer("is_click_logit")
        expected = heads.reshape(6, 3, N * D) @ to_numpy(layer.kernel)
        expected = expected[..., 0] + to_numpy(layer.bias)
        self.assertAllClose(model(self.inputs)["is_click"], expected, atol=1e-5)

    def test_readout_of_a_precision_of_its_own(self):
        # The dtype of the model, not the global one, is that of its readout.
        keras.config.set_dtype_policy("mixed_bfloat16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        model = self.load(readout="concatenate", dtype="float32")
        keras.config.set_dtype_policy("float32")
        full = self.load(readout="concatenate")
        for weight, other in zip(full.weights, model.weights, strict=True):
            weight.assign(to_numpy(other))
        self.assertAllClose(
            model(self.inputs)["is_click"],
            full(self.inputs)["is_click"],
            atol=1e-5,
        )

    def test_token_groups(self):
        users = ["user_id", "city", "hour", "watched.count", "liked.count"]
        groups = [
            users[:1],
            users[1:],
            *(["video_id"], ["video_id.author", "video_id.duration"]),
            *(["price"], ["genres"]),
        ]

        def load(groups):
            tokenizer = layers.FeatureTokenizer(groups=groups)
            return self.load(num_heads=6, dim=24, tokenizer=tokenizer)

        user, items = self.tokens(load(groups))
        self.assertEqual((user.shape[2], items.shape[2]), (2, 4))
        for wrong in (
            [*groups[2:], *groups[:2]],
            [users, ["video_id", "city"], *groups[2:]],
            groups[1:],
            [users[:1], users[1:], *groups[3:], ["video_id"], ["tab"]],
        ):
            with self.assertRaisesRegex(ValueError, "must be 6 lists"):
                load(wrong)

    def test_bad_arguments(self):
        for number in (0, N, -1, True, 2.0, "half", None):
            with self.subTest(str(number)):
                with self.assertRaisesRegex(
                    ValueError, f"`num_item_heads` .*num_item_heads={number!r}"
                ):
                    self.load(num_item_heads=number)
        with self.assertRaisesRegex(ValueError, "DecoupledHeadMixing"):
            self.load(mixer=layers.DecoupledHeadMixing(3, 5))
        with self.assertRaisesRegex(ValueError, "no argument `num_item_heads`"):
            ku.applications.load(
                "mixformer_tiny", self.schema, num_item_heads=4
            )
        for mixer in ("uni_mixing", "uni_mixing_lite", "fm"):
            with self.assertRaisesRegex(ValueError, "doubly stochastic"):
                self.load(mixer=mixer)
        frame = small_frame()
        watched = ku.Categorical("hist_video_id", share_with="video_id")

        def schema(item_dim, **sides):
            return ku.Schema(
                item=[ku.Categorical("video_id", 30, item_dim)],
                sequences=[ku.Sequence("watched", 8, [watched])],
                labels=[ku.Label("is_click")],
                **sides,
            ).adapt(frame)

        with self.assertRaisesRegex(
            ValueError, "`num_item_heads` .* by width 8: the items have 8 of"
        ):
            ku.applications.load(
                "ui_mixformer_tiny",
                schema(8),
                history_lengths=False,
                num_item_heads="by_width",
            )
        with self.assertRaisesRegex(ValueError, "the schema needs some"):
            ku.applications.load(
                "ui_mixformer_tiny",
                schema(8),
                history_lengths=False,
                num_item_heads=4,
            )
        with self.assertRaisesRegex(ValueError, "by width 0"):
            user = [ku.Categorical("user_id", 20, 64)]
            ku.applications.load(
                "ui_mixformer_tiny",
                schema(4, user=user),
                num_item_heads="by_width",
            )
