import numpy as np
from keras import ops

from keras_unirec import layers
from keras_unirec.layers.embedding._columns import column
from keras_unirec.layers.embedding._columns import cut
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, C = 2, 3
WIDTHS = {"a": 2, "b": 1, "c": 3}


def make_columns(leading=(R, C), aligned=None, seed=0):
    rng = np.random.default_rng(seed)
    tensors = {
        key: ops.convert_to_tensor(
            rng.normal(size=(*leading, width)).astype("float32")
        )
        for key, width in WIDTHS.items()
    }
    columns = layers.Columns(
        (column(key, "item", "vector", x) for key, x in tensors.items()),
        aligned,
    )
    return columns, {key: to_numpy(x) for key, x in tensors.items()}


class ColumnsTest(TestCase):
    def check(self, columns, expected):
        """The columns, and their concatenation, in this order."""
        self.assertEqual([each.key for each in columns], list(expected))
        self.assertLen(columns, len(expected))
        widths = {key: x.shape[-1] for key, x in expected.items()}
        self.assertEqual(columns.widths, widths)
        self.assertEqual(columns.width, sum(widths.values()))
        for each in columns:
            self.assertAllClose(each.embedding, expected[each.key])
            self.assertEqual(each.width, widths[each.key])
        joined = np.concatenate(list(expected.values()), axis=-1)
        self.assertAllClose(columns.tensor, joined)

    def test_columns(self):
        columns, arrays = make_columns()
        self.check(columns, arrays)
        self.assertIs(columns.tensor, columns.tensor)
        one = layers.Columns(list(columns)[:1])
        self.check(one, {"a": arrays["a"]})
        self.assertLen(layers.Columns([]), 0)
        self.assertEqual(layers.Columns([]).width, 0)

    def test_cut(self):
        """Slices of a tensor, by columns that say how wide they are."""
        columns, arrays = make_columns()
        tensor = ops.concatenate([arrays[key] * 2 for key in arrays], axis=-1)
        pieces = cut(tensor, columns)
        self.check(pieces, {key: x * 2 for key, x in arrays.items()})
        self.assertIs(pieces.tensor, tensor)
        for mine, theirs in zip(pieces, columns):
            self.assertEqual((mine.side, mine.kind), (theirs.side, theirs.kind))

    def test_in_order(self):
        columns, arrays = make_columns()
        self.assertIs(columns.in_order("abc"), columns.tensor)
        for keys in ("cab", "bca", ["c", "b", "a"]):
            expected = np.concatenate([arrays[key] for key in keys], axis=-1)
            self.assertAllClose(columns.in_order(keys), expected)

    def test_joined(self):
        columns, arrays = make_columns()
        more = np.ones((R, C, 4), "float32")
        joined = columns.joined(column("read", "sequence", "vector", more))
        self.check(joined, {**arrays, "read": more})
        self.check(columns, arrays)  # As it was.
        self.assertAllClose(columns.joined().tensor, columns.tensor)
        with self.assertRaisesRegex(ValueError, r"rename .* columns \['b'\]"):
            columns.joined(column("b", "sequence", "vector", more))

    def test_beside(self):
        context, of_request = make_columns((R,))
        items, of_items = make_columns(seed=1)
        items = layers.Columns(
            [
                column(f"item.{key}", "item", "vector", x)
                for key, x in of_items.items()
            ]
        )
        beside = layers.BesideCandidates()
        expected = {
            key: np.repeat(x[:, None], C, axis=1)
            for key, x in of_request.items()
        }
        expected.update({f"item.{key}": x for key, x in of_items.items()})
        self.check(context.beside(items, beside), expected)
        self.assertIs(layers.Columns([]).beside(items, beside), items)

    def test_for_candidates(self):
        context, arrays = make_columns((R,))
        expected = {key: x[:, None] for key, x in arrays.items()}
        self.check(context.for_candidates(), expected)

    def test_aligned_goes_along(self):
        asked = []
        items, _ = make_columns(aligned=asked.append)
        context, _ = make_columns((R,))
        context = layers.Columns(
            column(f"user.{c.key}", "user", "vector", c.embedding)
            for c in context
        )
        beside = context.beside(items, layers.BesideCandidates())
        more = column("read", "sequence", "vector", np.ones((R, C, 1)))
        for columns in (items, beside, beside.joined(more)):
            columns.aligned("watched")
        self.assertEqual(asked, ["watched"] * 3)
        for columns in (context, context.for_candidates()):
            with self.assertRaisesRegex(
                ValueError, "Only the columns of items .*name='watched'"
            ):
                columns.aligned("watched")


class AlignedTest(TestCase):
    """A candidate, written as the events of a history are."""

    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.batch, *_ = small_batch(self.schema, R, C)
        self.embed = layers.FeatureEmbedding(self.schema)
        self.items = self.embed.items(self.batch)
        self.by_key = {c.key: to_numpy(c.embedding) for c in self.items}

    def test_slices_are_the_columns_of_the_history(self):
        aligned = to_numpy(self.items.aligned("watched"))
        events = self.embed.histories(self.batch)["watched"].events
        self.assertEqual(aligned.shape, (R, C, events.shape[-1]))
        zeros = np.zeros((R, C, 1), "float32")
        # The columns of the schema: only events have a click and a time.
        expected = [
            self.by_key["video_id"],
            self.by_key["video_id.author"],
            self.by_key["video_id.duration"],
            np.repeat(zeros, 2, axis=-1),
            np.repeat(zeros, 8, axis=-1),
        ]
        self.assertAllClose(aligned, np.concatenate(expected, axis=-1))
        aligned = self.items.aligned("liked")
        self.assertAllClose(aligned, np.concatenate(expected[:3], axis=-1))

    def test_an_event_of_the_same_item_is_the_same(self):
        """But for what only events have."""
        batch = dict(self.batch)
        for key in ("video_id", "video_id.author", "video_id.duration"):
            # Event c of a history is candidate c.
            twin = key.replace("video_id", "hist_video_id", 1)
            batch[twin] = batch[key]
        for key in ("hist_click", "hist_time_s"):
            batch[key] = batch[key][:, :C]
        events = to_numpy(self.embed.histories(batch)["watched"].events)
        aligned = to_numpy(self.items.aligned("watched"))
        shared = 8 + 4 + 1
        self.assertAllClose(aligned[..., :shared], events[..., :shared])
        self.assertGreater(np.abs(events[..., shared:]).max(), 0)

    def test_in_mixed_precision(self):
        embed = layers.FeatureEmbedding(self.schema, "mixed_bfloat16")
        items = embed.items(self.batch)
        aligned = items.aligned("watched")
        self.assertEqual(aligned.dtype, items.tensor.dtype)
        self.assertEqual(tuple(aligned.shape), (R, C, 23))
