import keras
import numpy as np

from keras_unirec import layers
from tests.test_case import TestCase
from tests.test_case import to_numpy


class HistoryKeyValueTest(TestCase):
    def test_basics(self):
        layer = layers.HistoryKeyValue(4, 8)
        copy = layers.HistoryKeyValue.from_config(layer.get_config())
        self.assertEqual(copy.get_config(), layer.get_config())
        self.assertTrue(layer.supports_masking)
        self.assertEqual(
            layer.compute_output_shape((2, 3, 5)), ((2, 4, 3, 8),) * 2
        )
        history = np.random.default_rng(0).normal(size=(2, 3, 5))
        # A symbolic call, with a length that is not static.
        inputs = keras.Input((None, 5), name="history")
        model = keras.Model(inputs, layer(inputs))
        self.assertEqual(layer.count_params(), 2 * 5 * 4 * 8)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        model.compile(jit_compile=True)
        for actual in (
            keras.models.load_model(path)(history),
            model.predict(history, verbose=0),
        ):
            for a, b in zip(actual, layer(history), strict=True):
                self.assertAllClose(a, b, atol=1e-5)
        half = layers.HistoryKeyValue(4, 8, dtype="mixed_bfloat16")
        for tensor in half(history):
            dtype = keras.backend.standardize_dtype(tensor.dtype)
            self.assertEqual(dtype, "bfloat16")

    def test_equals_the_paper(self):
        history = np.random.default_rng(0).normal(size=(2, 3, 5))
        layer = layers.HistoryKeyValue(4, 8)
        outputs = layer(history)
        kernels = layer.key_kernel, layer.value_kernel
        for output, kernel in zip(outputs, kernels, strict=True):
            self.assertEqual(tuple(output.shape), (2, 4, 3, 8))
            kernel = to_numpy(kernel)
            for head in range(4):
                columns = kernel[:, 8 * head : 8 * (head + 1)]
                expected = history @ columns
                self.assertAllClose(output[:, head], expected, atol=1e-5)

    def test_no_events(self):
        layer = layers.HistoryKeyValue(4, 8)
        for output in layer(np.zeros((2, 0, 5))):
            self.assertEqual(tuple(output.shape), (2, 4, 0, 8))

    def test_scale_at_initialization(self):
        history = np.random.default_rng(0).normal(size=(50, 40, 64))
        layer = layers.HistoryKeyValue(4, 24)
        keys, values = map(to_numpy, layer(history))
        # Both matrices are 64 x 96, and different.
        expected = np.sqrt(2 * 64 / (64 + 96))
        self.assertAllClose(keys.std(), expected, rtol=0.1)
        self.assertAllClose(values.std(), expected, rtol=0.1)
        self.assertLess(abs((keys * values).mean()), 0.1)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`num_heads` must be positive"):
            layers.HistoryKeyValue(0, 8)
        with self.assertRaisesRegex(ValueError, "`head_dim` must be positive"):
            layers.HistoryKeyValue(4, 0)
