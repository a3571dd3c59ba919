import numpy as np

from keras_unirec import layers
from tests.test_case import TestCase


class HeadMixingTest(TestCase):
    def test_basics(self):
        self.run_layer_test(
            layers.HeadMixing,
            init_kwargs={},
            input_shape=(2, 3, 4, 8),
            expected_output_shape=(2, 3, 4, 8),
            expected_num_trainable_weights=0,
        )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")
        expected = np.empty_like(x)
        for i in range(4):
            for j in range(4):
                expected[..., i, 2 * j : 2 * j + 2] = x[
                    ..., j, 2 * i : 2 * i + 2
                ]
        mixing = layers.HeadMixing()
        self.assertAllClose(mixing(x), expected)
        self.assertAllClose(mixing(mixing(x)), x)

    def test_other_numbers_of_heads(self):
        self.run_layer_test(
            layers.HeadMixing,
            init_kwargs={"num_heads": 2},
            input_shape=(2, 3, 4, 8),
            expected_output_shape=(2, 3, 2, 16),
            expected_num_trainable_weights=0,
        )
        # UniMixer, appendix A: two tokens of width 6.
        x = np.arange(1.0, 13.0).reshape(1, 2, 6)
        expected = [[[1, 2, 3, 7, 8, 9], [4, 5, 6, 10, 11, 12]]]
        self.assertAllClose(layers.HeadMixing(2)(x), expected)
        self.assertAllClose(layers.HeadMixing()(x), expected)
        for num_heads in (1, 2, 8):
            mixing = layers.HeadMixing(num_heads)
            x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
            outputs = mixing(x.astype("float32"))
            self.assertAllClose(mixing.revert(outputs, 4), x)
            self.assertAllClose(layers.HeadMixing(4)(outputs), x)

    def test_illegal_widths(self):
        with self.assertRaisesRegex(
            ValueError, r"widths for 3 heads: \[6, 9\]; .* num_heads=3, dim=8"
        ):
            layers.HeadMixing(3).build((None, 4, 8))
        with self.assertRaisesRegex(ValueError, "`num_heads` must be a posit"):
            layers.HeadMixing(0)

        with self.assertRaisesRegex(
            ValueError,
            r"widths for 16 tokens: \[384, 400\]; .* width 386: \[2, 193\]",
        ):
            layers.HeadMixing().build((None, 16, 386))
        with self.assertRaisesRegex(
            ValueError, r"widths for 16 tokens: \[16\]; .* width 8: \[8\]"
        ):
            layers.HeadMixing().build((None, 16, 8))
