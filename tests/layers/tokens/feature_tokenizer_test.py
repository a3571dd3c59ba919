import numpy as np

from keras_unirec import layers
from tests.test_case import TestCase
from tests.test_case import to_numpy


def reference(inputs, kernel, widths):
    """Eq. 2, one token after the other."""
    tokens, start = [], 0
    for width in widths:
        rows = slice(start, start + width)
        tokens.append(inputs[..., rows] @ kernel[rows])
        start += width
    return np.stack(tokens, axis=-2)


class FeatureTokenizerTest(TestCase):
    def test_basics(self):
        for init_kwargs, width in (
            ({"dim": 8, "num_tokens": 3}, 12),
            ({"dim": 8, "num_tokens": 3}, 14),
            ({"dim": 8, "group_dims": [1, 7, 4]}, 12),
        ):
            with self.subTest(**init_kwargs, width=width):
                self.run_layer_test(
                    layers.FeatureTokenizer,
                    init_kwargs=init_kwargs,
                    input_shape=(2, 5, width),
                    expected_output_shape=(2, 5, 3, 8),
                    expected_num_trainable_weights=1,
                    expected_num_parameters=width * 8,
                )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 5, 14)).astype("float32")
        for arguments, widths in (
            ({"num_tokens": 7}, [2] * 7),
            ({"num_tokens": 4}, [4, 4, 3, 3]),
            ({"group_dims": [3, 1, 10]}, [3, 1, 10]),
        ):
            with self.subTest(**arguments):
                layer = layers.FeatureTokenizer(6, **arguments)
                outputs = layer(x)
                expected = reference(x, to_numpy(layer.kernel), widths)
                self.assertAllClose(outputs, expected, atol=1e-5)
                # A user without candidates has one axis less.
                self.assertAllClose(layer(x[0]), outputs[0], atol=1e-6)

    def test_slices_do_not_mix(self):
        layer = layers.FeatureTokenizer(6, group_dims=[3, 1, 10])
        x = np.ones((1, 14), "float32")
        changed = x.copy()
        changed[:, 3] = 7.0
        difference = to_numpy(layer(changed)) - to_numpy(layer(x))
        self.assertAllClose(difference[:, [0, 2]], np.zeros((1, 2, 6)))
        self.assertTrue((difference[:, 1] != 0).all())

    def test_scale_at_initialization(self):
        widths = [4, 400]
        layer = layers.FeatureTokenizer(64, group_dims=widths)
        x = np.random.default_rng(0).normal(size=(4000, 404))
        outputs = to_numpy(layer(x.astype("float32")))
        for token, width in enumerate(widths):
            expected = np.sqrt(2 * width / (width + 64))
            self.assertAllClose(outputs[:, token].std(), expected, rtol=0.1)

    def test_kernel_is_reproducible_and_not_repeated(self):
        layer = layers.FeatureTokenizer(8, num_tokens=2)
        layer.build((None, 6))
        kernel = to_numpy(layer.kernel)
        self.assertEqual(len(np.unique(kernel)), kernel.size)
        self.setUp()
        again = layers.FeatureTokenizer(8, num_tokens=2)
        again.build((None, 6))
        self.assertAllClose(again.kernel, kernel)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`dim` must be a positive"):
            layers.FeatureTokenizer(0, num_tokens=2)
        with self.assertRaisesRegex(ValueError, "`num_tokens` must be a pos"):
            layers.FeatureTokenizer(8, num_tokens=0)
        with self.assertRaisesRegex(ValueError, "`group_dims` must be a non-"):
            layers.FeatureTokenizer(8, group_dims=[4, 0])
        with self.assertRaisesRegex(ValueError, "must be 3 wid.* `num_tokens`"):
            layers.FeatureTokenizer(8, num_tokens=3, group_dims=[4, 4])
        with self.assertRaisesRegex(ValueError, "`groups` have the widths"):
            layers.FeatureTokenizer(8, groups=[["a"]], group_dims=[4])
        # What a model says, and nobody has said.
        with self.assertRaisesRegex(ValueError, "`num_tokens` must be a pos"):
            layers.FeatureTokenizer(8).build((None, 8))
        with self.assertRaisesRegex(ValueError, "`dim` must be a positive"):
            layers.FeatureTokenizer(num_tokens=2).build((None, 8))
        with self.assertRaisesRegex(ValueError, "at most the last axis .* 3"):
            layers.FeatureTokenizer(8, num_tokens=4).build((None, 3))
        with self.assertRaisesRegex(ValueError, "must sum to .* sums to 7"):
            layers.FeatureTokenizer(8, group_dims=[4, 3]).build((None, 8))
