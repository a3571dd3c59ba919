import numpy as np

from keras_unirec import layers
from tests.layers.references import attention
from tests.test_case import TestCase
from tests.test_case import to_numpy


class HeterogeneousAttentionTest(TestCase):
    def test_basics(self):
        for input_shape in ((2, 4, 8), (2, 3, 4, 8)):
            with self.subTest(input_shape=input_shape):
                self.run_layer_test(
                    layers.HeterogeneousAttention,
                    init_kwargs={"num_heads": 2},
                    input_shape=input_shape,
                    expected_output_shape=input_shape,
                    expected_num_trainable_weights=3,
                    expected_num_parameters=3 * 4 * 8 * 8,
                )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")
        layer = layers.HeterogeneousAttention(num_heads=2)
        outputs = layer(x)
        query, key, value = (
            np.einsum("rcnd,ndk->rcnk", x, to_numpy(kernel))
            for kernel in (
                layer.query_kernel,
                layer.key_kernel,
                layer.value_kernel,
            )
        )
        expected = np.zeros_like(x)
        for r, c, n, h in np.ndindex(2, 3, 4, 2):
            head = slice(4 * h, 4 * h + 4)
            expected[r, c, n, head] = attention(
                query[r, c, n, head], key[r, c, :, head], value[r, c, :, head]
            )
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_candidates_are_independent(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        layer = layers.HeterogeneousAttention(num_heads=2)
        self.assertAllClose(layer(x)[:, :1], layer(x[:, :1]), atol=1e-6)

    def test_scale_at_initialization(self):
        layer = layers.HeterogeneousAttention()
        layer.build((None, 4, 64))
        for weight in layer.weights:
            std = np.std(to_numpy(weight))
            self.assertAllClose(std, np.sqrt(1 / 64), rtol=0.1)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "must be a positive integer"):
            layers.HeterogeneousAttention(0)
        with self.assertRaisesRegex(ValueError, "`num_heads` must divide"):
            layers.HeterogeneousAttention(3).build((None, 4, 8))
