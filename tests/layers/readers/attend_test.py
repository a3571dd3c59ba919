import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec.layers.readers._attend import attend
from tests.test_case import TestCase

MASK = np.arange(5) < np.array([[5], [2], [0]])


class Attend(keras.layers.Layer):
    """No weights: `gradients` wants a layer."""


class AttendTest(TestCase):
    @parameterized.product(
        attention=("softmax", "sigmoid"), by_head=(False, True)
    )
    def test_gradients_where_keys_are_values(self, attention, by_head):
        rng = np.random.default_rng(0)
        shape = (3, 4) if by_head else (3,)
        inputs = {
            "events": rng.normal(size=(*shape, 5, 8)).astype("float32"),
            "queries": rng.normal(size=(*shape, 2, 8)).astype("float32"),
        }
        mask = MASK[:, None, None, :] if by_head else MASK[:, None, :]

        def once(x):
            events = x["events"]
            return attend(x["queries"], events, events, mask, attention)

        def twice(x):  # Another tensor: the gradients of both are added.
            events = x["events"]
            values = events * 1.0
            return attend(x["queries"], events, values, mask, attention)

        self.assertAllClose(once(inputs), twice(inputs))
        for actual, expected in zip(
            self.gradients(Attend(), once, inputs),
            self.gradients(Attend(), twice, inputs),
        ):
            self.assertFinite(actual)
            self.assertAllClose(actual, expected, atol=1e-5)
