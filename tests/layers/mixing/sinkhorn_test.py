import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

from keras_unirec.layers.mixing._sinkhorn import sinkhorn
from tests.layers.references import sinkhorn as reference
from tests.test_case import TestCase
from tests.test_case import to_numpy


class Scaled(keras.layers.Layer):
    def __init__(self, symmetric=True, num_iterations=20):
        super().__init__()
        self.symmetric = symmetric
        self.num_iterations = num_iterations

    def build(self, input_shape):
        pass

    def call(self, logits):
        return sinkhorn(logits, 1.0, self.num_iterations, self.symmetric)


class LogSpace(Scaled):
    """The plain iteration, for its gradient."""

    def call(self, logits):
        z = logits
        if self.symmetric:
            z = (z + ops.swapaxes(z, -1, -2)) / 2
        for _ in range(self.num_iterations):
            z = z - ops.logsumexp(z, axis=-1, keepdims=True)
            z = z - ops.logsumexp(z, axis=-2, keepdims=True)
        matrix = ops.exp(z)
        if self.symmetric:
            matrix = (matrix + ops.swapaxes(matrix, -1, -2)) / 2
        return matrix


class SinkhornTest(TestCase):
    @parameterized.product(
        n=[1, 2, 4, 60], temperature=[1.0, 0.2, 0.05], symmetric=[True, False]
    )
    def test_equals_the_iteration_in_log_space(self, n, temperature, symmetric):
        logits = np.random.default_rng(0).normal(size=(3, n, n))
        logits = logits.astype("float32")
        for iterations in (1, 2, 20):
            self.assertAllClose(
                sinkhorn(logits, temperature, iterations, symmetric),
                reference(logits, temperature, iterations, symmetric),
                atol=1e-5,
            )

    @parameterized.parameters(
        (1.0, True, 20), (5.0, True, 20), (5.0, False, 20), (5.0, False, 1)
    )
    def test_gradient(self, scale, symmetric, num_iterations):
        """That of all iterations, also where they are cut into parts."""
        logits = np.random.default_rng(0).normal(size=(2, 40, 40)) * scale
        logits = logits.astype("float32")
        expected, actual = (
            self.gradients(layer, layer, logits)[0]
            for layer in (
                LogSpace(symmetric, num_iterations),
                Scaled(symmetric, num_iterations),
            )
        )
        self.assertGreater(np.abs(expected).max(), 1e-4)
        self.assertAllClose(
            actual, expected, atol=1e-3 * np.abs(expected).max()
        )

    def test_doubly_stochastic(self):
        logits = np.random.default_rng(0).normal(size=(64, 64))
        for size in (2, 4, 64):
            matrix = to_numpy(sinkhorn(logits[:size, :size], 1.0, 20))
            self.assertAllClose(matrix.sum(-1), np.ones(size), atol=1e-5)
            self.assertAllClose(matrix.sum(-2), np.ones(size), atol=1e-5)
            self.assertAllClose(matrix, matrix.T)
        # Colder: nearly a permutation, and only nearly doubly stochastic.
        cold = to_numpy(sinkhorn(logits, 0.05, 20))
        self.assertGreater(cold.max(-1).mean(), 0.5)
        self.assertAllClose(cold.sum(), 64, rtol=1e-4)

    def test_extreme_logits(self):
        """Matrices without a permutation in reach: no overflow, no NaN."""
        n = 12
        arrow = np.full((n, n), -200.0, "float32")
        arrow[0] = arrow[:, 0] = 200.0
        for logits in (arrow, np.eye(n) * 1e4, np.zeros((n, n))):
            logits = logits.astype("float32")
            for symmetric in (True, False):
                matrix = to_numpy(sinkhorn(logits, 0.05, 60, symmetric))
                self.assertFinite(matrix)
                self.assertAllClose(matrix.sum(), n, rtol=1e-3)
                layer = Scaled(symmetric, 60)
                gradients = self.gradients(layer, layer, logits)
                self.assertFinite(gradients[0])
