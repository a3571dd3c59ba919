import numpy as np

from keras_unirec import layers
from tests.layers.references import layer_norm
from tests.layers.references import rms_norm
from tests.layers.references import swiglu
from tests.test_case import TestCase


class OutputFusionTest(TestCase):
    def test_basics(self):
        for init_kwargs, num_weights, num_parameters in (
            ({}, 4, 4 * 3 * 8 * 5 + 8),
            ({"per_head": False}, 4, 3 * 8 * 5 + 8),
            ({"norm": "post_layer"}, 5, 4 * 3 * 8 * 5 + 16),
        ):
            with self.subTest(**init_kwargs):
                self.run_layer_test(
                    layers.OutputFusion,
                    init_kwargs={"hidden_dim": 5, **init_kwargs},
                    input_shape=(2, 3, 4, 8),
                    expected_output_shape=(2, 3, 4, 8),
                    expected_num_trainable_weights=num_weights,
                    expected_num_parameters=num_parameters,
                )

    def test_equals_the_paper(self):
        z = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        z = z.astype("float32")
        for per_head in (True, False):
            layer = layers.OutputFusion(5, per_head)
            outputs = layer(z)
            expected = swiglu(rms_norm(z), layer.swiglu) + z
            self.assertAllClose(outputs, expected, atol=1e-5)

        layer = layers.OutputFusion(5, norm="post_layer")
        outputs = layer(z)
        expected = layer_norm(swiglu(z, layer.swiglu) + z)
        self.assertAllClose(outputs, expected, atol=1e-5)

        layer = layers.OutputFusion(5, norm=None)
        outputs = layer(z)
        expected = swiglu(z, layer.swiglu) + z
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`norm` must be one of"):
            layers.OutputFusion(5, norm="rms")
