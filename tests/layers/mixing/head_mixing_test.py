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

    def test_illegal_widths(self):
        with self.assertRaisesRegex(
            ValueError,
            r"widths for 16 tokens: \[384, 400\]; .* width 386: \[2, 193\]",
        ):
            layers.HeadMixing().build((None, 16, 386))
        with self.assertRaisesRegex(
            ValueError, r"widths for 16 tokens: \[16\]; .* width 8: \[8\]"
        ):
            layers.HeadMixing().build((None, 16, 8))
