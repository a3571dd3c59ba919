import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from keras_unirec.layers.history._by_name import encode
from tests.layers.inputs import pad_histories
from tests.layers.inputs import randomize_weights
from tests.layers.references import transformer
from tests.test_case import TestCase
from tests.test_case import to_numpy

E, HEADS = 8, 2
LENGTHS = (7, 3, 1, 0)
R, T, RECENT = len(LENGTHS), 8, 3


def make_histories():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, E)) for length in LENGTHS]


def make_layer(recent_length=RECENT, **kwargs):
    layer = layers.Longer(
        recent_length, num_heads=HEADS, hidden_dim=5, **kwargs
    )
    size = kwargs.get("token_merge", 1)
    layer.build((None, None, size * E), (None, None, size * E))
    randomize_weights(layer)
    return layer


def every(events, history):
    return np.ones((len(events), len(history)), "bool")


class LongerTest(TestCase):
    def test_basics(self):
        _, mask = pad_histories(make_histories(), "right", T)
        self.run_layer_test(
            layers.Longer,
            init_kwargs={
                **{"recent_length": RECENT, "token_merge": 2},
                **{"inner_transformer": True, "num_heads": HEADS},
                **{"hidden_dim": 5, "residual": "pre_rms", "causal": True},
            },
            input_shape={"events": (R, RECENT, E), "history": (R, T, E)},
            call_kwargs={"mask": mask},
            expected_output_shape=(R, RECENT, E),
            expected_num_trainable_weights=4 + 4 + 2,
            expected_num_parameters=4 * E * E + 2 * E * 5 + 5 + E + 2 * E,
        )

    @parameterized.parameters("right", "left")
    def test_equals_the_paper(self, side):
        """HyFormer, eq. 6: the most recent events read all of them."""
        histories = make_histories()
        batch, mask = pad_histories(histories, side, T)
        layer = make_layer()
        start = layer.start(batch, mask)
        events, history, history_mask, events_mask = map(to_numpy, start)
        self.assertEqual(events.shape, (R, RECENT, E))
        self.assertAllClose(history, batch)
        self.assertAllClose(history_mask, mask)
        outputs = to_numpy(layer(*start))
        for r, mine in enumerate(histories):
            recent = mine[-RECENT:]
            self.assertAllClose(events[r, events_mask[r]], recent, atol=1e-6)
            expected = transformer(recent, mine, every(recent, mine), layer)
            actual = outputs[r, events_mask[r]]
            self.assertAllClose(actual, expected, atol=1e-5)

    def test_events_of_several_layers(self):
        """Layer l reads what layer l - 1 returned, and S."""
        histories = make_histories()
        batch, mask = pad_histories(histories, "right", T)
        stack = [make_layer(), make_layer(causal=True), make_layer()]
        encoded, encoded_mask = encode(stack, batch, mask, max_length=T)
        self.assertLen(encoded, 3)
        encoded_mask = to_numpy(encoded_mask)
        for r, history in enumerate(histories):
            x = history[-RECENT:]
            for layer, outputs in zip(stack, encoded):
                may_read = every(x, history)
                if layer.causal:
                    newest = len(history) - len(x)
                    for i, j in np.ndindex(may_read.shape):
                        may_read[i, j] = j <= newest + i
                x = transformer(x, history, may_read, layer)
                actual = to_numpy(outputs)[r, encoded_mask[r]]
                self.assertAllClose(actual, x, atol=1e-4)

    def test_short_histories_are_read_as_they_are(self):
        batch, mask = pad_histories(make_histories(), "right", T)
        layer = make_layer()
        for max_length in (RECENT, RECENT - 1):
            events, _, _, events_mask = layer.start(batch, mask, max_length)
            self.assertIs(events, batch)
            self.assertIs(events_mask, mask)
        events, *_ = layer.start(batch, mask, RECENT + 1)
        self.assertEqual(tuple(events.shape), (R, RECENT, E))

    def test_all_events(self):
        """`recent_length=None` is the full Transformer."""
        batch, mask = pad_histories(make_histories(), "right", T)
        layer = make_layer(None)
        full = layers.TransformerEncoder(HEADS, 5)
        full.build((None, None, E))
        full.set_weights(layer.get_weights())
        self.assertAllClose(
            layer(*layer.start(batch, mask)), full(batch, mask=mask), atol=1e-5
        )

    @parameterized.parameters(False, True)
    def test_merged_events(self, inner_transformer):
        batch, mask = pad_histories(make_histories(), "right", T)
        layer = make_layer(
            2, token_merge=3, inner_transformer=inner_transformer
        )
        # The most groups of the most events: 3, and 2 are recent.
        for max_length, num_events in ((8, 2), (6, 3)):
            start = layer.start(batch, mask, max_length)
            events, history, history_mask, events_mask = start
            self.assertEqual(tuple(history.shape), (R, 3, 3 * E))
            self.assertEqual(tuple(events.shape), (R, num_events, 3 * E))
            groups, groups_mask = layer._merge(batch, mask=mask)
            self.assertAllClose(history, groups)
            self.assertAllClose(history_mask, groups_mask)
            for r, length in enumerate(LENGTHS):
                kept = min(-(-length // 3), num_events)
                self.assertEqual(to_numpy(events_mask)[r].sum(), kept)
                real = to_numpy(groups)[r, to_numpy(groups_mask)[r]]
                actual = to_numpy(events)[r, to_numpy(events_mask)[r]]
                self.assertAllClose(actual, real[len(real) - kept :])
            self.assertEqual(tuple(layer(*start).shape), events.shape)

    @parameterized.parameters(
        {}, {"causal": True}, {"token_merge": 2}, {"recent_length": None}
    )
    def test_padding_is_ignored(self, **kwargs):
        histories, layer = make_histories(), make_layer(**kwargs)
        seen = []
        for side, length in (("right", T), ("left", T), ("right", T + 5)):
            batch, mask = pad_histories(histories, side, length)
            events, history, mask, events_mask = layer.start(batch, mask)
            outputs = layer(events, history, mask, events_mask)
            self.assertFinite(outputs)
            outputs, events_mask = to_numpy(outputs), to_numpy(events_mask)
            seen.append([x[real] for x, real in zip(outputs, events_mask)])
        for other in seen[1:]:
            for a, b in zip(seen[0], other, strict=True):
                self.assertAllClose(a, b, atol=1e-5)

    def test_empty_histories(self):
        layer = make_layer()
        history = np.ones((R, T, E), "float32")
        mask = np.zeros((R, T), "bool")
        for gradient in self.gradients(
            layer, lambda x: layer(*layer.start(x, mask)), history
        ):
            self.assertFinite(gradient)

    @parameterized.parameters(False, True)
    def test_in_a_saved_model(self, inner_transformer):
        """Two layers that start once, with a length that is not static."""
        history = keras.Input((None, E), name="history")
        mask = keras.Input((None,), dtype="bool", name="mask")
        stack = [
            layers.Longer(
                2,
                token_merge=2,
                inner_transformer=inner_transformer,
                num_heads=HEADS,
                name=f"longer_{i}",
            )
            for i in range(2)
        ]
        encoded, encoded_mask = encode(stack, history, mask, max_length=T)
        model = keras.Model([history, mask], [encoded[-1], encoded_mask])
        randomize_weights(model)
        arrays = pad_histories(make_histories(), "right", T, content=1.0)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        for actual, expected in zip(loaded(arrays), model(arrays)):
            self.assertAllClose(actual, expected, atol=1e-5)

    def test_errors(self):
        for name in ("recent_length", "token_merge", "num_heads"):
            with self.assertRaisesRegex(ValueError, f"`{name}` must be a pos"):
                layers.Longer(**{name: 0})
        with self.assertRaisesRegex(ValueError, "`inner_transformer` reads"):
            layers.Longer(inner_transformer=True)
        with self.assertRaisesRegex(ValueError, "scheme of one stream"):
            make_layer(residual="siamese")
