import numpy as np
import pandas as pd

import keras_unirec as ku
from tests.small_log import small_frame
from tests.small_log import small_requests
from tests.small_log import small_schema
from tests.test_case import TestCase


class RawInputsTest(TestCase):
    def check_same_as_the_pipeline(self, df, schema, requests):
        raw = ku.serving.raw_inputs(df, schema, requests=requests)
        preprocessing = ku.data.Preprocessing(schema)
        users, items = (
            preprocessing.user_signature(),
            preprocessing.item_signature(),
        )
        self.assertEqual(set(raw), set(users) | set(items))
        encoded = {
            **preprocessing.user({name: raw[name] for name in users}),
            **preprocessing.item({name: raw[name] for name in items}),
        }
        data = ku.data.from_pandas(
            df, schema, batch_size=len(df), labels=False, requests=requests
        )
        ((batch,),) = data
        for key, value in encoded.items():
            expected = batch[key].numpy()
            if value.shape != expected.shape:  # The pipeline pads further.
                self.assertLess(value.shape[1], expected.shape[1])
                expected = expected[:, : value.shape[1]]
            self.assertAllClose(value, expected)

    def test_the_graph_encodes_them_as_the_pipeline_does(self):
        df = small_frame()
        self.check_same_as_the_pipeline(df, small_schema(df), requests=False)

    def test_requests(self):
        df, schema = small_requests()
        self.check_same_as_the_pipeline(df, schema, requests=True)
        raw = ku.serving.raw_inputs(df, schema, requests=True)
        self.assertEqual(raw["video_id"].shape, (16, 4))
        self.assertEqual(raw["genres_length"].shape, (16, 4))
        self.assertEqual(raw["city"].shape, (16,))

    def test_one_side(self):
        df, schema = small_requests()
        both = ku.serving.raw_inputs(df, schema, requests=True)
        items = df[["request", "video_id", "price", "genres"]]
        user = df.groupby("request").head(1).drop(columns=items.columns[1:])
        parts = {
            **ku.serving.raw_inputs(user, schema, side="user"),
            **ku.serving.raw_inputs(items, schema, requests=True, side="item"),
        }
        self.assertEqual(sorted(parts), sorted(both))
        for name, value in both.items():
            np.testing.assert_array_equal(parts[name], value)
        for wrong, message in (
            (lambda: ku.serving.raw_inputs(df, schema, side="items"), "`side`"),
            (lambda: ku.serving.raw_inputs("a.parquet", schema), "data frame"),
            (lambda: ku.serving.raw_inputs(items, schema), "user_id"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                wrong()

    def test_what_the_readers_refuse(self):
        df, schema = small_requests()
        other = df.copy()
        other.loc[1, "city"] = (
            "Oslo" if df.loc[0, "city"] != "Oslo" else "Bergen"
        )
        with self.assertRaisesRegex(ValueError, "`city` must be the same"):
            ku.serving.raw_inputs(other, schema, requests=True)
        ku.serving.raw_inputs(other, schema)
        other = df.copy()
        other["hist_click"] = [[1] * 20] * len(df)
        with self.assertRaisesRegex(ValueError, "must hold as many events"):
            ku.serving.raw_inputs(other, schema)
        with self.assertRaisesRegex(ValueError, "must be True or False"):
            ku.serving.raw_inputs(df, schema, requests="no")

    def test_shorter_requests_are_filled_up(self):
        schema = ku.Schema(
            item=[ku.Categorical("item", num_values=9)],
            labels=[ku.Label("click")],
            request_id="request",
        )
        df = pd.DataFrame({"request": [1, 1, 2], "item": [3, 4, 5]})
        raw = ku.serving.raw_inputs(df, schema, requests=True)
        missing = np.iinfo("int64").min
        self.assertEqual(raw["item"].tolist(), [[3, 4], [5, missing]])

    def test_booleans_datetimes_and_missing_values(self):
        schema = ku.Schema(
            user=[
                ku.Categorical("is_new", 2),
                ku.Categorical("country", vocabulary="lookup"),
            ],
            sequences=[ku.Sequence("seen", 3, [ku.Timestamp("seen_at")])],
            timestamp=ku.Timestamp("now"),
        )
        now = pd.to_datetime(["2024-01-01", "2024-01-02"]).as_unit("us")
        df = pd.DataFrame(
            {
                "is_new": [True, False],
                "country": ["de", None],
                "now": now,
                "seen_at": [[now[0], None], []],
            }
        )
        schema = schema.adapt(df)
        unit = {"us": 10**6, "ns": 10**9}[schema.feature("seen_at").unit]
        self.assertEqual(schema.timestamp.unit, "us")
        raw = ku.serving.raw_inputs(df, schema)
        missing = np.iinfo("int64").min
        self.assertEqual(raw["is_new"].dtype, "int64")
        self.assertEqual(raw["is_new"].tolist(), [1, 0])
        self.assertEqual(raw["country"].tolist(), ["de", ""])
        self.assertEqual(raw["now"][0], 1_704_067_200 * 10**6)
        self.assertEqual(
            raw["seen_at"].tolist(),
            [[1_704_067_200 * unit, missing], [missing, missing]],
        )
        self.check_same_as_the_pipeline(df, schema, requests=False)

    def test_a_missing_column_is_named(self):
        df = small_frame()
        schema = small_schema(df)
        with self.assertRaisesRegex(ValueError, "city"):
            ku.serving.raw_inputs(df.drop(columns="city"), schema)

    def test_requests_need_a_request_id(self):
        schema = ku.Schema(item=[ku.Categorical("item", num_values=9)])
        with self.assertRaisesRegex(ValueError, "request_id"):
            ku.serving.raw_inputs(
                pd.DataFrame({"item": [1]}), schema, requests=True
            )
