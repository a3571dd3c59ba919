import dataclasses
import json
import pathlib

import numpy as np
import pandas as pd
import pytest

import keras_unirec as ku
from keras_unirec.schema import Categorical
from keras_unirec.schema import Hash
from keras_unirec.schema import Identity
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Lookup
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from tests.test_case import TestCase


class VocabularyTest(TestCase):
    def test_names_are_shortcuts(self):
        for short, long, code in (
            (
                Categorical("c", 5),
                Categorical("c", vocabulary=Identity(5)),
                "Categorical(name='c', num_values=5)",
            ),
            (
                Categorical("c", 5, vocabulary="hash"),
                Categorical("c", vocabulary=Hash(5)),
                "Categorical(name='c', num_values=5, vocabulary='hash')",
            ),
            (
                Categorical("c", vocabulary="lookup"),
                Categorical("c", vocabulary=Lookup()),
                "Categorical(name='c', vocabulary='lookup')",
            ),
        ):
            self.assertEqual(short, long)
            self.assertEqual(hash(short), hash(long))
            self.assertEqual(short.get_config(), long.get_config())
            self.assertEqual(short.num_values, long.num_values)
            self.assertEqual(type(short.vocabulary), type(long.vocabulary))
            self.assertEqual(repr(short), code)
            self.assertEqual(repr(long), code)
        self.assertNotEqual(Categorical("c", 5), Categorical("c", 6))
        self.assertNotEqual(
            Categorical("c", vocabulary=Lookup(2)),
            Categorical("c", vocabulary="lookup"),
        )

    def test_size_of_the_column_and_of_the_part(self):
        both = Categorical("c", 5, vocabulary=Hash(5, dtype="string"))
        self.assertEqual(
            Categorical("c", 5, vocabulary=Hash(dtype="string")), both
        )
        self.assertEqual(both.num_values, 5)
        self.assertEqual(
            repr(both),
            "Categorical(name='c', vocabulary=Hash(num_values=5, "
            "dtype='string'))",
        )
        # Features that were given by names are changed as ever.
        larger = dataclasses.replace(Categorical("c", 5), num_values=6)
        self.assertEqual(larger, Categorical("c", 6))
        hashed = dataclasses.replace(larger, vocabulary="hash")
        self.assertEqual(hashed, Categorical("c", vocabulary=Hash(6)))

    def test_values_are_sorted_and_typed(self):
        feature = Categorical("c", vocabulary=Lookup(values=[7, -3, 9]))
        self.assertEqual(list(feature.values), [-3, 7, 9])
        self.assertEqual(feature.values.dtype, "int64")
        self.assertEqual((feature.dtype, feature.num_values), ("int64", 3))
        self.assertEqual(Categorical("c", 5).dtype, "int64")
        self.assertIsNone(Categorical("c", 5).values)
        strings = Lookup(values=np.array(["b", "a"]))
        self.assertEqual(list(strings.values), ["a", "b"])
        self.assertEqual(strings.dtype, "string")

    def test_json_of_learned_parts(self):
        schema = Schema(
            user=[
                Categorical("a", vocabulary=Hash(9)),
                Categorical("b", vocabulary=Lookup(min_count=2)),
                Categorical("c", share_with="b", vocabulary=Lookup(2)),
                Categorical("d", vocabulary=Identity(4)),
            ]
        )
        df = pd.DataFrame(
            {"a": ["x", "y"], "b": [5, 6], "c": [6, 7], "d": [0, 3]}
        )
        adapted = schema.adapt(df)
        self.assertEqual(list(adapted.categorical("c").values), [6])
        for one in (schema, adapted):
            again = Schema.from_json(one.to_json())
            self.assertEqual(again, one)
            self.assertEqual(again.to_json(), one.to_json())
            self.assertEqual(again.encoded, one.encoded)
        self.assertEqual(again.feature("b").vocabulary.min_count, 2)
        self.assertEqual(again.embeddings["a"].rows, 11)
        self.assertEqual(again.embeddings["b"].rows, 3)
        self.assertEqual(adapted.adapt(df.iloc[:1]), adapted)
        self.assertRegex(adapted.summary(), r"\bb .*lookup 1 \(min_count 2\)")

    def test_config_is_flat(self):
        values = {"dtype": "string", "packed": "eJyLVkpU0lFQSlKKBQAMtwJQ"}
        for config, feature in (
            ({"num_values": 5}, Categorical("c", 5)),
            ({"vocabulary": "lookup"}, Categorical("c", vocabulary="lookup")),
            (
                {"num_values": 9, "vocabulary": "hash", "dtype": "string"},
                Categorical("c", vocabulary=Hash(9, dtype="string")),
            ),
            (
                {
                    "num_values": 2,
                    "vocabulary": "lookup",
                    "dtype": "string",
                    "values": values,
                },
                Categorical("c", vocabulary=Lookup(values=["a", "b"])),
            ),
            (
                {
                    "num_values": 2,
                    "vocabulary": {"type": "Lookup", "min_count": 3},
                    "dtype": "string",
                    "values": values,
                },
                Categorical("c", vocabulary=Lookup(3, values=["a", "b"])),
            ),
            (
                {"share_with": "d", "vocabulary": "hash", "dtype": "string"},
                Categorical(
                    "c", share_with="d", vocabulary=Hash(dtype="string")
                ),
            ),
        ):
            config = {"type": "Categorical", "name": "c", **config}
            self.assertEqual(feature.get_config(), config)
            before = json.dumps(config)
            self.assertEqual(Categorical.from_config(config), feature)
            self.assertEqual(json.dumps(config), before)

    def test_config_may_say_what_goes_without_saying(self):
        for config, feature in (
            ({"num_values": 5, "dtype": "int64"}, Categorical("c", 5)),
            (
                {"num_values": 5, "vocabulary": "identity"},
                Categorical("c", 5),
            ),
            (
                {"share_with": "d", "dtype": "string"},
                Categorical("c", share_with="d"),
            ),
            (
                {"vocabulary": {"type": "Hash", "num_values": 5}},
                Categorical("c", 5, vocabulary="hash"),
            ),
        ):
            found = Categorical.from_config({"name": "c", **config})
            self.assertEqual(found, feature)


