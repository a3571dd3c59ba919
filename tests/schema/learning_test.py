import pathlib

import numpy as np
import pandas as pd
import pytest

from keras_unirec import schema as schemas
from keras_unirec.schema import Categorical
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from keras_unirec.schema import Timestamp
from tests.schema.rich_schema import frame
from tests.schema.rich_schema import items
from tests.schema.rich_schema import rich_schema
from tests.test_case import TestCase


class LearningTest(TestCase):
    def test_adapt_learns_vocabularies_and_moments(self):
        schema = rich_schema()
        self.assertFalse(schema.is_adapted)
        with self.assertRaisesRegex(
            ValueError, "must be adapted.*the values of `country`.*`hour`"
        ):
            schema.require_adapted()
        adapted = schema.adapt(frame())
        adapted.require_adapted()
        self.assertFalse(schema.is_adapted)  # It returned a new one.
        self.assertEqual(list(adapted.feature("country").values), ["de", "fr"])
        # The table and the history that shares with it learn together.
        brands = adapted.categorical("bought_brand")
        self.assertEqual(brands.name, "brand")
        self.assertEqual(list(brands.values), ["x", "y", "z"])
        self.assertEqual(brands.num_values, 3)
        self.assertEqual(adapted.feature("page").dtype, "string")
        self.assertAllClose(adapted.numerical("hour").mean, 4.0)
        self.assertAllClose(
            adapted.numerical("hour").std, np.std([1.0, 3.0, 8.0])
        )
        self.assertAllClose(adapted.numerical("price").mean, 3.0)
        self.assertEqual(adapted.embeddings["item_id"].rows, 12)
        self.assertEqual(adapted.embeddings["item_id"].dim, 16)
        self.assertEqual(adapted.embeddings["brand"].rows, 5)
        self.assertEqual(
            adapted.embeddings["viewed_time"].rows,
            len(schemas.GAP_BOUNDARIES) + 3,
        )
        self.assertEqual(
            list(adapted.embeddings),
            [
                "country",
                "page",
                "item_id",
                "brand",
                "words",
                "slots",
                "viewed_time",
            ],
        )
        # What is learned stays: adapting again changes nothing.
        self.assertEqual(adapted.adapt(frame().iloc[:1]), adapted)

    def test_lookup_of_a_table_learns_the_keys(self):
        table = ItemTable(items(), "item_id", [Numerical("price")])
        schema = Schema(
            item=[Categorical("item_id", vocabulary="lookup", table=table)],
            sequences=[
                Sequence("h", 2, [Categorical("h_id", share_with="item_id")])
            ],
        )
        df = pd.DataFrame({"item_id": [3, 40], "h_id": [[5, 3], None]})
        adapted = schema.adapt(df)
        self.assertEqual(
            list(adapted.feature("item_id").values), [0, 3, 5, 7, 40]
        )

    def test_adapt_does_not_learn_empty_strings(self):
        schema = Schema(
            user=[
                Categorical("a", vocabulary="lookup"),
                Categorical("b", vocabulary="lookup", max_length=2),
            ]
        )
        df = pd.DataFrame({"a": ["x", "", None], "b": [["", "y"], [""], []]})
        adapted = schema.adapt(df)
        self.assertEqual(list(adapted.feature("a").values), ["x"])
        self.assertEqual(list(adapted.feature("b").values), ["y"])
        as_categories = df.assign(a=df["a"].astype("category"))
        self.assertEqual(schema.adapt(as_categories), adapted)
        with self.assertRaisesRegex(ValueError, "`a`.*at least one value"):
            schema.adapt(df.assign(a=""))

    def test_adapt_in_chunks_equals_at_once(self):
        rng = np.random.default_rng(0)
        df = pd.DataFrame(
            {
                "id": rng.integers(0, 10**12, 300_000),
                "x": rng.normal(1e6, 3, 300_000),
            }
        )
        schema = Schema(
            item=[Categorical("id", vocabulary="lookup"), Numerical("x")]
        ).adapt(df)
        np.testing.assert_array_equal(
            schema.feature("id").values, np.unique(df["id"])
        )
        self.assertAllClose(schema.numerical("x").mean, df["x"].mean())
        self.assertAllClose(schema.numerical("x").std, df["x"].std(ddof=0))

    def test_adapt_from_parquet_equals_from_a_frame(self):
        folder = pathlib.Path(self.get_temp_dir())
        df = frame()
        df.iloc[:2].to_parquet(folder / "a.parquet", row_group_size=1)
        df.iloc[2:].to_parquet(folder / "b.parquet")
        schema = rich_schema()
        expected = schema.adapt(df)
        self.assertEqual(schema.adapt(folder), expected)
        self.assertEqual(schema.adapt(str(folder / "*.parquet")), expected)
        self.assertEqual(
            schema.adapt([folder / "b.parquet", folder / "a.parquet"]),
            expected,
        )

    def test_adapt_learns_the_unit_of_datetimes(self):
        df = pd.DataFrame(
            {
                "t": pd.to_datetime(["2024-01-02", "2024-01-03"]).as_unit("ms"),
                "h": [[pd.Timestamp("2024-01-01")], []],
            }
        )
        schema = Schema(
            sequences=[Sequence("s", 2, [Timestamp("h")])],
            timestamp=Timestamp("t"),
        )
        self.assertFalse(schema.is_adapted)
        adapted = schema.adapt(df)
        self.assertEqual(adapted.timestamp.unit, "ms")
        self.assertIn(adapted.feature("h").unit, ("us", "ns"))
        integers = pd.DataFrame({"t": [1, 2], "h": [[1], []]})
        with self.assertRaisesRegex(ValueError, "`h`.*must say their unit"):
            schema.adapt(integers)

    def test_constant_and_given_moments(self):
        schema = Schema(item=[Numerical("x"), Numerical("y", mean=1, std=2)])
        df = pd.DataFrame({"x": [0.1, 0.1, 0.1], "y": [5.0, 6.0, 7.0]})
        adapted = schema.adapt(df)
        self.assertEqual(adapted.numerical("x").std, 1.0)
        self.assertEqual(adapted.numerical("y").mean, 1.0)


