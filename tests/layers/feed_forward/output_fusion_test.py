import keras
import numpy as np

from keras_unirec import layers
from tests.layers.references import layer_norm
from tests.layers.references import per_token_ffn
from tests.layers.references import rms_norm
from tests.layers.references import swiglu
from tests.test_case import TestCase


class OutputFusionTest(TestCase):
    def test_basics(self):
        for per_token, residual, num_weights, num_parameters in (
            (True, "pre_rms", 4, 4 * 3 * 8 * 5 + 8),
            (False, "pre_rms", 4, 3 * 8 * 5 + 8),
            (True, "post_layer", 5, 4 * 3 * 8 * 5 + 16),
        ):
            with self.subTest(per_token=per_token, residual=residual):
                self.run_layer_test(
                    layers.OutputFusion,
                    init_kwargs={
                        "feed_forward": layers.SwiGLU(5, per_token=per_token),
                        "residual": residual,
                    },
                    input_shape=(2, 3, 4, 8),
                    expected_output_shape=(2, 3, 4, 8),
                    expected_num_trainable_weights=num_weights,
                    expected_num_parameters=num_parameters,
                )

    def test_equals_the_paper(self):
        z = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        z = z.astype("float32")
        for per_token in (True, False):
            layer = layers.OutputFusion(layers.SwiGLU(5, per_token=per_token))
            outputs = layer(z)
            expected = swiglu(rms_norm(z), layer.feed_forward) + z
            self.assertAllClose(outputs, expected, atol=1e-5)

        layer = layers.OutputFusion(residual="post_layer")
        outputs = layer(z)
        expected = layer_norm(swiglu(z, layer.feed_forward) + z)
        self.assertAllClose(outputs, expected, atol=1e-5)

        layer = layers.OutputFusion(residual="no_norm")
        outputs = layer(z)
        expected = swiglu(z, layer.feed_forward) + z
        self.assertAllClose(outputs, expected, atol=1e-5)

        layer = layers.OutputFusion("gelu")
        outputs = layer(z)
        expected = per_token_ffn(rms_norm(z), layer.feed_forward) + z
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_defaults(self):
        """By name the network is one of each head, 4 times as wide."""
        layer = layers.OutputFusion()
        layer.build((None, 4, 8))
        kernel = layer.feed_forward.gate_kernel
        self.assertEqual(tuple(kernel.shape), (4, 8, 32))

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`residual` must be one of"):
            layers.OutputFusion(residual="rms")
        with self.assertRaisesRegex(ValueError, "`feed_forward` must be one"):
            layers.OutputFusion(None)
        with self.assertRaisesRegex(ValueError, "feed_forward=Dense, .* turns"):
            layers.OutputFusion(keras.layers.Dense(5)).build((None, 4, 8))