class MinCountTest(TestCase):
    def test_rare_values_are_unknown(self):
        df = pd.DataFrame(
            {
                "city": ["a", "b", "a", "c", None, ""],
                "shop": [7, 8, 8, 9, 9, 9],
                "tags": [[1, 1], [2], [], [3, 2], None, [4]],
            }
        )
        schema = Schema(
            user=[
                Categorical("city", vocabulary=Lookup(min_count=2)),
                Categorical("shop", vocabulary=Lookup(min_count=3)),
                Categorical("tags", vocabulary=Lookup(2), max_length=1),
            ]
        ).adapt(df)
        self.assertEqual(list(schema.feature("city").values), ["a"])
        self.assertEqual(list(schema.feature("shop").values), [9])
        # All entries of a list count, also those after `max_length`.
        self.assertEqual(list(schema.feature("tags").values), [1, 2])
        ids = ku.data.Preprocessing(schema).ids
        self.assertAllClose(ids("city", ["a", "b", "c", ""]), [2, 1, 1, 1])
        self.assertAllClose(ids("shop", [7, 8, 9]), [1, 1, 2])
        self.assertEqual(schema.embeddings["shop"].rows, 3)

    def test_columns_that_share_count_together(self):
        df = pd.DataFrame({"item": [1, 2, 3], "seen": [[2, 4], [4], [3, 3]]})
        schema = Schema(
            item=[Categorical("item", vocabulary=Lookup(min_count=2))],
            sequences=[
                Sequence("s", 1, [Categorical("seen", share_with="item")])
            ],
        )
        adapted = schema.adapt(df)
        self.assertEqual(list(adapted.feature("item").values), [2, 3, 4])

    def test_rows_of_item_tables_count(self):
        table = ItemTable(
            {"item": [1, 2, 3], "brand": ["x", "x", "y"]},
            "item",
            [Categorical("brand", vocabulary=Lookup(min_count=2))],
        )
        schema = Schema(
            item=[
                Categorical("item", vocabulary=Lookup(min_count=2), table=table)
            ]
        )
        adapted = schema.adapt(pd.DataFrame({"item": [2, 4]}))
        self.assertEqual(list(adapted.feature("brand").values), ["x"])
        self.assertEqual(list(adapted.feature("item").values), [2])

    def test_chunks_and_files_count_alike(self):
        rng = np.random.default_rng(0)
        numbers = rng.zipf(1.3, 200_000) % 10_000 - 50
        df = pd.DataFrame({"n": numbers, "s": numbers.astype("str")})
        schema = Schema(
            user=[
                Categorical("n", vocabulary=Lookup(min_count=5)),
                Categorical("s", vocabulary=Lookup(min_count=5)),
            ]
        )
        values, counts = np.unique(numbers, return_counts=True)
        expected = values[counts >= 5]
        self.assertLess(len(expected), len(values))
        adapted = schema.adapt(df)
        np.testing.assert_array_equal(adapted.feature("n").values, expected)
        self.assertEqual(
            list(adapted.feature("s").values), sorted(map(str, expected))
        )
        path = pathlib.Path(self.get_temp_dir()) / "rows.parquet"
        df.to_parquet(path, row_group_size=30_000)
        self.assertEqual(schema.adapt(path), adapted)

    def test_given_values_are_kept(self):
        schema = Schema(
            user=[
                Categorical("c", vocabulary=Lookup(min_count=9, values=[1, 2]))
            ]
        )
        self.assertEqual(schema.adapt(pd.DataFrame({"c": [1]})), schema)

    def test_no_value_is_frequent_enough(self):
        schema = Schema(user=[Categorical("c", vocabulary=Lookup(3))])
        with self.assertRaisesRegex(
            ValueError,
            "`min_count` of the `Lookup` of `c` must leave a value.* 2 times. "
            "Received: min_count=3",
        ):
            schema.adapt(pd.DataFrame({"c": ["a", "a", "b"]}))


