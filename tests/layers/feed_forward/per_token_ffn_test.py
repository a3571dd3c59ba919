import numpy as np

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import gelu
from tests.layers.references import per_token_ffn
from tests.test_case import TestCase
from tests.test_case import to_numpy


class PerTokenFFNTest(TestCase):
    def test_basics(self):
        for shared, copies in ((False, 4), (True, 1)):
            with self.subTest(shared=shared):
                self.run_layer_test(
                    layers.PerTokenFFN,
                    init_kwargs={"hidden_dim": 5, "shared": shared},
                    input_shape=(2, 3, 4, 8),
                    expected_output_shape=(2, 3, 4, 8),
                    expected_num_trainable_weights=4,
                    expected_num_parameters=copies * (2 * 8 * 5 + 5 + 8),
                )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        for shared in (False, True):
            for shape in ((2, 3, 4, 8), (6, 4, 8)):
                inputs = x.reshape(shape)
                layer = layers.PerTokenFFN(5, shared=shared)
                layer.build(shape)
                randomize_weights(layer)
                expected = per_token_ffn(inputs, layer)
                self.assertAllClose(layer(inputs), expected, atol=1e-5)

    def test_hidden_width(self):
        """`hidden_dim`, or a ratio of the width of the input: 4."""
        for init_kwargs, hidden_dim in (
            ({}, 32),
            ({"ratio": 1.5}, 12),
            ({"ratio": 2, "hidden_dim": 5}, 5),
        ):
            layer = layers.PerTokenFFN(**init_kwargs)
            layer.build((None, 4, 8))
            self.assertEqual(tuple(layer.up_kernel.shape), (4, 8, hidden_dim))

    def test_tokens_are_independent(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        layer = layers.PerTokenFFN(5)
        outputs = to_numpy(layer(x))
        x[:, :, 2] += 1
        changed = np.abs(to_numpy(layer(x)) - outputs).max(axis=(0, 1, 3))
        self.assertAllClose(changed[[0, 1, 3]], np.zeros(3))
        self.assertGreater(changed[2], 0.1)

    def test_scale_at_initialization(self):
        dim, hidden_dim, num_tokens = 32, 128, 16
        x = np.random.default_rng(0).normal(size=(500, num_tokens, dim))
        glorot = 2 / (dim + hidden_dim)  # Variance of every matrix.
        # GELU of a pre-activation, measured.
        u = np.random.default_rng(1).normal(size=1_000_000)
        hidden = (gelu(u * np.sqrt(dim * glorot)) ** 2).mean()
        expected = np.sqrt(hidden_dim * glorot * hidden)
        for shared in (False, True):
            layer = layers.PerTokenFFN(hidden_dim, shared=shared)
            outputs = to_numpy(layer(x))
            for kernel in (layer.up_kernel, layer.down_kernel):
                self.assertAllClose(to_numpy(kernel).var(), glorot, rtol=0.1)
            for bias in (layer.up_bias, layer.down_bias):
                self.assertAllClose(bias, np.zeros(bias.shape))
            self.assertAllClose(outputs.std(), expected, rtol=0.1)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`hidden_dim` must be a pos"):
            layers.PerTokenFFN(0)
        with self.assertRaisesRegex(ValueError, "at least 1 over a width of 8"):
            layers.PerTokenFFN(ratio=0.01).build((None, 4, 8))
        for ratio in (0.0625, 1e308):  # `round(0.5)` is 0.
            with self.assertRaisesRegex(ValueError, "`ratio` must give a hid"):
                layers.PerTokenFFN(ratio=ratio).build((None, 4, 8))
        with self.assertRaisesRegex(ValueError, "both numbers must be known"):
            layers.PerTokenFFN(5).build((None, None, 8))
