import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from keras_unirec import schema as schemas
from keras_unirec.schema import Categorical
from keras_unirec.schema import Encoded
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Label
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from keras_unirec.schema import Timestamp
from keras_unirec.schema.encoded import default_embedding_dim
from tests.test_case import TestCase

ROOT = pathlib.Path(__file__).resolve().parent.parent
KUAIRAND = ROOT.parent / "shared" / "data" / "kuairand_tiny"


def items():
    return pd.DataFrame(
        {
            "item_id": [0, 3, 7],
            "brand": ["x", "y", "x"],
            "words": [["a", "b"], [], ["c"]],
            "price": [1.0, 2.0, 6.0],
        }
    )


def rich_schema(table=None):
    table = table or ItemTable(
        items(),
        key="item_id",
        features=[
            Categorical("brand", vocabulary="lookup"),
            Categorical("words", vocabulary="lookup", max_length=2),
            Numerical("price"),
        ],
    )
    return Schema(
        user=[Categorical("country", vocabulary="lookup")],
        context=[
            Categorical("page", 20, vocabulary="hash"),
            Numerical("hour"),
        ],
        item=[
            Categorical("item_id", 10, 16, table=table),
            Categorical("slots", 4, max_length=3, pooling="sum"),
        ],
        sequences=[
            Sequence(
                "viewed",
                5,
                [
                    Categorical("viewed_id", share_with="item_id"),
                    Timestamp("viewed_time", unit="s"),
                ],
            ),
            Sequence(
                "bought", 3, [Categorical("bought_brand", share_with="brand")]
            ),
        ],
        labels=[Label("click")],
        request_id="request",
        group_id="country",
        timestamp=Timestamp("time", unit="s"),
    )


def frame():
    return pd.DataFrame(
        {
            "country": ["de", "fr", None],
            "page": ["home", "search", "home"],
            "hour": [1.0, 3.0, 8.0],
            "item_id": [3, 7, 9],
            "slots": [[0], [1, 2], []],
            "viewed_id": [[0, 3], [], [7]],
            "viewed_time": [[10, 20], [], [30]],
            "bought_brand": [["z"], ["x"], []],
            "time": [100, 110, 120],
            "click": [0, 1, 0],
            "request": ["a", "b", "c"],
        }
    )


