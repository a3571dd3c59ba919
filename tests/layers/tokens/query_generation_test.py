import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import silu
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, C, M, S = 2, 3, 10, 4
N, D, HIDDEN = 3, 8, 5


def make_inputs():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(R, C, M)).astype("float32")
    summary = rng.normal(size=(R, S)).astype("float32")
    return features, summary


def make_layer(has_summary=True, **kwargs):
    layer = layers.QueryGeneration(N, D, HIDDEN, **kwargs)
    layer.build((R, C, M), (R, S) if has_summary else None)
    randomize_weights(layer)
    return layer


def reference(features, summary, layer):
    """HyFormer, eq. 3-4: one network after the other on the concatenation."""
    kernel = to_numpy(layer.feature_kernel)
    if summary is not None:
        kernel = np.concatenate([kernel, to_numpy(layer.summary_kernel)])
    queries = np.empty((*features.shape[:2], N, D))
    for r, c, i in np.ndindex(queries.shape[:3]):
        information = features[r, c]
        if summary is not None:
            information = np.concatenate([information, summary[r]])
        network = slice(i * HIDDEN, (i + 1) * HIDDEN)
        if layer.compression_dim is None:
            hidden = information @ kernel[:, network]
        else:
            hidden = information @ kernel
            hidden = hidden @ to_numpy(layer.compressed_kernel)[:, network]
        hidden = silu(hidden + to_numpy(layer.hidden_bias)[network])
        queries[r, c, i] = hidden @ to_numpy(layer.output_kernel)[i]
        queries[r, c, i] += to_numpy(layer.output_bias)[i]
    return queries


class QueryGenerationTest(TestCase):
    def test_basics(self):
        outputs = N * HIDDEN + N * HIDDEN * D + N * D
        for compression_dim, has_summary, num_weights, num_parameters in (
            (None, True, 5, (M + S) * N * HIDDEN + outputs),
            (6, False, 5, M * 6 + 6 * N * HIDDEN + outputs),
        ):
            shapes = {"features": (R, C, M)}
            if has_summary:
                shapes["summary"] = (R, S)
            with self.subTest(compression_dim=compression_dim):
                self.run_layer_test(
                    layers.QueryGeneration,
                    init_kwargs={
                        "num_queries": N,
                        "dim": D,
                        "hidden_dim": HIDDEN,
                        "compression_dim": compression_dim,
                    },
                    input_shape=shapes,
                    expected_output_shape=(R, C, N, D),
                    expected_num_trainable_weights=num_weights,
                    expected_num_parameters=num_parameters,
                )

    @parameterized.product(compression_dim=[None, 6], has_summary=[True, False])
    def test_equals_the_paper(self, compression_dim, has_summary):
        features, summary = make_inputs()
        summary = summary if has_summary else None
        layer = make_layer(has_summary, compression_dim=compression_dim)
        outputs = layer(features, summary)
        expected = reference(features, summary, layer)
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_candidates_are_independent(self):
        features, summary = make_inputs()
        layer = make_layer()
        outputs = to_numpy(layer(features, summary))
        flat = layer(features.reshape(R * C, 1, M), summary.repeat(C, axis=0))
        self.assertAllClose(flat, outputs.reshape(R * C, 1, N, D), atol=1e-5)
        swapped = layer(features[:, ::-1], summary)
        self.assertAllClose(swapped, outputs[:, ::-1], atol=1e-5)

    def test_dynamic_candidates(self):
        features, summary = make_inputs()
        layer = make_layer()
        inputs = keras.Input((None, M)), keras.Input((S,))
        model = keras.Model(inputs, layer(*inputs))
        self.assertEqual(model.output_shape, (None, None, N, D))
        self.assertAllClose(
            model((features, summary)), layer(features, summary), atol=1e-5
        )

    @parameterized.parameters(None, 64)
    def test_scale_at_initialization(self, compression_dim):
        rng = np.random.default_rng(0)
        num_queries, dim, hidden_dim = 4, 32, 64
        features = rng.normal(size=(100, 4, 256))
        summary = rng.normal(size=(100, 128))
        layer = layers.QueryGeneration(
            num_queries, dim, hidden_dim, compression_dim
        )
        outputs = to_numpy(layer(features, summary))
        # One matrix on 384 inputs, to every network or to all of them.
        glorot = 2 / (384 + 64)
        first = to_numpy(layer.feature_kernel), to_numpy(layer.summary_kernel)
        for kernel in first:
            self.assertAllClose(kernel.var(), glorot, rtol=0.1)
        # The two parts are not the same numbers.
        rows = first[1].shape[0]
        self.assertGreater(np.abs(first[0][:rows] - first[1]).max(), 0.01)
        u = rng.normal(size=1_000_000) * np.sqrt(384 * glorot)
        if compression_dim is not None:
            u = u * np.sqrt(64 * 2 / (64 + 64))
        hidden = (silu(u) ** 2).mean()
        expected = np.sqrt(hidden * hidden_dim * 2 / (hidden_dim + dim))
        self.assertAllClose(outputs.std(), expected, rtol=0.1)
        # Of every network, and none is the copy of another.
        for i in range(num_queries):
            std = outputs[:, :, i].std()
            self.assertAllClose(std, expected, rtol=0.2)
            for j in range(i):
                difference = (outputs[:, :, i] - outputs[:, :, j]).std()
                self.assertAllClose(difference, 2**0.5 * expected, rtol=0.3)

    def test_config(self):
        layer = layers.QueryGeneration(tokens=[2, 0], context="all")
        self.assertEqual(layer.tokens, (2, 0))
        copy = layers.QueryGeneration.from_config(layer.get_config())
        self.assertEqual(copy.get_config(), layer.get_config())
        layer = layers.QueryGeneration(context="target")
        self.assertIsNone(layer.tokens)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`context` must be one of"):
            layers.QueryGeneration(context="nothing")
        for tokens in ([], [0, 0], [-1], [1.0], [True], "01", {0}, 2):
            with self.assertRaisesRegex(
                ValueError, "`tokens` must be a list of different indices"
            ):
                layers.QueryGeneration(tokens=tokens)
        with self.assertRaisesRegex(ValueError, "of the item columns alone"):
            layers.QueryGeneration(tokens=[0], context="target")
        # What a model says, and nobody has said.
        for name in ("num_queries", "dim"):
            known = {"num_queries": N, "dim": D}
            known.pop(name)
            with self.assertRaisesRegex(
                ValueError, f"`{name}` must be a pos.*Received: {name}=None"
            ):
                layers.QueryGeneration(**known)(*make_inputs())
        legal = {"num_queries": 1, "dim": 1, "hidden_dim": 1}
        for name in (*legal, "compression_dim"):
            with self.assertRaisesRegex(
                ValueError,
                f"`{name}` must be a positive integer. Received: {name}=0",
            ):
                layers.QueryGeneration(**{**legal, name: 0})