ERRORS = {
    "duplicate_values": (
        lambda: Categorical("c", vocabulary=Lookup(values=["a", "a"])),
        "`values`.*without duplicates",
    ),
    "values_type": (
        lambda: Lookup(values=[1.5, 2.0]),
        "`values` of `Lookup` must hold integers or strings",
    ),
    "mixed_values": (
        lambda: Lookup(values=np.array(["a", None], dtype=object)),
        "`values` of `Lookup` must hold integers or strings",
    ),
    "nested_values": (
        lambda: Lookup(values=[[1, 2]]),
        "`values` of `Lookup` must be a flat array",
    ),
    "values_string": (
        lambda: Lookup(values="abc"),
        "`values` of `Lookup` must be a flat array. Received: values='abc'",
    ),
    "large_values": (
        lambda: Lookup(values=[2**63]),
        "`values` of `Lookup` must fit into int64. Received: 92233",
    ),
    "values_dtype": (
        lambda: Lookup(values=[1], dtype="string"),
        "`values` of `Lookup` must be of dtype='string'",
    ),
    "dtype": (
        lambda: Hash(5, dtype="float32"),
        r"`dtype` of `Hash` must be one of \[None, 'int64', 'string'\]. "
        "Received: dtype='float32'",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


@pytest.mark.parametrize("value", ["3", True, -1, 0, 2.5, float("nan"), [3]])
@pytest.mark.parametrize(
    ("part", "argument"),
    [(Identity, "num_values"), (Hash, "num_values"), (Lookup, "min_count")],
)
def test_counts_are_positive_integers(part, argument, value):
    message = (
        f"`{argument}` of `{part.__name__}` must be a positive integer. "
        f"Received: {argument}="
    )
    with pytest.raises(ValueError, match=message):
        part(**{argument: value})
    with pytest.raises(ValueError, match=message):
        part(value)


def test_min_count_is_not_none():
    with pytest.raises(ValueError, match="`min_count`.*min_count=None"):
        Lookup(min_count=None)