ERRORS = {
    "missing": (
        frame().drop(columns="viewed_time"),
        r"Column `viewed_time` is missing.*Received: a data frame with",
    ),
    "close": (
        frame().rename(columns={"viewed_time": "viewed_times"}),
        r"did you mean viewed_times",
    ),
    "empty": (frame().iloc[:0], "at least one row. Received: an empty"),
    "nan": (
        frame().assign(hour=[1.0, np.nan, 2.0]).set_axis(list("abc")),
        "Column `hour` must hold finite numbers.*Received: nan in row 'b'",
    ),
    "infinite": (
        frame().assign(hour=[1.0, 2.0, np.inf]),
        "Column `hour` must hold finite.*Received: inf in row 2",
    ),
    "strings_for_numbers": (
        frame().assign(hour=["1", "2", "3"]),
        r"Column `hour` must hold one number in each row. Received: '1'",
    ),
    "mixed_vocabulary": (
        frame().assign(bought_brand=[[1], [2], []]),
        "Column `bought_brand` must hold strings, like Column `brand`.*"
        "share the vocabulary of `brand`. Received: integers",
    ),
    "no_label": (
        frame().rename(columns={"click": "clicks"}),
        r"Column `click` is missing.*did you mean clicks",
    ),
    "no_request": (
        frame().drop(columns="request"),
        "Column `request` is missing: the schema needs it",
    ),
    "label_type": (
        frame().assign(click=["no", "yes", "no"]),
        "Column `click` must hold one number in each row. Received: 'no'",
    ),
    "request_type": (
        frame().assign(request=[0.5, 1.0, 2.0]),
        r"Column `request` must hold.*whole numbers.*Received: 0.5",
    ),
    "string_timestamp": (
        frame().assign(time="2024-01-01"),
        "Column `time` must hold one time in each row. Received: '2024-01-01'",
    ),
    "string_times_of_events": (
        frame().assign(viewed_time=[["2024-01-01"], [], []]),
        "Column `viewed_time` must hold one list of times in each row. "
        "Received: '2024-01-01'",
    ),
    "string_identity": (
        frame().assign(item_id=["a", "b", "c"]),
        "Column `item_id` must hold one integer in each row.*'hash' or "
        "'lookup'.*Received: 'a'",
    ),
    "list_identity": (
        frame().assign(slots=[1, 2, 3]),
        "Column `slots` must hold one list of integers in each row. "
        "Received: 1",
    ),
    "no_values": (
        frame().assign(country=[None, None, None]),
        "Column `country` must have at least one value to learn",
    ),
    "type": ([1, 2, 3], "`data` must be a data frame, or a path"),
    "path": ("no/such/*.parquet", "`paths` must lead to Parquet files"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_of_adapt(case):
    data, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        rich_schema().adapt(data)


@pytest.mark.parametrize("case", ERRORS)
def test_errors_of_adapt_to_parquet(case, tmp_path):
    data, message = ERRORS[case]
    if not isinstance(data, pd.DataFrame):
        pytest.skip("not a frame")
    data.reset_index(drop=True).to_parquet(tmp_path / "rows.parquet")
    message = message.replace("a data frame with", "the file .*with")
    message = message.replace("row 'b'", "row 1").split("an empty")[0]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        rich_schema().adapt(tmp_path)
