import numpy as np

from keras_unirec import layers
from tests.test_case import TestCase


class BesideCandidatesTest(TestCase):
    def test_basics(self):
        self.run_layer_test(
            layers.BesideCandidates,
            init_kwargs={},
            input_shape={"request": (2, 4), "candidates": (2, 3, 5)},
            expected_output_shape=(2, 3, 9),
            expected_num_trainable_weights=0,
        )

    def test_repeats_the_request(self):
        request = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
        candidates = np.zeros((2, 3, 1), "float32")
        outputs = np.asarray(layers.BesideCandidates()(request, candidates))
        self.assertEqual(outputs.shape, (2, 3, 3))
        self.assertAllClose(outputs[1, 2], [3.0, 4.0, 0.0])
