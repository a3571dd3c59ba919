import pathlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from keras_unirec import data
from keras_unirec.data import preprocessing as preprocessing_lib
from keras_unirec.schema import Categorical
from keras_unirec.schema import Hash
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Label
from keras_unirec.schema import Lookup
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from keras_unirec.schema import Timestamp
from tests.test_case import TestCase

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUAIRAND = ROOT.parent / "shared" / "data" / "kuairand_tiny"
MISSING = -(2**63)


def random_frame(rows=200, seed=0):
    """Every kind of column, with missing values and empty lists."""
    rng = np.random.default_rng(seed)
    words = np.array(["red", "green", "blue", "", "grün"], dtype=object)

    def lists(make, longest=12):
        return [make(rng.integers(0, longest + 1)) for _ in range(rows)]

    lengths = rng.integers(0, 13, rows)
    times = rng.integers(1_700_000_000, 1_700_900_000, rows)
    df = pd.DataFrame(
        {
            "user": rng.integers(0, 50, rows).astype("float64"),
            "country": rng.choice(words, rows),
            "device": rng.integers(-(10**15), 10**15, rows),
            "agent": rng.choice(words, rows),
            "age": rng.normal(40, 10, rows).astype("float32"),
            "langs": lists(lambda n: list(rng.choice(words, n)), 5),
            "item": rng.integers(0, 30, rows),
            "shop": rng.integers(0, 10**12, rows) // 10**10,
            "tags": lists(lambda n: list(rng.integers(0, 9, n)), 5),
            "match": rng.normal(size=rows).astype("float32"),
            "time": times * 1000 + 250,
            "seen": [list(rng.integers(0, 30, n)) for n in lengths],
            "seen_time": [
                list(time - rng.integers(-5, 10**6, n))
                for time, n in zip(times, lengths)
            ],
            "seen_price": [list(rng.normal(size=n)) for n in lengths],
            "seen_words": [
                [list(rng.choice(words, rng.integers(0, 4))) for _ in range(n)]
                for n in lengths
            ],
            "bought_shop": lists(lambda n: list(rng.integers(0, 99, n)), 3),
            "click": rng.integers(0, 2, rows),
        }
    )
    df.loc[3, "user"] = np.nan
    df.loc[4, "country"] = None
    df.loc[[5, 9], "agent"] = None
    df.at[6, "seen_words"] = [
        None if i == 0 else [None, "red"] for i in range(lengths[6])
    ]
    if lengths[7]:
        df.at[7, "seen_time"] = [None] + df.at[7, "seen_time"][1:]
    df.at[8, "bought_shop"] = None
    return df


def table():
    rng = np.random.default_rng(1)
    return ItemTable(
        {
            "item": np.arange(2, 28),
            "brand": rng.integers(0, 5, 26),
            "material": rng.choice(["wood", "steel"], 26).astype(object),
            "words": [list("ab"), [], list("bcd")] + [["a"]] * 23,
            "price": rng.normal(10, 3, 26),
        },
        key="item",
        features=[
            Categorical("brand", 5),
            Categorical("material", 7, vocabulary="hash"),
            Categorical("words", vocabulary="lookup", max_length=2),
            Numerical("price"),
        ],
    )


def rich_schema():
    return Schema(
        user=[
            Categorical("user", 50),
            Categorical("country", vocabulary="lookup"),
            Categorical("langs", vocabulary="lookup", max_length=3),
            Numerical("age"),
        ],
        context=[
            Categorical("device", 1000, vocabulary="hash"),
            Categorical("agent", 100, vocabulary="hash"),
        ],
        item=[
            Categorical("item", 30, table=table()),
            Categorical("shop", vocabulary="lookup"),
            Categorical("tags", 9, max_length=4),
            Numerical("match"),
        ],
        sequences=[
            Sequence(
                "views",
                7,
                [
                    Categorical("seen", share_with="item"),
                    Timestamp("seen_time", unit="s"),
                    Numerical("seen_price"),
                    Categorical(
                        "seen_words", share_with="country", max_length=2
                    ),
                ],
                sort_by="seen_time",
            ),
            Sequence(
                "buys", 2, [Categorical("bought_shop", share_with="shop")]
            ),
        ],
        labels=[Label("click")],
        timestamp=Timestamp("time", unit="ms"),
    )


