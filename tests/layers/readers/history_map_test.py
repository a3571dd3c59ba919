import numpy as np

from keras_unirec import layers
from tests.test_case import TestCase
from tests.test_case import to_numpy


class HistoryMapTest(TestCase):
    def test_basics(self):
        self.run_layer_test(
            layers.HistoryMap,
            init_kwargs={"num_heads": 4, "dim": 8},
            input_shape=(2, 3, 5),
            expected_output_shape=(2, 3, 4, 8),
            expected_num_trainable_weights=1,
            expected_num_parameters=5 * 4 * 8,
        )

    def test_equals_the_definition(self):
        h = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
        layer = layers.HistoryMap(4, 8)
        outputs = layer(h)
        for head in range(4):
            expected = h @ to_numpy(layer.kernel)[:, head]
            self.assertAllClose(outputs[:, :, head], expected, atol=1e-5)
        self.assertEqual(tuple(layer(h[:, :0]).shape), (2, 0, 4, 8))

    def test_scale_at_initialization(self):
        h = np.random.default_rng(0).normal(size=(50, 40, 32))
        outputs = to_numpy(layers.HistoryMap(16, 64)(h))
        expected = np.sqrt(2 * 32 / (32 + 64))
        self.assertAllClose(outputs.std(), expected, rtol=0.1)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`num_heads` must be a pos"):
            layers.HistoryMap(0, 8)
        with self.assertRaisesRegex(ValueError, "`dim` must be a pos"):
            layers.HistoryMap(4, 0)
