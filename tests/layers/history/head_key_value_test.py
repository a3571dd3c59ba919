import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.test_case import TestCase

N, D, E = 4, 8, 12


class HeadKeyValueTest(TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.queries = rng.normal(size=(2, 3, N, D)).astype("float32")
        self.mask = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], "bool")

    def attention(self, event_dim, **kwargs):
        history_map = None
        if event_dim != N * D:
            history_map = layers.HistoryMap(N, D, name="map")
        attention = layers.HeadCrossAttention(history_map, **kwargs)
        attention.build((None, None, N, D), (None, None, event_dim))
        return attention

    @parameterized.parameters((E,), (N * D,))
    def test_is_read_in_place_of_the_history(self, event_dim):
        history = np.random.default_rng(1).normal(size=(2, 5, event_dim))
        for kind in ("softmax", "sigmoid"):
            attention = self.attention(event_dim, attention=kind)
            key_value = layers.HeadKeyValue(attention)
            outputs = key_value(history)
            shapes = key_value.compute_output_shape((2, 5, event_dim))
            for output, shape in zip(outputs, shapes, strict=True):
                self.assertEqual(tuple(output.shape), (2, N, 5, D))
                self.assertEqual(shape, (2, N, 5, D))
            self.assertAllClose(
                attention(self.queries, outputs, mask=self.mask),
                attention(self.queries, history, mask=self.mask),
                atol=1e-5,
            )
            self.assertAllClose(
                attention.weights_of_events(self.queries, outputs, self.mask),
                attention.weights_of_events(self.queries, history, self.mask),
                atol=1e-6,
            )

    def test_shares_the_weights(self):
        attention = self.attention(E)
        key_value = layers.HeadKeyValue(attention)
        key_value.build((None, None, E))
        self.assertEqual(
            {id(w) for w in key_value.weights},
            {id(w) for w in attention.weights},
        )
        # As two layers of one model, of which neither length is static.
        history = keras.Input((None, E))
        queries = keras.Input((None, N, D))
        model = keras.Model(
            [queries, history], attention(queries, key_value(history))
        )
        events = np.random.default_rng(1).normal(size=(2, 5, E))
        self.assertAllClose(
            model([self.queries, events]),
            attention(self.queries, events),
            atol=1e-5,
        )
        copy = layers.HeadKeyValue.from_config(key_value.get_config())
        self.assertEqual(copy.get_config(), key_value.get_config())
        self.assertTrue(copy.supports_masking)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "must be a `HeadCross"):
            layers.HeadKeyValue(None)
        attention = layers.HeadCrossAttention()
        with self.assertRaisesRegex(ValueError, "must be built"):
            layers.HeadKeyValue(attention)(np.ones((2, 5, E)))
        keys = np.ones((2, N, 5, D))
        with self.assertRaisesRegex(ValueError, "`HeadKeyValue` of this"):
            attention(self.queries, (keys, keys))
