import numpy as np

from keras_unirec import layers
from tests.layers.references import layer_norm
from tests.layers.references import rms_norm
from tests.layers.references import swiglu
from tests.test_case import TestCase


class HistoryEncoderTest(TestCase):
    def test_basics(self):
        for norm, num_weights in (
            ("pre_rms", 4),
            ("post_layer", 5),
            (None, 3),
        ):
            with self.subTest(norm=norm):
                self.run_layer_test(
                    layers.HistoryEncoder,
                    init_kwargs={"hidden_dim": 5, "norm": norm},
                    input_shape=(2, 3, 8),
                    expected_output_shape=(2, 3, 8),
                    expected_num_trainable_weights=num_weights,
                    expected_num_parameters=3 * 8 * 5 + 8 * (num_weights - 3),
                )

    def test_equals_the_paper(self):
        s = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        layer = layers.HistoryEncoder(5)
        outputs = layer(s)
        expected = swiglu(rms_norm(s), layer.swiglu) + s
        self.assertAllClose(outputs, expected, atol=1e-5)

        layer = layers.HistoryEncoder(5, norm="post_layer")
        outputs = layer(s)
        expected = layer_norm(swiglu(s, layer.swiglu) + s)
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_without_norm(self):
        """HyFormer, eq. 7, as written: no residual."""
        s = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        layer = layers.HistoryEncoder(5, norm=None)
        outputs = layer(s)
        self.assertAllClose(outputs, swiglu(s, layer.swiglu), atol=1e-5)

    def test_events_are_independent(self):
        s = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        layer = layers.HistoryEncoder(5)
        self.assertAllClose(layer(s)[:, :2], layer(s[:, :2]), atol=1e-6)
        self.assertEqual(tuple(layer(s[:, :0]).shape), (2, 0, 8))

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`norm` must be one of"):
            layers.HistoryEncoder(5, norm="layer")