class SchemaTest(TestCase):
    def test_encoded_inputs(self):
        schema = rich_schema()
        found = [(e.key, e.kind, e.side, e.embedding) for e in schema.encoded]
        self.assertEqual(
            found,
            [
                ("country", "id", "user", "country"),
                ("page", "id", "user", "page"),
                ("hour", "number", "user", None),
                ("viewed.length", "length", "user", None),
                ("viewed.count", "count", "user", None),
                ("bought.length", "length", "user", None),
                ("bought.count", "count", "user", None),
                ("item_id", "id", "item", "item_id"),
                ("item_id.brand", "id", "item", "brand"),
                ("item_id.words", "id", "item", "words"),
                ("item_id.price", "number", "item", None),
                ("slots", "id", "item", "slots"),
                ("viewed_id", "id", "user", "item_id"),
                ("viewed_id.brand", "id", "user", "brand"),
                ("viewed_id.words", "id", "user", "words"),
                ("viewed_id.price", "number", "user", None),
                ("viewed_time", "gap", "user", "viewed_time"),
                ("bought_brand", "id", "user", "brand"),
            ],
        )
        by_key = {encoded.key: encoded for encoded in schema.encoded}
        self.assertEqual(
            by_key["viewed_id.words"],
            Encoded(
                "viewed_id.words",
                "id",
                "user",
                "sequence",
                "words",
                2,
                "mean",
                "viewed",
                "words",
            ),
        )
        self.assertEqual(by_key["page"].group, "context")
        self.assertEqual(by_key["slots"].pooling, "sum")
        self.assertEqual(by_key["slots"].shape, (None, 3))
        self.assertEqual(by_key["viewed_id.words"].shape, (None, 2))
        self.assertEqual(by_key["viewed.count"].shape, ())
        self.assertEqual(by_key["viewed.count"].dtype, "float32")
        self.assertEqual(by_key["viewed_time"].dtype, "int32")

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

    def test_json_round_trip_with_what_it_learned(self):
        for schema in (rich_schema(), rich_schema().adapt(frame())):
            text = schema.to_json()
            again = Schema.from_json(text)
            self.assertEqual(again, schema)
            self.assertEqual(hash(again), hash(schema))
            self.assertEqual(again.to_json(), text)
            self.assertEqual(again.encoded, schema.encoded)
            self.assertEqual(
                Schema.from_config(json.loads(json.dumps(again.get_config()))),
                schema,
            )
        self.assertNotEqual(rich_schema(), rich_schema().adapt(frame()))
        table = again.feature("item_id").table
        self.assertEqual(list(table.data["brand"].strings()), ["x", "y", "x"])
        self.assertEqual(list(table.data["words"].offsets[0]), [0, 2, 2, 3])

    def test_json_refuses_what_it_does_not_know(self):
        config = rich_schema().get_config()
        with self.assertRaisesRegex(ValueError, r"Received: \['color'\]"):
            Schema.from_config({**config, "color": "red"})
        with self.assertRaisesRegex(ValueError, "Received: type='Tree'"):
            Schema.from_config({"item": [{"type": "Tree", "name": "x"}]})

    def test_inputs(self):
        schema = rich_schema().adapt(frame())
        user, item = schema.inputs()
        self.assertEqual(
            {*user, *item}, {encoded.key for encoded in schema.encoded}
        )
        self.assertEqual(
            set(item),
            {
                "item_id",
                "item_id.brand",
                "item_id.words",
                "item_id.price",
                "slots",
            },
        )
        self.assertEqual(item["slots"].shape, (None, None, 3))
        self.assertEqual(user["country"].shape, (None,))
        self.assertEqual(user["viewed_id.words"].shape, (None, None, 2))
        self.assertEqual(user["hour"].dtype, "float32")
        self.assertEqual(user["viewed_time"].dtype, "int32")
        with self.assertRaisesRegex(ValueError, "must be adapted"):
            rich_schema().inputs()

    def test_no_tensorflow_at_import(self):
        code = (
            "import sys; from importlib import util\n"
            "import types; package = types.ModuleType('keras_unirec')\n"
            "package.__path__ = ['keras_unirec']\n"
            "sys.modules['keras_unirec'] = package\n"
            "import keras_unirec.schema\n"
            "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

    def test_default_embedding_dim(self):
        dims = [
            default_embedding_dim(n)
            for n in (1, 2, 16, 100, 1_000, 7_583, 10**6, 10**9)
        ]
        self.assertEqual(dims, [4, 4, 4, 8, 20, 40, 64, 64])

    def test_gap_boundaries(self):
        boundaries = np.array(schemas.GAP_BOUNDARIES)
        self.assertTrue((np.diff(boundaries) > 0).all())
        np.testing.assert_array_equal(
            boundaries.astype("float32").astype("int64"), boundaries
        )
        self.assertEqual(list(boundaries[:5]), [1, 2, 3, 5, 7])
        self.assertGreater(boundaries[-1], 30 * 365 * 24 * 3600)
        self.assertLess(boundaries[-1], 2**31)

    def test_summary(self):
        schema = rich_schema()
        text = schema.summary()
        self.assertIn("still to learn: the values of `country`", text)
        text = schema.adapt(frame()).summary()
        self.assertNotIn("still to learn", text)
        self.assertRegex(text, r"item_id +item +id +identity 10 +12 x 16")
        self.assertRegex(text, r"viewed_id .*shares item_id")
        self.assertRegex(text, r"slots +item +id x 3")
        self.assertIn("timestamp: time (s)", text)

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

    def test_repr_is_python(self):
        schema = rich_schema()
        schema = dataclasses.replace(
            schema,
            item=[Categorical("item_id", 10, 16)],
            sequences=schema.sequences[:1],
        )
        text = repr(schema)
        self.assertEqual(eval(text, vars(schemas)), schema)
        self.assertIn(
            "    context=[\n        Categorical(name='page', num_values=20,",
            text,
        )
        adapted = repr(rich_schema().adapt(frame()))
        self.assertIn("values=<2 values>", adapted)
        self.assertIn("data=<3 rows of", adapted)

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


ARGUMENT_ERRORS = {
    "name": (lambda: Categorical("", 3), "`name` must be the name of a column"),
    "slash": (lambda: Label("a/b"), "has no '/'"),
    "num_values": (
        lambda: Categorical("c"),
        r"`num_values` of `Categorical\('c'\)`.*Received: None",
    ),
    "num_values_type": (
        lambda: Categorical("c", 2.5),
        "`num_values`.*must be a positive integer. Received: num_values=2.5",
    ),
    "zero": (lambda: Categorical("c", 0), "positive integer. Received: .*=0"),
    "lookup_num_values": (
        lambda: Categorical("c", 5, vocabulary="lookup"),
        "`num_values`.*must be None with vocabulary='lookup'",
    ),
    "vocabulary": (
        lambda: Categorical("c", 5, vocabulary="ids"),
        r"`vocabulary`.*one of \['identity', 'hash', 'lookup'\].*'ids'",
    ),
    "pooling": (
        lambda: Categorical("c", 5, pooling="max"),
        "`pooling`.*Received: pooling='max'",
    ),
    "unknown": (
        lambda: Categorical("c", 5, unknown="drop"),
        "`unknown`.*Received: unknown='drop'",
    ),
    "identity_of_strings": (
        lambda: Categorical("c", 5, dtype="string"),
        "`dtype`.*strings need 'hash' or 'lookup'",
    ),
    "values_without_lookup": (
        lambda: Categorical("c", 5, values=[1, 2]),
        "`values`.*unless vocabulary='lookup'",
    ),
    "duplicate_values": (
        lambda: Categorical("c", vocabulary="lookup", values=["a", "a"]),
        "`values`.*without duplicates",
    ),
    "share_with_itself": (
        lambda: Categorical("c", share_with="c"),
        "`share_with`.*must name another feature. Received: 'c'",
    ),
    "shared_table": (
        lambda: Categorical(
            "c", share_with="d", table=ItemTable({"k": [1]}, "k", [Label("x")])
        ),
        "`features` must hold `Categorical` or `Numerical` only",
    ),
    "hashed_table": (
        lambda: Categorical(
            "item_id",
            9,
            vocabulary="hash",
            table=ItemTable(items(), "item_id", [Numerical("price")]),
        ),
        "`vocabulary`.*two keys may hash to one bucket",
    ),
    "multi_valued_table": (
        lambda: Categorical(
            "item_id",
            9,
            max_length=2,
            table=ItemTable(items(), "item_id", [Numerical("price")]),
        ),
        "`max_length`.*must be None to carry an `ItemTable`",
    ),
    "mean_without_std": (
        lambda: Numerical("n", mean=1.0),
        "`mean` and `std`.*must be given together",
    ),
    "std": (lambda: Numerical("n", mean=0, std=0), "`std`.*positive"),
    "nan_mean": (
        lambda: Numerical("n", mean=float("nan"), std=1),
        "`mean`.*must be a finite number. Received: mean=nan",
    ),
    "unit": (
        lambda: Timestamp("t", unit="h"),
        "`unit` of `Timestamp.*Received: unit='h'",
    ),
    "sequence_length": (
        lambda: Sequence("s", None, [Numerical("n")]),
        "`max_length` of `Sequence.*Received: max_length=None",
    ),
    "sequence_features": (
        lambda: Sequence("s", 3, []),
        "`features` of `Sequence.*at least one list column",
    ),
    "feature_type": (
        lambda: Sequence("s", 3, ["clicks"]),
        "`features` must hold `Categorical` or `Numerical` or `Timestamp` "
        "only. Received: 'clicks'",
    ),
    "sort_by": (
        lambda: Sequence("s", 3, [Numerical("n")], sort_by="n"),
        "`sort_by`.*must name one of its `Timestamp` features",
    ),
    "table_key": (
        lambda: ItemTable(items(), "id", [Numerical("price")]),
        "Column `id` is missing.*an `ItemTable` with the columns",
    ),
    "table_duplicate": (
        lambda: ItemTable(
            {"item_id": [4, 5, 4], "price": [1.0, 2.0, 3.0]},
            "item_id",
            [Numerical("price")],
        ),
        "Key column `item_id`.*each key once: `drop_duplicates.*Received: 4 "
        "in row 0 and in row 2",
    ),
    "table_duplicate_of_a_frame_with_an_index": (
        lambda: ItemTable(
            pd.DataFrame(
                {"item_id": ["x", "y", "x"], "price": [1.0, 2.0, 3.0]},
                index=["a", "b", "c"],
            ),
            "item_id",
            [Numerical("price")],
        ),
        r"Received: 'x' in row 'a' \(index label\) and in row 'c' "
        r"\(index label\)",
    ),
    "table_missing_key": (
        lambda: ItemTable(
            {"item_id": ["a", None], "price": [1.0, 2.0]},
            "item_id",
            [Numerical("price")],
        ),
        "Key column `item_id`.*no missing keys.*a missing key in row 1",
    ),
    "table_nan": (
        lambda: ItemTable(
            {"item_id": [4, 5], "price": [1.0, np.nan]},
            "item_id",
            [Numerical("price")],
        ),
        "Column `price` must hold finite numbers.*Received: nan in row 1",
    ),
    "table_empty": (
        lambda: ItemTable(items().iloc[:0], "item_id", [Numerical("price")]),
        "`data` of `ItemTable.*must have rows. Received: an empty table",
    ),
    "table_type": (
        lambda: ItemTable([1, 2], "item_id", [Numerical("price")]),
        "`data` of `ItemTable` must be a data frame or a dict",
    ),
    "table_lists": (
        lambda: ItemTable(
            items(), "item_id", [Categorical("words", vocabulary="lookup")]
        ),
        "Column `words` must hold one integer or string in each row. "
        "Received: .*list.*in row 0",
    ),
    "empty": (lambda: Schema(), "`Schema` must have at least one feature"),
    "side_type": (
        lambda: Schema(user=Numerical("n")),
        "`user` must be a list of `Categorical` or `Numerical`",
    ),
    "timestamp_among_features": (
        lambda: Schema(user=[Timestamp("t", "s")]),
        "`user` must hold `Categorical` or `Numerical` only",
    ),
    "timestamp_type": (
        lambda: Schema(user=[Numerical("n")], timestamp="time"),
        "`timestamp` must be a `Timestamp`.*Received: timestamp='time'",
    ),
    "no_timestamp": (
        lambda: Schema(sequences=[Sequence("s", 3, [Timestamp("t", "s")])]),
        r"`timestamp` must name the column.*`Sequence\('s'\)`.*timestamp=None",
    ),
    "same_feature_twice": (
        lambda: Schema(user=[Numerical("n")], item=[Numerical("n")]),
        "`n` must be the name of one feature.*in `user` and in `item`",
    ),
    "table_name_clash": (
        lambda: Schema(
            user=[Numerical("price")],
            item=[
                Categorical(
                    "item_id",
                    9,
                    table=ItemTable(items(), "item_id", [Numerical("price")]),
                )
            ],
        ),
        "`price` must be the name of one feature.*`ItemTable` of `item_id`",
    ),
    "label_is_a_feature": (
        lambda: Schema(user=[Numerical("n")], labels=[Label("n")]),
        "`labels` must not name a feature. Received: 'n'",
    ),
    "label_is_the_timestamp": (
        lambda: Schema(
            user=[Numerical("n")],
            labels=[Label("t")],
            timestamp=Timestamp("t", "s"),
        ),
        "`timestamp` must not be a label",
    ),
    "label_is_the_group": (
        lambda: Schema(
            user=[Numerical("n")], labels=[Label("t")], group_id="t"
        ),
        "`group_id` must not be a label",
    ),
    "group_is_a_number": (
        lambda: Schema(user=[Numerical("n")], group_id="n"),
        "`group_id` must name a column of ids.*group_id='n'.*Numerical",
    ),
    "request_is_a_list": (
        lambda: Schema(
            user=[Categorical("n", 3, max_length=2)], request_id="n"
        ),
        "`request_id` must name a column of ids.*request_id='n'",
    ),
    "labels_twice": (
        lambda: Schema(user=[Numerical("n")], labels=[Label("t"), Label("t")]),
        "`labels` must have different names",
    ),
    "sequences_twice": (
        lambda: Schema(
            sequences=[
                Sequence("s", 2, [Numerical("a")]),
                Sequence("s", 2, [Numerical("b")]),
            ]
        ),
        "`sequences` must have different names",
    ),
    "input_clash": (
        lambda: Schema(
            user=[Numerical("s.length")],
            sequences=[Sequence("s", 2, [Numerical("a")])],
        ),
        "inputs must have different names.*Received: 's.length' twice",
    ),
    "signature_clash": (
        lambda: Schema(
            user=[Numerical("s_length")],
            sequences=[Sequence("s", 2, [Numerical("a")])],
        ),
        "exported model must have different names.*'s_length' twice",
    ),
    "same_letters": (
        lambda: Schema(
            user=[
                Categorical("user segment", 3),
                Categorical("user_segment", 3),
            ]
        ),
        "must differ in letters, digits.*Rename one. Received: 'user segment' "
        "and 'user_segment'",
    ),
    "same_letters_of_lengths": (
        lambda: Schema(
            sequences=[
                Sequence("my seq", 2, [Numerical("a")]),
                Sequence("my-seq", 2, [Numerical("b")]),
            ]
        ),
        "Received: 'my seq_length' and 'my-seq_length'",
    ),
    "same_letters_in_a_table": (
        lambda: Schema(
            user=[Categorical("the brand", vocabulary="lookup")],
            item=[
                Categorical(
                    "item_id",
                    9,
                    table=ItemTable(
                        {"item_id": [1], "the_brand": ["x"]},
                        "item_id",
                        [Categorical("the_brand", vocabulary="lookup")],
                    ),
                )
            ],
        ),
        "Received: 'the brand' and 'the_brand'",
    ),
    "share_with_nothing": (
        lambda: Schema(
            user=[Categorical("a", 3), Categorical("b", share_with="c")]
        ),
        r"`share_with` of `Categorical\('b'\)` must name a categorical, one "
        r"of \['a'\]. Received: share_with='c'",
    ),
    "share_with_a_sharer": (
        lambda: Schema(
            user=[
                Categorical("a", 3),
                Categorical("b", share_with="a"),
                Categorical("c", share_with="b"),
            ]
        ),
        "must name the feature that owns the embedding, 'a'",
    ),
    "share_with_other_size": (
        lambda: Schema(
            user=[Categorical("a", 3), Categorical("b", 4, share_with="a")]
        ),
        "`num_values` of `Categorical.*must be that of share_with='a', 3",
    ),
    "table_key_range": (
        lambda: Schema(
            item=[
                Categorical(
                    "item_id",
                    7,
                    table=ItemTable(items(), "item_id", [Numerical("price")]),
                )
            ]
        ),
        r"Column `item_id` of the `ItemTable` must hold ids in \[0, 7\).*"
        "Received: 7 in the row of item_id=7",
    ),
    "table_feature_dtype": (
        lambda: Schema(
            item=[
                Categorical(
                    "item_id",
                    9,
                    table=ItemTable(
                        items(), "item_id", [Categorical("brand", 3)]
                    ),
                )
            ]
        ),
        "Column `brand` of the `ItemTable` must hold values of dtype 'int64'.*"
        "Received: 'x'",
    ),
    "lookup_feature": (
        lambda: Schema(user=[Numerical("n")]).feature("m"),
        r"`name` must be one of \['n'\]. Received: name='m'",
    ),
    "lookup_kind": (
        lambda: Schema(user=[Numerical("n")]).categorical("n"),
        "must be a `Categorical`. Received: name='n', a Numerical",
    ),
}


@pytest.mark.parametrize("case", ARGUMENT_ERRORS)
def test_errors_of_arguments(case):
    make, message = ARGUMENT_ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


ADAPT_ERRORS = {
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


@pytest.mark.parametrize("case", ADAPT_ERRORS)
def test_errors_of_adapt(case):
    data, message = ADAPT_ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        rich_schema().adapt(data)


@pytest.mark.parametrize("case", ADAPT_ERRORS)
def test_errors_of_adapt_to_parquet(case, tmp_path):
    data, message = ADAPT_ERRORS[case]
    if not isinstance(data, pd.DataFrame):
        pytest.skip("not a frame")
    data.reset_index(drop=True).to_parquet(tmp_path / "rows.parquet")
    message = message.replace("a data frame with", "the file .*with")
    message = message.replace("row 'b'", "row 1").split("an empty")[0]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        rich_schema().adapt(tmp_path)
