import numpy as np

from keras_unirec import layers
from tests.layers.references import swiglu
from tests.test_case import TestCase
from tests.test_case import to_numpy


class SwiGLUTest(TestCase):
    def test_basics(self):
        for num_heads, copies in ((None, 1), (4, 4)):
            with self.subTest(num_heads=num_heads):
                self.run_layer_test(
                    layers.SwiGLU,
                    init_kwargs={"hidden_dim": 5, "num_heads": num_heads},
                    input_shape=(2, 3, 4, 8),
                    expected_output_shape=(2, 3, 4, 8),
                    expected_num_trainable_weights=3,
                    expected_num_parameters=copies * 3 * 8 * 5,
                )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")
        for num_heads in (None, 4):
            layer = layers.SwiGLU(5, num_heads)
            outputs = layer(x)
            self.assertAllClose(outputs, swiglu(x, layer), atol=1e-5)

    def test_input_scale(self):
        self.run_layer_test(
            layers.SwiGLU,
            init_kwargs={"hidden_dim": 5, "input_scale": True},
            input_shape=(2, 3, 8),
            expected_output_shape=(2, 3, 8),
            expected_num_trainable_weights=4,
            expected_num_parameters=3 * 8 * 5 + 8,
        )
        x = np.random.default_rng(0).normal(size=(2, 4, 8))
        x = x.astype("float32")
        for num_heads in (None, 4):
            layer = layers.SwiGLU(5, num_heads, input_scale=True)
            self.assertAllClose(layer(x), swiglu(x, layer), atol=1e-5)
            scale = np.linspace(-1, 2, 8)
            layer.scale.assign(scale)
            expected = swiglu(x * scale, layer)
            self.assertAllClose(layer(x), expected, atol=1e-5)

    def test_scale_at_initialization(self):
        dim, hidden_dim, num_heads = 32, 128, 16
        x = np.random.default_rng(0).normal(size=(500, num_heads, dim))
        x = x.astype("float32")
        glorot = 2 / (dim + hidden_dim)  # Variance of every matrix.
        for heads in (None, num_heads):
            layer = layers.SwiGLU(hidden_dim, heads)
            outputs = to_numpy(layer(x))
            kernels = [to_numpy(w) for w in layer.weights]
            for kernel in kernels:
                self.assertAllClose(kernel.var(), glorot, rtol=0.1)
            # The product of a SiLU and an independent number, measured.
            u, v = np.random.default_rng(1).normal(size=(2, 1_000_000))
            u, v = u * np.sqrt(dim * glorot), v * np.sqrt(dim * glorot)
            hidden = (u / (1 + np.exp(-u)) * v).var()
            expected = np.sqrt(hidden_dim * glorot * hidden)
            self.assertAllClose(outputs.std(), expected, rtol=0.1)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`hidden_dim` must be pos"):
            layers.SwiGLU(0)
        with self.assertRaisesRegex(ValueError, "`num_heads` must be None or"):
            layers.SwiGLU(5, num_heads=0)
        with self.assertRaisesRegex(ValueError, "second last axis"):
            layers.SwiGLU(5, num_heads=3).build((None, 4, 8))
