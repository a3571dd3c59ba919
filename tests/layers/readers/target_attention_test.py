import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import attention
from tests.layers.requests import C
from tests.layers.requests import R
from tests.layers.requests import Requests
from tests.test_case import TestCase
from tests.test_case import to_numpy


def reference(targets, history, layer):
    """`Attention(t W_Q, S W_K, S W_V) W_O`, one head after the other."""
    events, mask = to_numpy(history.events), to_numpy(history.mask)
    heads, width = layer.key_value_shape
    query, key, value, output = (
        to_numpy(kernel)
        for kernel in (
            layer.query_kernel,
            layer.key_kernel,
            layer.value_kernel,
            layer.output_kernel,
        )
    )
    read = np.zeros((*targets.shape[:2], heads * width))
    for r, c, h in np.ndindex(*targets.shape[:2], heads):
        columns = slice(h * width, (h + 1) * width)
        real = events[r, mask[r]]
        read[r, c, columns] = attention(
            targets[r, c] @ query[:, columns],
            real @ key[:, columns],
            real @ value[:, columns],
        )
    return read @ output


class TargetAttentionTest(TestCase):
    def setUp(self):
        super().setUp()
        self.requests = Requests()

    def read(self, layer, histories=None):
        """The columns of the candidates, with what was read."""
        requests = self.requests
        if not layer.made["reader"]:
            layer.request(requests.context, requests.histories)
            randomize_weights(layer)
        kept = {
            name: {
                "events": layer.made["reader"][name][0].request(
                    history.events, None
                ),
                "mask": history.mask,
            }
            for name, history in (histories or requests.histories).items()
        }
        state = {"context": requests.context, "histories": kept}
        return layer.columns(requests.items, state)

    @parameterized.parameters("default", "one", "by history")
    def test_equals_the_paper(self, case):
        reader, shapes = {
            "default": (None, [(4, 16), (4, 16)]),
            "one": (
                layers.QueryDecoding(2, 5, kv_mode="projected"),
                [(2, 5), (2, 5)],
            ),
            "by history": (
                {
                    "liked": layers.QueryDecoding(1),
                    "watched": layers.QueryDecoding(2, 3),
                },
                [(2, 3), (1, 13)],
            ),
        }[case]
        layer = layers.TargetAttention(reader)
        columns = self.read(layer)
        read = {c.key: c for c in columns if c.key.endswith(".read")}
        self.assertEqual(list(read), ["watched.read", "liked.read"])
        histories = self.requests.histories
        for (name, history), shape in zip(histories.items(), shapes):
            made = layer.made["reader"][name][0]
            self.assertEqual(made.name, f"target_attention_{name}")
            self.assertEqual(made.key_value_shape, shape)
            targets = to_numpy(self.requests.items.aligned(name))
            expected = reference(targets, history, made)
            actual = read[f"{name}.read"].embedding
            self.assertEqual(tuple(actual.shape), expected.shape)
            self.assertAllClose(actual, expected, atol=1e-4)

    def test_all_columns_of_a_candidate(self):
        requests = self.requests
        columns = self.read(layers.TargetAttention())
        self.assertEqual(
            list(columns.widths),
            [
                *requests.context.widths,
                *requests.items.widths,
                *("watched.read", "liked.read"),
            ],
        )
        # As wide as the events.
        self.assertEqual(columns.widths["watched.read"], 23)
        self.assertEqual(tuple(columns.tensor.shape), (R, C, columns.width))

    def test_an_empty_history_reads_zeros(self):
        """Also by a reader that somebody gives, unless it says otherwise."""
        for reader in (None, layers.QueryDecoding(1, attention="sigmoid")):
            read = {c.key: c for c in self.read(layers.TargetAttention(reader))}
            for key, rows in (("watched.read", [0]), ("liked.read", [0, 1])):
                x = to_numpy(read[key].embedding)
                self.assertAllClose(x[rows], np.zeros_like(x[rows]), atol=0)
                self.assertGreater(np.abs(x[2:]).min(axis=-1).max(), 0)
        residual = layers.QueryDecoding(1, residual="no_norm")
        read = {c.key: c for c in self.read(layers.TargetAttention(residual))}
        expected = self.requests.items.aligned("watched")[0]
        self.assertAllClose(read["watched.read"].embedding[0], expected)

    @parameterized.parameters("absorbed", "projected")
    def test_padding_is_ignored(self, kv_mode):
        reader = layers.QueryDecoding(head_dim=4, kv_mode=kv_mode)
        layer = layers.TargetAttention(reader)
        expected = self.read(layer).tensor
        padded = self.read(layer, self.requests.padded(5)).tensor
        self.assertAllClose(padded, expected, atol=1e-5)

    def test_every_request_reads_its_own_history(self):
        layer = layers.TargetAttention()
        requests = self.requests
        columns = self.read(layer)
        before = {c.key: to_numpy(c.embedding) for c in columns}
        key = "hist_video_id"
        requests.batch[key] = requests.batch[key].copy()
        requests.batch[key][2] = 3
        requests.batch["watched.length"][2] = 4
        changed = requests.histories_of(requests.batch)
        after = {c.key: c.embedding for c in self.read(layer, changed)}
        difference = np.abs(after["watched.read"] - before["watched.read"])
        self.assertAllClose(difference[[0, 1, 3]], 0.0, atol=1e-6)
        self.assertGreater(difference[2].max(), 1e-3)
        self.assertAllClose(after["liked.read"], before["liked.read"])

    def test_precision(self):
        requests = Requests("mixed_bfloat16")
        layer = layers.TargetAttention(dtype="mixed_bfloat16")
        state = layer.request(requests.context, requests.histories)
        columns = layer.columns(requests.items, state)
        dtype = keras.backend.standardize_dtype(columns.tensor.dtype)
        self.assertEqual(dtype, "bfloat16")

    def test_the_state(self):
        requests = self.requests
        for kv_mode, kind in (("absorbed", None), ("projected", tuple)):
            reader = layers.QueryDecoding(1, kv_mode=kv_mode)
            layer = layers.TargetAttention(reader)
            state = layer.request(requests.context, requests.histories)
            self.assertIs(state["context"], requests.context)
            for name, kept in state["histories"].items():
                history = requests.histories[name]
                self.assertIs(kept["mask"], history.mask)
                if kind is None:
                    self.assertIs(kept["events"], history.events)
                else:
                    self.assertIsInstance(kept["events"], kind)

    def test_config(self):
        for reader in (
            None,
            layers.QueryDecoding(2, 3),
            {"watched": layers.QueryDecoding(2), "liked": "query_decoding"},
        ):
            layer = layers.TargetAttention(reader)
            copy = layers.TargetAttention.from_config(layer.get_config())
            self.assertEqual(copy.get_config(), layer.get_config())

    def test_errors(self):
        requests = self.requests
        layer = layers.TargetAttention({"watched": layers.QueryDecoding(1)})
        with self.assertRaisesRegex(
            ValueError, r"`reader` must be .* \['watched', 'liked'\]"
        ):
            layer.request(requests.context, requests.histories)
        # 23 columns, 4 heads.
        layer = layers.TargetAttention(layers.QueryDecoding())
        with self.assertRaisesRegex(ValueError, "`num_heads` must divide"):
            layer.request(requests.context, requests.histories)
        layer = layers.TargetAttention()
        self.assertEqual(layer.num_features(requests.schema, 16), 16)
        without = type("Schema", (), {"sequences": ()})
        with self.assertRaisesRegex(
            ValueError, "at least one `Sequence`: `TargetAttention` reads"
        ):
            layer.num_features(without, 16)
