import keras
import numpy as np

from keras_unirec import layers
from keras_unirec.layers.history._by_name import encode
from tests.layers.inputs import pad_histories
from tests.test_case import TestCase

E, T = 8, 5
LENGTHS = (5, 2, 0)


class Counted(keras.layers.Layer):
    """A layer of one tensor that counts its calls."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x * 2.0


class EncodeTest(TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        histories = [rng.normal(size=(length, E)) for length in LENGTHS]
        self.events, self.mask = pad_histories(histories, "right", T)

    def encode(self, encoders, **kwargs):
        return encode(encoders, self.events, self.mask, **kwargs)

    def test_one_after_the_other(self):
        """Of each kind: with a mask, of one tensor, and none."""
        transformer, swiglu = layers.TransformerEncoder(2), Counted()
        encoded, mask = self.encode([transformer, None, swiglu])
        self.assertIs(mask, self.mask)
        first = transformer(self.events, mask=self.mask)
        self.assertAllClose(encoded[0], first, atol=1e-6)
        self.assertIs(encoded[1], encoded[0])
        self.assertAllClose(encoded[2], first * 2, atol=1e-6)

    def test_each_from_the_events(self):
        """MixFormer, eq. 5."""
        encoders = [layers.HistoryEncoder(5), None, layers.HistoryEncoder(5)]
        encoded, _ = self.encode(encoders, from_events=True)
        for encoder, actual in zip(encoders, encoded):
            expected = self.events if encoder is None else encoder(self.events)
            self.assertAllClose(actual, expected, atol=1e-6)

    def test_one_encoder_for_all_layers(self):
        encoder = Counted()
        encoded, _ = self.encode([encoder] * 3, from_events=True)
        # From the same events it is the same, once.
        self.assertEqual(encoder.calls, 1)
        self.assertIs(encoded[0], encoded[2])
        self.assertAllClose(encoded[0], self.events * 2)
        encoded, _ = self.encode([encoder] * 3)
        self.assertEqual(encoder.calls, 4)
        self.assertAllClose(encoded[2], self.events * 8)

    def test_longer_from_the_events(self):
        """Every layer encodes the recent events of the start."""
        encoders = [layers.Longer(3, num_heads=2) for _ in range(2)]
        encoded, mask = self.encode(encoders, max_length=T, from_events=True)
        self.assertEqual(tuple(mask.shape), (3, 3))
        for encoder, actual in zip(encoders, encoded):
            start = encoder.start(self.events, self.mask, T)
            self.assertAllClose(actual, encoder(*start), atol=1e-5)
