import numpy as np

from keras_unirec import layers
from tests.layers.references import swiglu
from tests.test_case import TestCase
from tests.test_case import to_numpy


class SwiGLUTest(TestCase):
    def test_basics(self):
        for per_token, copies in ((False, 1), (True, 4)):
            with self.subTest(per_token=per_token):
                self.run_layer_test(
                    layers.SwiGLU,
                    init_kwargs={"hidden_dim": 5, "per_token": per_token},
                    input_shape=(2, 3, 4, 8),
                    expected_output_shape=(2, 3, 4, 8),
                    expected_num_trainable_weights=3,
                    expected_num_parameters=copies * 3 * 8 * 5,
                )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")
        for per_token in (False, True):
            layer = layers.SwiGLU(5, per_token=per_token)
            outputs = layer(x)
            self.assertAllClose(outputs, swiglu(x, layer), atol=1e-5)

    def test_hidden_width(self):
        """`hidden_dim`, or a ratio of the width of the input: 4."""
        for init_kwargs, hidden_dim in (
            ({}, 32),
            ({"ratio": 4 / 3}, 11),
            ({"ratio": 2, "hidden_dim": 5}, 5),
        ):
            layer = layers.SwiGLU(**init_kwargs)
            layer.build((None, 8))
            self.assertEqual(tuple(layer.up_kernel.shape), (8, hidden_dim))

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
        for per_token in (False, True):
            layer = layers.SwiGLU(5, per_token=per_token, input_scale=True)
            self.assertAllClose(layer(x), swiglu(x, layer), atol=1e-5)
            scale = np.linspace(-1, 2, 8)
            layer.scale.assign(scale)
            expected = swiglu(x * scale, layer)
            self.assertAllClose(layer(x), expected, atol=1e-5)

    def test_scale_at_initialization(self):
        dim, hidden_dim, num_tokens = 32, 128, 16
        x = np.random.default_rng(0).normal(size=(500, num_tokens, dim))
        x = x.astype("float32")
        glorot = 2 / (dim + hidden_dim)  # Variance of every matrix.
        for per_token in (False, True):
            layer = layers.SwiGLU(hidden_dim, per_token=per_token)
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
        with self.assertRaisesRegex(ValueError, "`hidden_dim` must be a pos"):
            layers.SwiGLU(0)
        with self.assertRaisesRegex(ValueError, "at least 1 over a width of 8"):
            layers.SwiGLU(ratio=0.01).build((None, 4, 8))
        for ratio in (0.0625, 1e308):  # `round(0.5)` is 0.
            with self.assertRaisesRegex(ValueError, "`ratio` must give a hid"):
                layers.SwiGLU(ratio=ratio).build((None, 4, 8))
        for shape in ((8,), (None, None, 8)):
            with self.assertRaisesRegex(ValueError, "both numbers must be kn"):
                layers.SwiGLU(5, per_token=True).build(shape)
        layer = layers.SwiGLU(5, per_token=True)
        layer.build((None, 4, 8))
        with self.assertRaisesRegex(ValueError, "axis -2 .* have value 4"):
            layer(np.ones((2, 3, 8)))
