import numpy as np
from absl.testing import parameterized
from keras import ops

from keras_unirec import layers
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, C, N, M, D = 2, 3, 4, 2, 8
WIDTHS = {layers.MeanReadout: (D, D), layers.ConcatenatedReadout: (32, 48)}


class ReadoutsTest(TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.tokens = rng.normal(size=(R, C, N, D)).astype("float32")
        self.context = rng.normal(size=(R, M, D)).astype("float32")

    @parameterized.product(cls=list(WIDTHS), with_context=[False, True])
    def test_basics(self, cls, with_context):
        shapes = {"tokens": (R, C, N, D)}
        if with_context:
            shapes["context"] = (R, M, D)
        self.run_layer_test(
            cls,
            init_kwargs={},
            input_shape=shapes,
            expected_output_shape=(R, C, WIDTHS[cls][with_context]),
            expected_num_trainable_weights=0,
        )

    def test_the_mean_counts_each_token_once(self):
        readout = layers.MeanReadout()
        expected = self.tokens.mean(axis=2)
        self.assertAllClose(readout(self.tokens), expected, atol=1e-6)
        expected = np.empty((R, C, D))
        for r, c in np.ndindex(R, C):
            every = np.concatenate([self.context[r], self.tokens[r, c]])
            expected[r, c] = every.mean(axis=0)
        outputs = readout(self.tokens, context=self.context)
        self.assertAllClose(outputs, expected, atol=1e-6)

    def test_the_concatenation_begins_with_the_request(self):
        readout = layers.ConcatenatedReadout()
        expected = self.tokens.reshape(R, C, N * D)
        self.assertAllClose(readout(self.tokens), expected)
        outputs = to_numpy(readout(self.tokens, context=self.context))
        self.assertAllClose(outputs[:, :, M * D :], expected)
        for r, c in np.ndindex(R, C):
            flat = self.context[r].reshape(-1)
            self.assertAllClose(outputs[r, c, : M * D], flat)

    @parameterized.parameters(*WIDTHS)
    def test_candidates_are_independent(self, cls):
        readout = cls()
        outputs = to_numpy(readout(self.tokens, context=self.context))
        flat = readout(
            self.tokens.reshape(R * C, 1, N, D),
            context=self.context.repeat(C, axis=0),
        )
        self.assertAllClose(flat, outputs.reshape(R * C, 1, -1), atol=1e-6)
        swapped = readout(self.tokens[:, ::-1], context=self.context)
        self.assertAllClose(swapped, outputs[:, ::-1], atol=1e-6)

    def test_a_mean_of_large_tokens_in_half_precision(self):
        """Their sum is no number of float16."""
        readout = layers.MeanReadout(dtype="mixed_float16")
        tokens = np.full((1, 1, 16, 4), 6e3, "float32")
        outputs = readout(tokens, context=np.full((1, 16, 4), 6e3))
        outputs = ops.cast(outputs, "float32")
        self.assertAllClose(outputs, np.full((1, 1, 4), 6e3), rtol=1e-2)
