import numpy as np

from keras_unirec import layers
from tests.test_case import TestCase
from tests.test_case import to_numpy


class FMMixingTest(TestCase):
    def test_basics(self):
        self.run_layer_test(
            layers.FMMixing,
            init_kwargs={},
            input_shape=(2, 3, 4, 8),
            expected_output_shape=(2, 3, 4, 8),
            expected_num_trainable_weights=1,
            expected_num_parameters=4 * 8,
        )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")
        layer = layers.FMMixing()
        outputs = layer(x)
        kernel = to_numpy(layer.kernel)
        expected = np.zeros_like(x)
        for r, c, t, s in np.ndindex(2, 3, 4, 4):
            expected[r, c, t] += (x[r, c, t] @ x[r, c, s]) * kernel[s]
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_scale_at_initialization(self):
        x = np.random.default_rng(0).normal(size=(20, 16, 32))
        self.assertBetween(to_numpy(layers.FMMixing()(x)).std(), 0.8, 1.7)
