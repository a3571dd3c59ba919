import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest

from keras_unirec.schema import Categorical
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Timestamp
from tests.test_case import TestCase

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KUAIRAND = ROOT.parent / "shared" / "data" / "kuairand_tiny"


class InferenceTest(TestCase):
    def test_infer(self):
        start = 1_700_000_000
        df = pd.DataFrame(
            {
                "user_id": [5, 6, 7],
                "user_age": [21.5, 30.0, 40.0],
                "page": ["a", "b", None],
                "item_id": [1, 2, 3],
                "price": [9, 10, 11],
                "time": [start, start + 1, start + 2],
                "request_id": ["p", "q", "r"],
                "click": [0, 1, 0],
                "hist_item_id": [[1, 2], [3], []],
                "hist_time": [[start - 5, start - 4], [start - 3], []],
                "tags": [["x"], ["y", "z", "y"], ["x"]],
            }
        )
        with pytest.warns(UserWarning, match="`tags`"):
            schema = Schema.infer(df)
        self.assertEqual([f.name for f in schema.user], ["user_id", "user_age"])
        self.assertIsInstance(schema.feature("user_age"), Numerical)
        self.assertIsInstance(schema.feature("price"), Numerical)
        self.assertEqual([f.name for f in schema.context], ["page"])
        self.assertEqual([f.name for f in schema.item], ["item_id", "price"])
        self.assertEqual(schema.label_names, ("click",))
        self.assertEqual(schema.request_id, "request_id")
        self.assertEqual(schema.group_id, "user_id")
        self.assertEqual(schema.timestamp, Timestamp("time", unit="s"))
        self.assertEqual(len(schema.sequences), 2)
        history = schema.sequence("hist_item_id")
        self.assertEqual(
            history.features,
            (
                Categorical("hist_item_id", share_with="item_id"),
                Timestamp("hist_time", unit="s"),
            ),
        )
        self.assertEqual(history.sort_by, "hist_time")
        adapted = schema.adapt(df)
        self.assertTrue(adapted.is_adapted)
        self.assertIn("tags", adapted.summary())

    def test_infer_shares_what_is_named_alike(self):
        for history, column in (
            ("hist_item_id", "item_id"),
            ("viewed_item_ids", "item_id"),
            ("item_id_history", "item_id"),
            ("viewed_product_ids", "product_id"),
            ("clickedItemIds", "item_id"),
            ("viewed_items", "item_id"),
            ("hist_categories", "category"),
            ("past_movies_list", "movie_id"),
        ):
            df = pd.DataFrame(
                {column: [3, 4], "tab": [1, 2], history: [[1, 2], [3]]}
            )
            with pytest.warns(UserWarning) as found:
                schema = Schema.infer(df)
            (feature,) = schema.sequences[0].features
            self.assertEqual(feature.share_with, column, history)
            self.assertNotIn(history, str(found[0].message))
        for history in ("item_tags", "watch_minutes", "items_by_name"):
            df = pd.DataFrame({"item_id": [3, 4], history: [[1, 2], [3]]})
            with pytest.warns(UserWarning, match=f"`{history}`.*share_with"):
                schema = Schema.infer(df)
            self.assertIsNone(schema.feature(history).share_with)
        # Strings do not share with integers.
        df = pd.DataFrame({"item_id": [3, 4], "viewed_item_ids": [["a"], []]})
        with pytest.warns(UserWarning):
            schema = Schema.infer(df)
        self.assertTrue(schema.adapt(df).is_adapted)

    def test_infer_finds_what_varies_inside_a_request(self):
        df = pd.DataFrame(
            {
                "request_id": [1, 1, 2],
                "page": ["a", "a", "b"],
                "age": [30.0, 30.0, 40.0],
                "position": [0, 1, 0],
                "user_affinity": [0.1, 0.2, 0.3],
                "colours": [["r"], ["g", "b"], []],
                "hist_position": [[0], [0], [1]],
                "click": [0, 1, 0],
            }
        )
        with pytest.warns(UserWarning, match="`position`: 0 and 1"):
            schema = Schema.infer(df)
        self.assertEqual([f.name for f in schema.context], ["page", "age"])
        self.assertEqual(
            schema.item,
            (
                Categorical("position", vocabulary="lookup"),
                Numerical("user_affinity"),
                Categorical("colours", vocabulary="lookup", max_length=2),
            ),
        )
        self.assertEqual([s.name for s in schema.sequences], ["hist_position"])
        renamed = df.rename(columns={"request_id": "slate"})
        with pytest.warns(UserWarning):
            self.assertEqual(
                Schema.infer(renamed, request_id="slate"),
                dataclasses.replace(schema, request_id="slate"),
            )
            self.assertIsNone(Schema.infer(renamed).request_id)
        with self.assertRaisesRegex(ValueError, "Column `slat` is missing"):
            Schema.infer(renamed, request_id="slat")

    def test_infer_names_its_doubts(self):
        df = pd.DataFrame(
            {
                "item_id": np.arange(100) % 7,
                "opened": [0, 1] * 50,
                "session_key": [f"s{i}" for i in range(100)],
                "hist": [[1, 2, 3], []] * 50,
                "nothing": [None] * 100,
                "nested": [[[[1]]]] * 100,
                "start_time": np.arange(100) + 1_700_000_000,
                "end_time": np.arange(100) + 1_700_000_000,
            }
        )
        with pytest.warns(UserWarning) as found:
            Schema.infer(df)
        (message,) = [str(warning.message) for warning in found]
        self.assertEqual(
            [line.split(":")[0] for line in message.split("\n")[1:]],
            [
                "- `nothing`",
                "- `opened`",
                "- `session_key`",
                "- `end_time`",
                "- `hist`",
                "- `nested`",
                "- no column looks like a label",
            ],
        )
        self.assertEqual(found[0].filename, __file__)

    def test_infer_from_real_files(self):
        if not KUAIRAND.exists():
            pytest.skip(f"no files in {KUAIRAND}")
        df = pd.read_parquet(KUAIRAND / "train.parquet")
        with pytest.warns(UserWarning, match="`play_time_ms`: named like an"):
            schema = Schema.infer(df).adapt(df)
        self.assertEqual(schema.timestamp, Timestamp("time_ms", unit="ms"))
        self.assertIn("is_click", schema.label_names)
        history = schema.sequence("hist_video_id")
        self.assertEqual(len(history.features), 6)
        self.assertEqual(history.sort_by, "hist_time_s")
        self.assertEqual(schema.categorical("hist_video_id").name, "video_id")
        self.assertEqual(schema.adapt(KUAIRAND / "train.parquet"), schema)
