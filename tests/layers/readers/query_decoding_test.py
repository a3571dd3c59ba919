import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

from keras_unirec import layers
from keras_unirec.layers.readers.query_decoding import decoding_macs
from tests.layers.inputs import pad_histories
from tests.layers.inputs import randomize_weights
from tests.layers.references import residual
from tests.layers.tensor_sizes import tensor_sizes
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, C, N, D = 3, 2, 3, 8
T, E, HEADS, WIDTH = 5, 6, 2, 4
LENGTHS = (5, 2, 0)
CASES = [
    {"kv_mode": kv_mode, "attention": attention}
    for kv_mode in ("absorbed", "projected")
    for attention in ("softmax", "sigmoid")
]


def make_inputs(side="right", length=T):
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(R, C, N, D)).astype("float32")
    histories = [rng.normal(size=(length, E)) for length in LENGTHS]
    history, mask = pad_histories(histories, side, length)
    return queries, history, mask


def make_layer(**kwargs):
    layer = layers.QueryDecoding(HEADS, WIDTH, **kwargs)
    layer.build((R, C, N, D), (R, T, E))
    randomize_weights(layer)
    return layer


def reference(queries, history, mask, layer):
    """HyFormer, eq. 8-9, one sum after the other, and a residual.

    Returns:
        The decoded queries and the weights of all events.
    """
    query_kernel = to_numpy(layer.query_kernel)
    key_kernel = to_numpy(layer.key_kernel)
    value_kernel = to_numpy(layer.value_kernel)
    all_weights = np.zeros((*queries.shape[:3], HEADS, history.shape[1]))

    def read(queries):
        outputs = np.zeros(queries.shape)
        for r, c, i in np.ndindex(queries.shape[:3]):
            events = np.flatnonzero(mask[r])
            heads = np.zeros((HEADS, WIDTH))
            for h in range(HEADS):
                columns = slice(h * WIDTH, (h + 1) * WIDTH)
                query = queries[r, c, i] @ query_kernel[:, columns]
                weights = []
                for t in events:
                    key = history[r, t] @ key_kernel[:, columns]
                    score = query @ key / np.sqrt(WIDTH)
                    if layer.attention == "softmax":
                        weights.append(np.exp(score))
                    else:
                        weight = 1 / (1 + np.exp(-score))
                        weights.append(weight / np.sqrt(len(events)))
                for t, weight in zip(events, weights):
                    if layer.attention == "softmax":
                        weight = weight / np.sum(weights)
                    value = history[r, t] @ value_kernel[:, columns]
                    heads[h] += weight * value
                    all_weights[r, c, i, h, t] = weight
            outputs[r, c, i] = heads.reshape(-1) @ to_numpy(layer.output_kernel)
        return outputs

    outputs = residual(queries, read, layer._scheme, "query")
    return outputs, all_weights