def to_dense(values, dtype):
    """Lists (of lists) as a right padded array, and all lengths."""
    missing = {"int64": MISSING, "string": "", "float32": np.nan}[dtype]
    numpy_dtype = object if dtype == "string" else dtype

    def is_missing(value):
        return value is None or (
            isinstance(value, float) and dtype != "float32" and np.isnan(value)
        )

    def clean(value):
        return missing if is_missing(value) else value

    values = list(values)
    is_list = [isinstance(v, (list, np.ndarray)) for v in values]
    if not any(is_list):
        return np.array([clean(v) for v in values], numpy_dtype), None, None
    rows = [list(v) if yes else [] for v, yes in zip(values, is_list)]
    lengths = np.array([len(row) for row in rows], "int64")
    width = lengths.max() + 2  # More padding than needed, of garbage.
    garbage = {"int64": 77, "string": "red", "float32": 5.0}[dtype]
    nested = any(isinstance(v, list) for row in rows for v in row)
    if not nested:
        dense = np.full((len(rows), width), garbage, numpy_dtype)
        for i, row in enumerate(rows):
            dense[i, : len(row)] = [clean(v) for v in row]
        return dense, lengths, None
    rows = [[v or [] for v in row] for row in rows]
    steps = np.full((len(rows), width), 3, "int64")
    longest = max(len(v) for row in rows for v in row) + 1
    dense = np.full((len(rows), width, longest), garbage, numpy_dtype)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            steps[i, j] = len(value)
            dense[i, j, : len(value)] = [clean(v) for v in value]
    return dense, lengths, steps


def raw_tensors(df, schema, signature):
    """The dense raw inputs of rows, written without the library."""
    raw = {}
    sequence_of = {
        feature.name: sequence
        for sequence in schema.sequences
        for feature in sequence.features
    }
    for name, spec in signature.items():
        if name not in df:
            continue
        dense, lengths, steps = to_dense(df[name], spec.dtype.name)
        is_item = name in [feature.name for feature in schema.item]
        if name in sequence_of:
            raw[f"{sequence_of[name].name}_length"] = lengths
            lengths = steps
        if lengths is not None:
            raw[f"{name}_length"] = lengths[:, None] if is_item else lengths
        raw[name] = dense[:, None] if is_item else dense
    return raw


def assert_no_skew(df, schema, encode_user=None):
    preprocessing = data.Preprocessing(schema)
    user = raw_tensors(df, schema, preprocessing.user_signature())
    item = raw_tensors(df, schema, preprocessing.item_signature())
    assert set(user) == set(preprocessing.user_signature())
    assert set(item) == set(preprocessing.item_signature())
    encoded = {**preprocessing.user(user), **preprocessing.item(item)}
    (batch,) = data.from_pandas(df, schema, len(df), labels=False)
    for one in schema.encoded:
        pipeline, dense = batch[0][one.key].numpy(), encoded[one.key].numpy()
        if one.sequence and pipeline.ndim > 1:
            width = min(pipeline.shape[1], dense.shape[1])
            padding = -1 if one.kind == "gap" else 0
            assert (pipeline[:, width:] == padding).all(), one.key
            assert (dense[:, width:] == padding).all(), one.key
            pipeline, dense = pipeline[:, :width], dense[:, :width]
        assert pipeline.dtype == dense.dtype == one.dtype, one.key
        np.testing.assert_array_equal(pipeline, dense, err_msg=one.key)
    return user, item, encoded


