import keras
import numpy as np

from keras_unirec import layers
from tests.layers.requests import Requests
from tests.test_case import TestCase
from tests.test_case import to_numpy


class MeanReaderTest(TestCase):
    def test_equals_the_definition(self):
        """The mean of the real events, projected; zeros where there is none."""
        requests = Requests()
        for dim, widths in (
            (5, {"watched": 5, "liked": 5}),
            ({"liked": 2, "watched": 3}, {"watched": 3, "liked": 2}),
        ):
            reader = layers.MeanReader(dim)
            state = reader.request(requests.context, requests.histories)
            self.assertEqual(list(state), ["context"])
            self.assertEqual(
                state["context"].widths,
                {
                    **requests.context.widths,
                    **{f"{name}.mean": width for name, width in widths.items()},
                },
            )
            columns = {c.key: c for c in state["context"]}
            kernels = {w.path: to_numpy(w) for w in reader.weights}
            self.assertLen(kernels, 2)
            for name, history in requests.histories.items():
                events, mask = to_numpy(history.events), to_numpy(history.mask)
                kernel = kernels[f"{name}_projection/kernel"]
                expected = np.zeros((len(events), widths[name]))
                for r, real in enumerate(mask):
                    if real.any():
                        expected[r] = events[r, real].mean(axis=0) @ kernel
                column = columns[f"{name}.mean"]
                self.assertAllClose(column.embedding, expected, atol=1e-4)
                self.assertEqual(column.side, "sequence")

    def test_columns_of_candidates(self):
        requests = Requests()
        reader = layers.MeanReader(5)
        state = reader.request(requests.context, requests.histories)
        columns = reader.columns(requests.items, state)
        self.assertEqual(
            list(columns.widths),
            [*state["context"].widths, *requests.items.widths],
        )
        self.assertEqual(reader.read_tokens(None, requests.items, state), [])
        self.assertEqual(reader.num_features(requests.schema, 16), 16)

    def test_without_histories(self):
        requests = Requests()
        reader = layers.MeanReader()
        state = reader.request(requests.context, {})
        self.assertEqual(state["context"].widths, requests.context.widths)
        without = type("Schema", (), {"sequences": ()})
        self.assertEqual(reader.num_features(without, 16), 16)

    def test_precision(self):
        requests = Requests("mixed_bfloat16")
        reader = layers.MeanReader(5, dtype="mixed_bfloat16")
        state = reader.request(requests.context, requests.histories)
        for column in state["context"]:
            dtype = keras.backend.standardize_dtype(column.embedding.dtype)
            self.assertEqual(dtype, "bfloat16")

    def test_config(self):
        for dim in (5, {"watched": 3, "liked": 2}):
            reader = layers.MeanReader(dim)
            copy = layers.MeanReader.from_config(reader.get_config())
            self.assertEqual(copy.dim, dim)
        self.assertEqual(layers.MeanReader().dim, 64)

    def test_errors(self):
        requests = Requests()
        reader = layers.MeanReader({"watched": 3})
        with self.assertRaisesRegex(
            ValueError, r"`dim` must be .* \['watched', 'liked'\]"
        ):
            reader.request(requests.context, requests.histories)
        with self.assertRaisesRegex(ValueError, "needs a user or context col"):
            layers.MeanReader().request(layers.Columns([]), {})
        mean = layers.MeanReader(5).request(
            requests.context, requests.histories
        )
        with self.assertRaisesRegex(ValueError, r"columns \['liked.mean', 'wa"):
            layers.MeanReader(5).request(mean["context"], requests.histories)