class QueryDecodingTest(TestCase):
    def test_basics(self):
        _, _, mask = make_inputs()
        num_parameters = 2 * D * HEADS * WIDTH + 2 * E * HEADS * WIDTH
        for init_kwargs, num_norms in (
            ({"kv_mode": "absorbed", "residual": "post_layer"}, 2),
            ({"kv_mode": "projected", "attention": "sigmoid"}, 0),
        ):
            with self.subTest(**init_kwargs):
                self.run_layer_test(
                    layers.QueryDecoding,
                    init_kwargs={
                        "num_heads": HEADS,
                        "head_dim": WIDTH,
                        "num_queries": N,
                        **init_kwargs,
                    },
                    input_shape={
                        "queries": (R, C, N, D),
                        "history": (R, T, E),
                    },
                    call_kwargs={"mask": mask},
                    expected_output_shape=(R, C, N, D),
                    expected_num_trainable_weights=4 + num_norms,
                    expected_num_parameters=num_parameters + num_norms * D,
                )

    @parameterized.parameters(
        *CASES,
        {"kv_mode": "absorbed", "residual": "pre_rms"},
        {"kv_mode": "projected", "residual": "post_layer"},
        {"kv_mode": "projected", "residual": "none"},
    )
    def test_equals_the_paper(self, **kwargs):
        queries, history, mask = make_inputs()
        layer = make_layer(**kwargs)
        outputs = layer(queries, history, mask=mask)
        weights = layer.weights_of_events(queries, history, mask=mask)
        expected = reference(queries, history, mask, layer)
        self.assertAllClose(outputs, expected[0], atol=1e-5)
        self.assertAllClose(weights, expected[1], atol=1e-5)
        if layer.attention == "softmax":
            total = to_numpy(weights).sum(-1)
            for r, length in enumerate(LENGTHS):
                expected = np.full((C, N, HEADS), float(length > 0))
                self.assertAllClose(total[r], expected, atol=1e-5)

    def test_without_mask(self):
        queries, history, _ = make_inputs()
        history = np.where(np.abs(history) > 10, 0.5, history)
        every = np.ones((R, T), "bool")
        for case in CASES:
            layer = make_layer(**case)
            outputs = layer(queries, history)
            weights = layer.weights_of_events(queries, history)
            expected = reference(queries, history, every, layer)
            self.assertAllClose(outputs, expected[0], atol=1e-5)
            self.assertAllClose(weights, expected[1], atol=1e-5)

    def test_absorbed_projected_and_given_are_equal(self):
        queries, history, mask = make_inputs()
        history = np.where(mask[:, :, None], history, 1).astype("float32")
        layer = make_layer()

        def given(queries, history):
            return layer(queries, layer.key_value(history), mask=mask)

        def direct(queries, history):
            return layer(queries, history, mask=mask)

        outputs, gradients, weights = [], [], []
        for kv_mode, function in (
            ("absorbed", direct),
            ("projected", direct),
            ("absorbed", given),  # There is nothing to absorb.
        ):
            layer.kv_mode = kv_mode
            outputs.append(function(queries, history))
            gradients.append(
                self.gradients(
                    layer,
                    lambda x: function(**x),
                    {"queries": queries, "history": history},
                )
            )
            weights.append(layer.weights_of_events(queries, history, mask))
        for i in (1, 2):
            self.assertAllClose(outputs[i], outputs[0], atol=1e-5)
            self.assertAllClose(weights[i], weights[0], atol=1e-5)
            for a, b in zip(gradients[i], gradients[0], strict=True):
                self.assertAllClose(a, b, atol=1e-4, rtol=1e-4)
        key_values = layer.key_value(history)
        given_weights = layer.weights_of_events(queries, key_values, mask)
        self.assertAllClose(given_weights, weights[0], atol=1e-5)

    @parameterized.parameters(CASES)
    def test_padding_is_ignored(self, **kwargs):
        queries, history, mask = make_inputs()
        layer = make_layer(**kwargs)
        outputs = layer(queries, history, mask=mask)
        for side, length in (("left", T), ("right", T + 4), ("left", T + 4)):
            _, padded, padded_mask = make_inputs(side, length)
            actual = layer(queries, padded, mask=padded_mask)
            self.assertAllClose(actual, outputs, atol=1e-5)
        # Requests of their own, each without any padding.
        for r, length in enumerate(LENGTHS):
            alone = layer(queries[r : r + 1], history[r : r + 1, :length])
            self.assertAllClose(alone, outputs[r : r + 1], atol=1e-5)

    @parameterized.parameters(CASES)
    def test_empty_history_returns_the_queries(self, **kwargs):
        queries, history, _ = make_inputs()
        layer = make_layer(**kwargs)
        for length in (0, T):
            inputs = {"queries": queries, "history": history[:, :length]}
            nothing = np.zeros((R, length), "bool")
            outputs = layer(**inputs, mask=nothing)
            np.testing.assert_array_equal(to_numpy(outputs), queries)
            weights = layer.weights_of_events(**inputs, mask=nothing)
            expected = np.zeros((R, C, N, HEADS, length))
            self.assertAllClose(weights, expected)
            for gradient in self.gradients(
                layer, lambda x: layer(**x, mask=nothing), inputs
            ):
                self.assertFinite(gradient)

    @parameterized.parameters("absorbed", "projected")
    def test_candidates_are_independent(self, kv_mode):
        queries, history, mask = make_inputs()
        layer = make_layer(kv_mode=kv_mode)
        outputs = to_numpy(layer(queries, history, mask=mask))
        swapped = layer(queries[:, ::-1], history, mask=mask)
        self.assertAllClose(swapped, outputs[:, ::-1], atol=1e-5)
        flat = layer(
            queries.reshape(R * C, 1, N, D),
            history.repeat(C, axis=0),
            mask=mask.repeat(C, axis=0),
        )
        self.assertAllClose(flat, outputs.reshape(R * C, 1, N, D), atol=1e-5)
        # The queries of a candidate do not read each other either.
        alone = layer(queries[:, :, 1:2], history, mask=mask)
        self.assertAllClose(alone, outputs[:, :, 1:2], atol=1e-5)

    def test_dynamic_candidates_and_events(self):
        queries, history, mask = make_inputs()
        layer = make_layer()
        inputs = {
            "queries": keras.Input((None, N, D), name="queries"),
            "history": keras.Input((None, E), name="history"),
            "mask": keras.Input((None,), dtype="bool", name="mask"),
        }
        model = keras.Model(inputs, layer(**inputs))
        self.assertEqual(model.output_shape, (None, None, N, D))
        for length in (T, 0):
            arrays = {
                "queries": queries,
                "history": history[:, :length],
                "mask": mask[:, :length],
            }
            expected = layer(**arrays)
            self.assertAllClose(model(arrays), expected, atol=1e-5)
            outputs = model.predict(arrays, verbose=0)
            self.assertAllClose(outputs, expected, atol=1e-5)

    @parameterized.parameters("absorbed", "projected", "given")
    def test_memory_holds_events_once(self, kv_mode):
        """No tensor of a step has candidates, events and their width."""
        requests, candidates, length, event_dim = 2, 5, 50, 16
        layer = layers.QueryDecoding(
            HEADS,
            event_dim // HEADS,
            kv_mode="auto" if kv_mode == "given" else kv_mode,
        )
        inputs = {
            "queries": np.ones((requests, candidates, N, D), "float32"),
            "history": np.ones((requests, length, event_dim), "float32"),
        }
        layer(**inputs)

        def function(queries, history):
            if kv_mode == "given":
                history = layer.key_value(history)
            return layer(queries, history)

        def step(queries, history):
            return self.gradients(
                layer,
                lambda x: function(**x),
                {"queries": queries, "history": history},
                convert=False,
            )

        largest = max(tensor_sizes(step, *inputs.values()))
        self.assertLess(largest, requests * candidates * length * event_dim)
        self.assertGreaterEqual(largest, requests * length * event_dim)

    def test_scale_at_initialization(self):
        """One event: the layer adds its value, projected."""
        rng = np.random.default_rng(0)
        dim, event_dim, width = 32, 64, 96
        layer = layers.QueryDecoding(4, width // 4)
        queries = rng.normal(size=(200, 1, 1, dim))
        history = rng.normal(size=(200, 1, event_dim))
        added = to_numpy(layer(queries, history)) - queries
        expected = event_dim * 2 / (event_dim + width)
        expected *= width * 2 / (width + dim)
        self.assertAllClose(added.std(), np.sqrt(expected), rtol=0.1)
        # The scores of many events differ by about one.
        history = rng.normal(size=(20, 50, event_dim))
        weights = layer.weights_of_events(queries[:20], history)
        self.assertBetween(np.log(to_numpy(weights)).std(), 0.3, 1.5)
        # Both matrices are 64 x 96, and different.
        keys, values = map(to_numpy, layer.key_value(history))
        expected = np.sqrt(2 * event_dim / (event_dim + width))
        self.assertAllClose(keys.std(), expected, rtol=0.1)
        self.assertAllClose(values.std(), expected, rtol=0.1)
        self.assertLess(abs((keys * values).mean()), 0.1)

    @parameterized.parameters("absorbed", "projected")
    def test_large_scores_in_bfloat16(self, kv_mode):
        queries, history, mask = make_inputs()
        layer = layers.QueryDecoding(
            HEADS, WIDTH, kv_mode=kv_mode, dtype="mixed_bfloat16"
        )
        outputs = layer(100 * queries, 100 * history, mask=mask)
        self.assertFinite(ops.cast(outputs, "float32"))

    def test_kv_mode(self):
        # Three queries of one candidate, 1,000 events.
        square, width = 64 * 4 * 32, 4 * 32
        macs = decoding_macs(3, 1000, num_heads=4, head_dim=32, event_dim=64)
        self.assertEqual(
            macs["absorbed"], 3 * 2 * square + 2 * 3 * 1000 * 4 * 64
        )
        self.assertEqual(
            macs["projected"], 1000 * 2 * square + 2 * 3 * 1000 * width
        )
        layer = make_layer()
        for candidates, length, expected in (
            (1, 100, "absorbed"),
            (101, 100, "projected"),
            (None, 100, "absorbed"),
            (101, None, "absorbed"),
        ):
            queries = keras.KerasTensor((None, candidates, N, D))
            history = keras.KerasTensor((None, length, E))
            self.assertEqual(layer._mode(queries, history), expected)

    def test_key_value(self):
        history = np.random.default_rng(0).normal(size=(2, 3, E))
        layer = make_layer()
        kernels = layer.key_kernel, layer.value_kernel
        for output, kernel in zip(
            layer.key_value(history), kernels, strict=True
        ):
            self.assertEqual(tuple(output.shape), (2, HEADS, 3, WIDTH))
            kernel = to_numpy(kernel)
            for head in range(HEADS):
                columns = kernel[:, WIDTH * head : WIDTH * (head + 1)]
                expected = history @ columns
                self.assertAllClose(output[:, head], expected, atol=1e-5)
        for output in layer.key_value(np.zeros((2, 0, E), "float32")):
            self.assertEqual(tuple(output.shape), (2, HEADS, 0, WIDTH))

    def test_head_width(self):
        """`head_dim`, or that of a query over the number of heads."""
        for init_kwargs, width in (
            ({}, D),
            ({"num_heads": 2}, D),
            ({"num_heads": 3, "head_dim": 5}, 15),
        ):
            layer = layers.QueryDecoding(**init_kwargs)
            layer.build((R, C, N, D), (R, T, E))
            self.assertEqual(tuple(layer.query_kernel.shape), (D, width))
            self.assertEqual(tuple(layer.value_kernel.shape), (E, width))
            self.assertEqual(tuple(layer.output_kernel.shape), (width, D))

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`attention` must be"):
            layers.QueryDecoding(attention="linear")
        with self.assertRaisesRegex(ValueError, "`kv_mode` must be"):
            layers.QueryDecoding(kv_mode="fast")
        with self.assertRaisesRegex(ValueError, "`residual` must be one of"):
            layers.QueryDecoding(residual="rms")
        for name in ("num_heads", "head_dim", "num_queries"):
            with self.assertRaisesRegex(ValueError, f"`{name}` must be a pos"):
                layers.QueryDecoding(**{name: 0})
        with self.assertRaisesRegex(ValueError, "`num_heads` must divide"):
            layers.QueryDecoding(3).build((R, C, N, D), (R, T, E))
        queries, history, _ = make_inputs()
        with self.assertRaisesRegex(ValueError, "must be built before"):
            layers.QueryDecoding(HEADS)(
                queries, make_layer().key_value(history)
            )
