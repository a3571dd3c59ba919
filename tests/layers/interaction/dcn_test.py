import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.test_case import TestCase
from tests.test_case import to_numpy


class DCNTest(TestCase):
    # A kernel and a bias; one more kernel with a low rank.
    @parameterized.parameters((None, 2), (2, 3))
    def test_basics(self, projection_dim, weights_of_cross):
        self.run_layer_test(
            layers.DCN,
            init_kwargs={
                "num_layers": 1,
                "projection_dim": projection_dim,
                "units": (4,),
            },
            input_shape=(2, 3, 6),
            expected_output_shape=(2, 3, 4),
            expected_num_trainable_weights=weights_of_cross + 2,
        )

    def test_equation(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
        layer = layers.DCN(num_layers=2, units=(4,))
        outputs = layer(x)
        y = x
        for i in range(2):
            kernel, bias = (
                to_numpy(weight.value) for weight in layer.crosses[i].weights
            )
            y = x * (y @ kernel + bias) + y
        kernel, bias = (to_numpy(w.value) for w in layer.denses[0].weights)
        self.assertAllClose(outputs, np.maximum(y @ kernel + bias, 0), 1e-5)

    def test_without_dense_layers(self):
        self.assertEqual(layers.DCN()(np.ones((2, 3, 5))).shape, (2, 3, 5))

    def test_errors(self):
        for arguments, message in (
            ({"num_layers": 0}, "`num_layers` must be a positive integer"),
            ({"num_layers": "2"}, "`num_layers` must be a positive integer"),
            ({"projection_dim": 1.5}, "`projection_dim` must be a positive"),
            ({"units": 8}, "`units` must be a list"),
            ({"units": (0,)}, "`units` must be a positive integer"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                layers.DCN(**arguments)