class PreprocessingTest(TestCase):
    def test_no_skew_between_pipeline_and_dense_tensors(self):
        df = random_frame()
        schema = rich_schema().adapt(df)
        assert_no_skew(df, schema)
        # A schema that travelled, on rows with values that it never saw.
        schema = Schema.from_json(rich_schema().adapt(df[:40]).to_json())
        assert_no_skew(random_frame(seed=1), schema)

    def test_no_skew_on_real_files(self):
        if not KUAIRAND.exists():
            pytest.skip(f"no files in {KUAIRAND}")
        df = pd.read_parquet(KUAIRAND / "train.parquet")
        items = pd.read_parquet(KUAIRAND / "items.parquet")
        items["tag"] = items["tag"].fillna("").str.split(",")
        videos = ItemTable(
            items,
            "video_id",
            [
                Categorical("author_id", vocabulary="lookup"),
                Categorical("tag", vocabulary="lookup", max_length=3),
            ],
        )
        schema = Schema(
            user=[Categorical("user_id", 1000, vocabulary="hash")],
            context=[Categorical("tab", 16)],
            item=[Categorical("video_id", 7_583, table=videos)],
            sequences=[
                Sequence(
                    "watched",
                    20,
                    [
                        Categorical("hist_video_id", share_with="video_id"),
                        Categorical("hist_tab", share_with="tab"),
                        Timestamp("hist_time_s", unit="s"),
                    ],
                )
            ],
            timestamp=Timestamp("time_ms", unit="ms"),
        ).adapt(df)
        _, _, encoded = assert_no_skew(df, schema)
        # Raw 0 is a value: tab 0 is 2, and 0 is only padding.
        tabs = encoded["tab"].numpy()
        np.testing.assert_array_equal(tabs, df["tab"] + 2)
        self.assertIn(2, tabs)

    def test_export_gives_the_same_numbers(self):
        df = random_frame()
        schema = rich_schema().adapt(df)
        preprocessing = data.Preprocessing(schema)
        user, item, encoded = assert_no_skew(df, schema)
        module = tf.Module()
        module.preprocessing = preprocessing
        signatures = {
            "user": tf.function(
                lambda **raw: preprocessing.user(raw)
            ).get_concrete_function(**preprocessing.user_signature()),
            "item": tf.function(
                lambda **raw: preprocessing.item(raw)
            ).get_concrete_function(**preprocessing.item_signature()),
        }
        folder = self.get_temp_dir()
        tf.saved_model.save(module, folder, signatures=signatures)
        loaded = tf.saved_model.load(folder).signatures
        for name, raw, specs in (
            ("user", user, preprocessing.user_signature()),
            ("item", item, preprocessing.item_signature()),
        ):
            outputs = loaded[name](
                **{
                    key: tf.convert_to_tensor(value, specs[key].dtype)
                    for key, value in raw.items()
                }
            )
            for key, value in outputs.items():
                np.testing.assert_array_equal(value, encoded[key], err_msg=key)

    def test_runs_under_xla_without_strings(self):
        df = random_frame()
        schema = Schema(
            user=[Categorical("device", 1000, vocabulary="hash")],
            item=[
                Categorical("shop", vocabulary="lookup"),
                Categorical("tags", 9, max_length=4),
                Numerical("match"),
            ],
            sequences=[
                Sequence(
                    "views",
                    7,
                    [
                        Categorical("seen", 30),
                        Timestamp("seen_time", unit="s"),
                    ],
                    sort_by="seen_time",
                )
            ],
            timestamp=Timestamp("time", unit="ms"),
        ).adapt(df)
        preprocessing = data.Preprocessing(schema)
        user, item, encoded = assert_no_skew(df, schema)

        @tf.function(jit_compile=True)
        def encode(user, item):
            return {**preprocessing.user(user), **preprocessing.item(item)}

        compiled = encode(user, item)
        for key, value in compiled.items():
            self.assertAllClose(value, encoded[key])

    def test_ids(self):
        schema = Schema(
            user=[
                Categorical("identity", 5),
                Categorical("numbers", vocabulary=Lookup(values=[7, -3, 9])),
                Categorical("texts", vocabulary=Lookup(values=["b", "a", ""])),
                Categorical("hashed", 10, vocabulary=Hash(dtype="string")),
                Categorical("hashed_int", 10, vocabulary=Hash(dtype="int64")),
            ]
        )
        ids = data.Preprocessing(schema).ids
        self.assertAllClose(
            ids("identity", [0, 4, 5, -1, MISSING]), [2, 6, 1, 1, 1]
        )
        self.assertAllClose(
            ids("numbers", [[-3, 7], [9, 8], [10, MISSING]]),
            [[2, 3], [4, 1], [1, 1]],
        )
        # An empty string is missing, even where a vocabulary names it.
        self.assertAllClose(ids("texts", ["a", "b", "", "c"]), [3, 4, 1, 1])
        hashed = ids("hashed", ["x", "y", "x", ""]).numpy()
        self.assertEqual(hashed[0], hashed[2])
        self.assertEqual(hashed[3], 1)
        self.assertTrue((hashed[:3] > 1).all() and (hashed < 12).all())
        self.assertEqual(int(ids("hashed_int", MISSING)), 1)
        self.assertEqual(ids("hashed_int", 3).dtype, tf.int32)

    def test_columns_that_are_shorter_than_their_length(self):
        schema = Schema(
            sequences=[
                Sequence(
                    "seen",
                    3,
                    [
                        Categorical("a", 9),
                        Categorical("b", 9, max_length=2),
                        Timestamp("t", unit="s"),
                    ],
                    sort_by="t",
                )
            ],
            timestamp=Timestamp("now", unit="s"),
        )
        user = tf.function(data.Preprocessing(schema).user)

        def encode(a, b, t, length=5):
            encoded = user(
                {
                    "a": tf.constant([a], tf.int64),
                    "b": tf.reshape(tf.constant(b, tf.int64), [1, len(b), 1]),
                    "b_length": tf.ones([1, len(b)], tf.int64),
                    "t": tf.constant([t], tf.int64),
                    "seen_length": tf.constant([length], tf.int64),
                    "now": tf.constant([100], tf.int64),
                }
            )
            self.assertAllClose(encoded["seen.count"], [np.log1p(length)])
            return {key: value[0].numpy() for key, value in encoded.items()}

        # More events than were sent: the newest of them were.
        whole = encode([0, 1, 2, 3], [4, 5, 6, 7], [1, 2, 3, 4])
        self.assertEqual(whole["seen.length"], 3)
        self.assertAllClose(whole["a"], [3, 4, 5])
        # Columns of unequal lengths: the events that all of them have.
        for a, b, t in (
            ([0, 1, 2, 3], [4], [2, 1]),
            ([0], [4, 5, 6], [2, 1]),
            ([0, 1], [4, 5], [2]),
        ):
            part = encode(a, b, t)
            self.assertEqual(part["seen.length"], 1)
            self.assertAllClose(part["a"], [2])
            self.assertAllClose(part["b"], [[6, 0]])
            self.assertAllClose(part["t"], [98])
        none = encode([], [4], [2])
        self.assertEqual(none["seen.length"], 0)
        self.assertEqual(none["b"].shape, (0, 2))

    def test_empty_vocabulary(self):
        for dtype, value in (("string", "a"), ("int64", 4)):
            schema = Schema(
                user=[
                    Categorical("c", vocabulary=Lookup(dtype=dtype, values=[]))
                ]
            )
            ids = data.Preprocessing(schema).ids("c", [value])
            self.assertAllClose(ids, [1])

    def test_hash_of_integers(self):
        rng = np.random.default_rng(0)
        values = np.concatenate(
            [
                rng.integers(-(2**62), 2**62, 1000),
                [0, 1, -1, 2**63 - 1, -(2**63) + 1],
            ]
        )
        schema = Schema(
            user=[Categorical("c", 997, vocabulary=Hash(dtype="int64"))]
        )
        ids = data.Preprocessing(schema).ids("c", values).numpy()
        hashes = preprocessing_lib.hash_integers(values)
        expected = (hashes >> np.uint64(1)) % np.uint64(997) + np.uint64(2)
        np.testing.assert_array_equal(ids, expected.astype("int64"))
        # Reference values of SplitMix64, seeded with 0: the state after the
        # first addition is the constant itself.
        self.assertEqual(
            int(preprocessing_lib.hash_integers(0)), 0xE220A8397B1DCDAF
        )

    def test_hash_is_spread(self):
        buckets = 1024
        schema = Schema(
            user=[Categorical("c", buckets, vocabulary=Hash(dtype="int64"))]
        )
        encode = data.Preprocessing(schema).ids
        n = 100 * buckets
        # Patterns of real ids: consecutive, strided, shifted high bits.
        for values in (
            np.arange(n),
            np.arange(n) * buckets,
            np.arange(n) << 32,
            10**12 + 7 * np.arange(n),
        ):
            ids = encode("c", values).numpy() - 2
            counts = np.bincount(ids, minlength=buckets)
            chi_square = ((counts - 100) ** 2 / 100).sum()
            # Mean 1023, standard deviation 45.
            self.assertLess(abs(chi_square - (buckets - 1)), 5 * 45)

    def test_numbers_and_gaps(self):
        schema = Schema(
            user=[Numerical("n", mean=10.0, std=4.0)],
            sequences=[Sequence("s", 3, [Timestamp("t", unit="s")])],
            timestamp=Timestamp("now", unit="ms"),
        )
        preprocessing = data.Preprocessing(schema)
        self.assertAllClose(
            preprocessing.numbers("n", [10.0, 18.0, np.nan, np.inf]),
            [0.0, 2.0, 0.0, 0.0],
        )
        gaps = preprocessing.gaps(
            "t",
            [[100, 50, MISSING], [105, 0, -(2**40)]],
            [[100_999], [100_000]],
        )
        self.assertAllClose(gaps, [[0, 50, -1], [0, 100, 2**31 - 1]])
        self.assertEqual(gaps.dtype, tf.int32)
        self.assertAllClose(preprocessing.gaps("t", [100], [MISSING]), [-1])

    def test_items_outside_of_the_table(self):
        df = random_frame()
        schema = rich_schema().adapt(df)
        preprocessing = data.Preprocessing(schema)
        # Padding, unknown, an item without a row, an item with one.
        joined = preprocessing.joined("item", tf.constant([[0, 1, 2, 4]]))
        self.assertEqual(
            list(joined),
            ["item.brand", "item.material", "item.words", "item.price"],
        )
        self.assertAllClose(joined["item.brand"][0, :3], [0, 1, 1])
        self.assertGreater(int(joined["item.brand"][0, 3]), 1)
        self.assertAllClose(
            joined["item.words"][0], [[0, 0], [1, 0], [1, 0], [2, 3]]
        )
        self.assertAllClose(joined["item.price"][0, :3], [0, 0, 0])
        self.assertEqual(preprocessing.joined("shop", tf.constant([1])), {})

    def test_events(self):
        schema = Schema(
            sequences=[
                Sequence(
                    "s",
                    3,
                    [Categorical("c", 100), Timestamp("t", unit="s")],
                    sort_by="t",
                )
            ],
            timestamp=Timestamp("now", unit="s"),
        )
        raw = {
            "c": [[1, 2, 3, 4, 5], [6, 7, 50, 60, 70], [0, 0, 0, 0, 0]],
            "t": [[50, 10, 40, 10, 30], [20, 20, 0, 0, 0], [0, 0, 0, 0, 0]],
            "s_length": [5, 2, 0],
            "now": [60, 60, 60],
        }
        encoded = data.Preprocessing(schema).user(raw)
        # Sorted by time, then the newest 3; ties keep their order.
        self.assertAllClose(encoded["c"], [[7, 5, 3], [8, 9, 0], [0, 0, 0]])
        self.assertAllClose(
            encoded["t"], [[30, 20, 10], [40, 40, -1], [-1, -1, -1]]
        )
        self.assertAllClose(encoded["s.length"], [3, 2, 0])
        self.assertAllClose(encoded["s.count"], np.log1p([5, 2, 0]))
        # A client that sends the newest events alone.
        raw = {
            "c": [[2, 3, 4, 5]],
            "t": [[10, 20, 30, 40]],
            "s_length": [50],
            "now": [60],
        }
        encoded = data.Preprocessing(schema).user(raw)
        self.assertAllClose(encoded["c"], [[5, 6, 7]])
        self.assertAllClose(encoded["s.length"], [3])
        self.assertAllClose(encoded["s.count"], np.log1p([50]))
        # No events at all: the width of the tensors is 0.
        raw = {
            "c": np.zeros((2, 0), "int64"),
            "t": np.zeros((2, 0), "int64"),
            "s_length": [0, 0],
            "now": [60, 60],
        }
        encoded = data.Preprocessing(schema).user(raw)
        self.assertEqual(encoded["c"].shape, (2, 0))
        self.assertAllClose(encoded["s.length"], [0, 0])

    def test_signatures(self):
        schema = rich_schema().adapt(random_frame())
        preprocessing = data.Preprocessing(schema)
        user = preprocessing.user_signature()
        self.assertEqual(user["country"].dtype, tf.string)
        self.assertEqual(user["device"].shape, [None])
        self.assertEqual(user["time"], tf.TensorSpec([None], tf.int64, "time"))
        self.assertEqual(user["views_length"].shape, [None])
        self.assertEqual(user["seen_words"].shape, [None, None, None])
        self.assertEqual(user["seen_words_length"].shape, [None, None])
        self.assertEqual(user["seen_price"].dtype, tf.float32)
        self.assertNotIn("click", user)
        item = preprocessing.item_signature()
        self.assertEqual(
            set(item), {"item", "shop", "tags", "tags_length", "match"}
        )
        self.assertEqual(item["tags"].shape, [None, None, None])

    def test_the_timestamp_is_an_input_only_for_gaps(self):
        schema = Schema(
            user=[Categorical("u", 3)], timestamp=Timestamp("t", unit="s")
        )
        self.assertEqual(
            set(data.Preprocessing(schema).user_signature()), {"u"}
        )

    def test_wrong_raw_tensors(self):
        schema = Schema(
            user=[Categorical("u", 3), Numerical("n", mean=0, std=1)]
        )
        preprocessing = data.Preprocessing(schema)
        with self.assertRaisesRegex(
            ValueError, r"missing: \['n'\], unknown: \['m'\]"
        ):
            preprocessing.user({"u": [1], "m": [1.0]})
        with self.assertRaisesRegex(
            ValueError, "Column `u` of `raw` must convert to int64"
        ):
            preprocessing.user({"u": ["a"], "n": [1.0]})
        with self.assertRaisesRegex(
            ValueError, r"Column `u` of `raw` must have the shape \(None,\)"
        ):
            preprocessing.user({"u": [[1]], "n": [1.0]})
        with self.assertRaisesRegex(ValueError, "must be adapted"):
            data.Preprocessing(Schema(user=[Numerical("n")]))

    def test_public_name(self):
        self.assertIs(data.Preprocessing, preprocessing_lib.Preprocessing)
        with self.assertRaisesRegex(AttributeError, "no attribute 'frm'"):
            data.frm
