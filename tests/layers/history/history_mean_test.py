import keras
import numpy as np
from keras import ops

from keras_unirec import layers
from tests.layers.inputs import pad_histories
from tests.test_case import TestCase

LENGTHS = (5, 2, 0, 1)


def make_histories():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, 8)) for length in LENGTHS]


class HistoryMeanTest(TestCase):
    def test_basics(self):
        _, mask = pad_histories(make_histories(), "right")
        self.run_layer_test(
            layers.HistoryMean,
            init_kwargs={},
            input_shape=(4, 5, 8),
            call_kwargs={"mask": mask},
            expected_output_shape=(4, 8),
            expected_num_trainable_weights=0,
        )

    def test_equals_the_paper(self):
        """Eq. 4: MeanPool over real events, wherever the padding is."""
        histories = make_histories()
        expected = np.zeros((len(histories), 8))
        for r, history in enumerate(histories):
            for event in history:
                expected[r] += event / len(history)
        layer = layers.HistoryMean()
        for side in ("right", "left"):
            for length in (5, 9):
                batch, mask = pad_histories(histories, side, length)
                outputs = layer(batch, mask=mask)
                self.assertAllClose(outputs, expected, atol=1e-5)

    def test_empty_histories(self):
        layer = layers.HistoryMean()
        for length in (0, 5):
            history = np.ones((2, length, 8), "float32")
            mask = np.zeros((2, length), "bool")
            self.assertAllClose(layer(history, mask=mask), np.zeros((2, 8)))
            gradients = self.gradients(
                layer, lambda x: layer(x, mask=mask), history
            )
            self.assertAllClose(gradients[0], np.zeros(history.shape))

    def test_dynamic_length(self):
        batch, mask = pad_histories(make_histories(), "right")
        history = keras.Input((None, 8), name="history")
        mask_input = keras.Input((None,), dtype="bool", name="mask")
        layer = layers.HistoryMean()
        outputs = layer(history, mask=mask_input)
        self.assertEqual(tuple(outputs.shape), (None, 8))
        model = keras.Model([history, mask_input], outputs)
        for length in (5, 1, 0):
            arrays = batch[:, :length], mask[:, :length]
            expected = layer(arrays[0], mask=arrays[1])
            self.assertAllClose(model(list(arrays)), expected, atol=1e-6)

    def test_many_events_in_bfloat16(self):
        layer = layers.HistoryMean(dtype="mixed_bfloat16")
        outputs = layer(np.ones((1, 3000, 4)), mask=np.ones((1, 3000), "bool"))
        outputs = ops.cast(outputs, "float32")
        self.assertAllClose(outputs, np.ones((1, 4)), atol=1e-2)
