import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

from keras_unirec import layers
from keras_unirec.layers.readers._kv_mode import resolve_kv_mode
from keras_unirec.layers.readers.head_cross_attention import key_value_macs
from tests.layers.tensor_sizes import tensor_sizes
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, C, T, N, D = 3, 2, 5, 4, 8
MASK = np.arange(T) < np.array([[5], [2], [0]])
EVENT_DIMS = {"slices": N * D, "map": 6}
CASES = [
    {"form": form, "kv_mode": kv_mode, "attention": attention}
    for form in EVENT_DIMS
    for kv_mode in ("absorbed", "projected")
    for attention in ("softmax", "sigmoid")
]


def make_inputs(form, seed=0):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(R, C, N, D)).astype("float32")
    history = rng.normal(size=(R, T, EVENT_DIMS[form])).astype("float32")
    return queries, history


def make_layer(form, **kwargs):
    history_map = layers.HistoryMap(N, D) if form == "map" else None
    return layers.HeadCrossAttention(history_map, **kwargs)


def reference(queries, history, mask, layer):
    """Eq. 6-8, one sum after the other."""
    key, value = to_numpy(layer.key_kernel), to_numpy(layer.value_kernel)
    outputs = queries.copy()
    for r, c, i in np.ndindex(queries.shape[:3]):
        q, weights, values = queries[r, c, i], [], []
        for t in np.flatnonzero(mask[r]):
            if layer.history_map is None:
                h = history[r, t, i * D : (i + 1) * D]
            else:
                h = history[r, t] @ to_numpy(layer.history_map.kernel)[:, i]
            score = q @ (h @ key[i]) / np.sqrt(D)
            if layer.attention == "softmax":
                weights.append(np.exp(score))
            else:
                weights.append(1 / (1 + np.exp(-score)))
            values.append(h @ value[i])
        if values:
            weights = np.array(weights)
            if layer.attention == "softmax":
                weights /= weights.sum()
            else:
                weights /= np.sqrt(len(weights))
            outputs[r, c, i] += weights @ np.array(values)
    return outputs


