import keras
import numpy as np

from keras_unirec import layers
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, C = 4, 3


class FeatureEmbeddingTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.batch, *_ = small_batch(self.schema, R, C)
        self.embed = layers.FeatureEmbedding(self.schema)

    def rows(self, table, key):
        """Rows of a table for the ids of a column."""
        table = self.embed.tables[table]
        self.assertEqual(table.rows, self.schema.embeddings[key_of(table)].rows)
        return to_numpy(table.embeddings)[self.batch[key]]

    def test_context(self):
        context = self.embed.context(self.batch)
        self.assertEqual(
            context.widths,
            {
                **{"user_id": 4, "city": 4, "hour": 1},
                **{"watched.count": 1, "liked.count": 1},
            },
        )
        columns = {c.key: c for c in context}
        self.assertAllClose(
            columns["user_id"].embedding, self.rows("user_id", "user_id")
        )
        for key in ("hour", "watched.count"):
            expected = self.batch[key][:, None]
            self.assertAllClose(columns[key].embedding, expected)
        self.assertEqual(
            [(c.side, c.kind) for c in context],
            [
                *(("user", "id"), ("user", "id"), ("context", "number")),
                *(("sequence", "count"), ("sequence", "count")),
            ],
        )
        without = self.embed.context(self.batch, history_lengths=False)
        self.assertEqual(list(without.widths), ["user_id", "city", "hour"])

    def test_items(self):
        items = self.embed.items(self.batch)
        self.assertEqual(
            items.widths,
            {
                **{"video_id": 8, "video_id.author": 4},
                **{"video_id.duration": 1, "price": 4, "genres": 4},
            },
        )
        columns = {c.key: to_numpy(c.embedding) for c in items}
        self.assertAllClose(
            columns["video_id.author"], self.rows("author", "video_id.author")
        )
        duration = self.batch["video_id.duration"][..., None]
        self.assertAllClose(columns["video_id.duration"], duration)
        self.assertLessEqual(np.abs(columns["price"]).max(), 1.0)  # tanh
        genres = self.rows("genres", "genres")
        self.assertAllClose(columns["genres"], genres.mean(axis=-2), atol=1e-6)
        for key, width in items.widths.items():
            (feature,) = (f for f in self.schema.encoded if f.key == key)
            self.assertEqual(self.embed.width(feature), width)

    def test_histories(self):
        histories = self.embed.histories(self.batch)
        self.assertEqual(list(histories), ["watched", "liked"])
        watched, liked = histories.values()
        self.assertEqual((watched.name, watched.max_length), ("watched", 8))
        self.assertEqual((liked.name, liked.max_length), ("liked", 4))
        # One table for the items and the events.
        expected = [
            self.rows("video_id", "hist_video_id"),
            self.rows("author", "hist_video_id.author"),
            self.batch["hist_video_id.duration"][..., None],
            self.rows("hist_click", "hist_click"),
        ]
        expected = np.concatenate(expected, axis=-1)
        events = to_numpy(watched.events)
        self.assertEqual(events.shape, (R, 8, 8 + 4 + 1 + 2 + 8))
        self.assertAllClose(events[..., :15], expected)
        lengths = self.batch["watched.length"][:, None]
        self.assertAllClose(watched.mask, np.arange(8) < lengths)
        self.assertAllClose(watched.gaps, self.batch["hist_time_s"])
        self.assertIsNone(liked.gaps)
        self.assertCountEqual(
            watched.ids, ["hist_video_id", "hist_video_id.author", "hist_click"]
        )
        for key, ids in watched.ids.items():
            self.assertAllClose(ids, self.batch[key])

    def test_dtype(self):
        embed = layers.FeatureEmbedding(self.schema, "mixed_bfloat16")
        for columns in (embed.context(self.batch), embed.items(self.batch)):
            for each in columns:
                dtype = keras.backend.standardize_dtype(each.embedding.dtype)
                self.assertEqual(dtype, "bfloat16", each.key)
        for table in embed.tables.values():
            self.assertEqual(table.variable_dtype, "float32")

    def test_paths_of_weights(self):
        self.embed.items(self.batch)
        self.assertEqual(
            self.embed.tables["video_id"].embeddings.path,
            "video_id_embedding/embeddings",
        )


def key_of(table):
    return table.name.removesuffix("_embedding")