class HeadCrossAttentionTest(TestCase):
    @parameterized.parameters(
        {"form": "slices", "kv_mode": "auto"},
        {"form": "map", "kv_mode": "auto"},
        {"form": "slices", "kv_mode": "projected", "attention": "sigmoid"},
        {"form": "map", "kv_mode": "absorbed", "attention": "sigmoid"},
    )
    def test_basics(self, form, **kwargs):
        history_map = None
        num_weights, num_parameters = 2, 2 * N * D * D
        if form == "map":
            history_map = layers.HistoryMap(N, D, name="history_map")
            num_weights, num_parameters = 3, num_parameters + 6 * N * D
        self.run_layer_test(
            layers.HeadCrossAttention,
            init_kwargs={"history_map": history_map, **kwargs},
            input_shape={
                "queries": (R, C, N, D),
                "history": (R, T, EVENT_DIMS[form]),
            },
            call_kwargs={"mask": MASK},
            expected_output_shape=(R, C, N, D),
            expected_num_trainable_weights=num_weights,
            expected_num_parameters=num_parameters,
        )

    @parameterized.parameters(CASES)
    def test_equals_the_paper(self, form, **kwargs):
        queries, history = make_inputs(form)
        layer = make_layer(form, **kwargs)
        outputs = layer(queries, history, mask=MASK)
        expected = reference(queries, history, MASK, layer)
        self.assertAllClose(outputs, expected, atol=1e-5)
        outputs = layer(queries, history)
        every = np.ones_like(MASK)
        expected = reference(queries, history, every, layer)
        self.assertAllClose(outputs, expected, atol=1e-5)

    @parameterized.product(
        form=["slices", "map"], attention=["softmax", "sigmoid"]
    )
    def test_absorbed_equals_projected(self, form, attention):
        queries, history = make_inputs(form)
        layer = make_layer(form, attention=attention)
        outputs, gradients = [], []
        for layer.kv_mode in ("absorbed", "projected", "auto"):
            outputs.append(layer(queries, history, mask=MASK))
            gradients.append(
                self.gradients(
                    layer,
                    lambda x: layer(**x, mask=MASK),
                    {"queries": queries, "history": history},
                )
            )
        for i in (1, 2):
            self.assertAllClose(outputs[0], outputs[i], atol=1e-5)
            for a, b in zip(gradients[0], gradients[i], strict=True):
                self.assertAllClose(a, b, atol=1e-3, rtol=1e-4)

    @parameterized.parameters(CASES)
    def test_padding_is_ignored(self, form, **kwargs):
        queries, history = make_inputs(form)
        layer = make_layer(form, **kwargs)
        outputs = layer(queries, history, mask=MASK)
        # Requests of their own, each without any padding.
        for r, length in enumerate(MASK.sum(axis=1)):
            alone = layer(queries[r : r + 1], history[r : r + 1, :length])
            self.assertAllClose(outputs[r : r + 1], alone, atol=1e-5)
        # More padding, whatever it holds.
        padding = 1e4 * np.ones((R, 7, history.shape[-1]), "float32")
        padded = layer(
            queries,
            np.concatenate([history, padding], axis=1),
            mask=np.pad(MASK, ((0, 0), (0, 7))),
        )
        self.assertAllClose(outputs, padded, atol=1e-5)

    @parameterized.parameters(CASES)
    def test_empty_history_returns_the_query(self, form, **kwargs):
        queries, history = make_inputs(form)
        layer = make_layer(form, **kwargs)
        for length in (0, T):
            inputs = {"queries": queries, "history": history[:, :length]}
            nothing = np.zeros((R, length), "bool")
            outputs = layer(**inputs, mask=nothing)
            np.testing.assert_array_equal(to_numpy(outputs), queries)
            for gradient in self.gradients(
                layer, lambda x: layer(**x, mask=nothing), inputs
            ):
                self.assertFinite(gradient)

    @parameterized.parameters(CASES)
    def test_candidates(self, form, **kwargs):
        queries, history = make_inputs(form)
        layer = make_layer(form, **kwargs)
        outputs = to_numpy(layer(queries, history, mask=MASK))
        swapped = layer(queries[:, ::-1], history, mask=MASK)
        self.assertAllClose(swapped, outputs[:, ::-1], atol=1e-5)
        alone = layer(queries[:, 1:], history, mask=MASK)
        self.assertAllClose(alone, outputs[:, 1:], atol=1e-5)
        flat = layer(
            queries.reshape(R * C, 1, N, D),
            history.repeat(C, axis=0),
            mask=MASK.repeat(C, axis=0),
        )
        self.assertAllClose(flat, outputs.reshape(R * C, 1, N, D), atol=1e-5)

    @parameterized.parameters("slices", "map")
    def test_dynamic_candidates_and_events(self, form):
        queries, history = make_inputs(form)
        layer = make_layer(form)
        inputs = {
            "queries": keras.Input((None, N, D), name="queries"),
            "history": keras.Input((None, history.shape[-1]), name="history"),
        }
        mask = keras.Input((None,), dtype="bool", name="mask")
        model = keras.Model(
            {**inputs, "mask": mask}, layer(**inputs, mask=mask)
        )
        self.assertEqual(model.output_shape, (None, None, N, D))
        for length in (T, 1, 0):
            arrays = {
                "queries": queries,
                "history": history[:, :length],
                "mask": MASK[:, :length],
            }
            expected = layer(**arrays)
            self.assertAllClose(model(arrays), expected, atol=1e-5)
            outputs = model.predict(arrays, verbose=0)
            self.assertAllClose(outputs, expected, atol=1e-5)

    @parameterized.product(
        form=["slices", "map"], kv_mode=["absorbed", "projected"]
    )
    def test_memory_holds_events_once(self, form, kv_mode):
        """No tensor of a step has candidates, events and their width."""
        requests, candidates, length, event_dim = 2, 5, 50, N * D
        history_map = layers.HistoryMap(N, D) if form == "map" else None
        layer = layers.HeadCrossAttention(history_map, kv_mode=kv_mode)
        inputs = {
            "queries": np.ones((requests, candidates, N, D), "float32"),
            "history": np.ones((requests, length, event_dim), "float32"),
        }
        layer(**inputs)

        def step(queries, history):
            return self.gradients(
                layer,
                lambda x: layer(**x),
                {"queries": queries, "history": history},
                convert=False,
            )

        largest = max(tensor_sizes(step, *inputs.values()))
        self.assertLess(largest, requests * candidates * length * event_dim)
        self.assertGreaterEqual(largest, requests * length * event_dim)

    @parameterized.parameters("slices", "map")
    def test_scale_at_initialization(self, form):
        """One event: the layer adds `v`, whose scale is Glorot's."""
        num_heads, dim = 16, 32
        event_dim = {"slices": num_heads * dim, "map": 64}[form]
        history_map = None
        expected = 1.0
        if form == "map":
            history_map = layers.HistoryMap(num_heads, dim)
            expected = np.sqrt(2 * event_dim / (event_dim + dim))
        layer = layers.HeadCrossAttention(history_map)
        queries = np.zeros((200, 1, num_heads, dim))
        history = np.random.default_rng(0).normal(size=(200, 1, event_dim))
        outputs = to_numpy(layer(queries, history))
        self.assertAllClose(outputs.std(), expected, rtol=0.1)

    def test_large_scores_in_bfloat16(self):
        layer = layers.HeadCrossAttention(dtype="mixed_bfloat16")
        queries, history = make_inputs("slices")
        outputs = layer(100 * queries, 100 * history, mask=MASK)
        self.assertFinite(ops.cast(outputs, "float32"))

    @parameterized.product(
        form=["slices", "map"], kv_mode=["absorbed", "projected"]
    )
    def test_parts_of_another_precision(self, form, kv_mode):
        queries, history = make_inputs(form)
        layer = make_layer(form, kv_mode=kv_mode, dtype="mixed_bfloat16")
        expected = layer(queries, history, mask=MASK)
        key_value = layers.HeadKeyValue(layer)(history)
        for outputs in (expected, layer(queries, key_value, mask=MASK)):
            dtype = keras.backend.standardize_dtype(outputs.dtype)
            self.assertEqual(dtype, "bfloat16")
            self.assertAllClose(
                ops.cast(outputs, "float32"),
                ops.cast(expected, "float32"),
                atol=0.1,
            )

    def test_kv_mode(self):
        # One candidate of a medium model: keys and values of 512 events
        # against two more projections of one query.
        macs = key_value_macs(1, 512, 16, 768, event_dim=768)
        square = 16 * 768 * 768
        self.assertEqual(macs["absorbed"], 4 * square + 2 * 512 * 16 * 768)
        self.assertEqual(
            macs["projected"], 3 * 512 * square + 2 * 512 * 16 * 768
        )
        # Slices: the same products, per candidate or per event.
        macs = key_value_macs(7, 50, 4, 8)
        self.assertEqual(macs["absorbed"], 7 * 2 * 4 * 64 + 2 * 7 * 50 * 32)
        self.assertEqual(macs["projected"], 50 * 2 * 4 * 64 + 2 * 7 * 50 * 32)

        for num_candidates, length, expected in (
            (1, 100, "absorbed"),
            (101, 100, "projected"),
            (None, 100, "absorbed"),
            (101, None, "absorbed"),
        ):
            mode = resolve_kv_mode(
                "auto",
                num_candidates,
                length,
                lambda c, t: key_value_macs(c, t, num_heads=4, dim=8),
            )
            self.assertEqual(mode, expected)

    def test_the_two_halves(self):
        queries, history = make_inputs("map")
        for kv_mode, kept_type in (
            ("absorbed", keras.KerasTensor),
            ("auto", keras.KerasTensor),
            ("projected", tuple),
        ):
            layer = make_layer("map", kv_mode=kv_mode, name="reader")
            events = keras.Input((None, history.shape[-1]))
            kept = layer.request(events, (None, None, N, D))
            self.assertIsInstance(kept, kept_type)
            self.assertTrue(layer.built)
            asked = keras.Input((None, N, D))
            mask = keras.Input((None,), dtype="bool")
            outputs = layer.candidates(asked, kept, mask=mask)
            model = keras.Model([asked, events, mask], outputs)
            self.assertAllClose(
                model([queries, history, MASK]),
                layer(queries, history, mask=MASK),
                atol=1e-5,
            )

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`history_map` must be a `Hi"):
            layers.HeadCrossAttention(layers.HistoryMap)
        with self.assertRaisesRegex(ValueError, "`attention` must be"):
            layers.HeadCrossAttention(attention="linear")
        with self.assertRaisesRegex(ValueError, "`kv_mode` must be"):
            layers.HeadCrossAttention(kv_mode="fast")
        with self.assertRaisesRegex(ValueError, "4 \\* 8 = 32.* width 31"):
            layers.HeadCrossAttention().build((R, C, 4, 8), (R, T, 31))
        with self.assertRaisesRegex(ValueError, "4 of width 8.* 3 of width 8"):
            layers.HeadCrossAttention(layers.HistoryMap(3, 8)).build(
                (R, C, 4, 8), (R, T, 31)
            )
