import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf

from keras_unirec import data
from keras_unirec.schema import Categorical
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Label
from keras_unirec.schema import Lookup
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from keras_unirec.schema import Timestamp
from tests.test_case import TestCase

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


def frame():
    return pd.DataFrame(
        {
            "user": [0, 1, 1, 2, 2],
            "request": ["a", "b", "b", "c", "d"],
            "item": [4, 5, 6, 0, 1],
            "hist": [[1, 2, 3, 4], [5], [5], [], None],
            "hist_time": [[10, 20, 30, 40], [0], [0], [], None],
            "time": [50_000, 60_000, 60_000, 70_000, 80_000],
            "score": [1.0, 2.0, 3.0, 4.0, 5.0],
            "click": [1, 0, 1, 0, 1],
            "share": [0.5, 0.0, 1.0, 0.25, 0.0],
            "unused": [None] * 5,
        },
        index=[10, 11, 12, 13, 14],
    )


def make_schema(**kwargs):
    table = ItemTable(
        {"item": np.arange(10), "brand": np.arange(10) % 3},
        "item",
        [Categorical("brand", 3)],
    )
    return Schema(
        user=[Categorical("user", 3)],
        item=[
            Categorical("item", 10, table=table),
            Numerical("score", mean=0.0, std=2.0),
        ],
        sequences=[
            Sequence(
                "history",
                3,
                [
                    Categorical("hist", share_with="item"),
                    Timestamp("hist_time", unit="s"),
                ],
            )
        ],
        labels=[Label("click"), Label("share")],
        request_id="request",
        group_id="user",
        timestamp=Timestamp("time", unit="ms"),
        **kwargs,
    )


def first(dataset):
    return next(iter(dataset))


class FromPandasTest(TestCase):
    def test_batch(self):
        x, y, w = first(data.from_pandas(frame(), make_schema(), 8))
        self.assertEqual(
            list(x),
            [e.key for e in make_schema().encoded]
            + ["__group_id__", "__request_id__"],
        )
        self.assertAllClose(x["user"], [2, 3, 3, 4, 4])
        self.assertAllClose(x["item"], [[6], [7], [8], [2], [3]])
        self.assertAllClose(x["item.brand"], [[3], [4], [2], [2], [3]])
        self.assertAllClose(x["score"], [[0.5], [1], [1.5], [2], [2.5]])
        # The newest three events, oldest first, padded on the right.
        self.assertAllClose(
            x["hist"], [[4, 5, 6], [7, 0, 0], [7, 0, 0], [0] * 3, [0] * 3]
        )
        self.assertAllClose(x["hist.brand"][0], [4, 2, 3])
        self.assertAllClose(x["hist.brand"][1], [4, 0, 0])
        self.assertAllClose(
            x["hist_time"],
            [[30, 20, 10], [60, -1, -1], [60, -1, -1], [-1] * 3, [-1] * 3],
        )
        self.assertAllClose(x["history.length"], [3, 1, 1, 0, 0])
        self.assertAllClose(x["history.count"], np.log1p([4, 1, 1, 0, 0]))
        self.assertAllClose(y["click"], [[1], [0], [1], [0], [1]])
        self.assertAllClose(y["share"], [[0.5], [0], [1], [0.25], [0]])
        self.assertAllClose(w, np.ones((5, 1)))
        self.assertAllClose(x["__group_id__"], [0, 1, 1, 2, 2])
        requests = x["__request_id__"].numpy()
        self.assertEqual(requests[1], requests[2])
        self.assertLen(set(requests), 4)

    def test_dtypes_and_static_shapes(self):
        dataset = data.from_pandas(frame(), make_schema(), 2)
        self.assertEqual(int(dataset.cardinality()), 3)
        x, y, w = dataset.element_spec
        for one in make_schema().encoded:
            self.assertEqual(x[one.key].dtype, one.dtype, one.key)
            self.assertEqual(x[one.key].shape.rank, 1 + len(one.shape))
        self.assertEqual(y["click"].shape, [None, 1])
        self.assertEqual(y["click"].dtype, "float32")
        self.assertEqual(w.shape, [None, 1])
        self.assertEqual(x["__group_id__"].dtype, "int64")
        spec = data.from_pandas(
            frame(), make_schema(), 2, padding="max_length", pad_batches=True
        ).element_spec
        self.assertEqual(spec[0]["hist"].shape, [2, 3])
        self.assertEqual(spec[0]["hist.brand"].shape, [2, 3])
        self.assertEqual(spec[0]["item"].shape, [2, 1])

    def test_requests(self):
        df = frame().iloc[[1, 0, 3, 2, 4]]
        x, y, w = first(data.from_pandas(df, make_schema(), 8, requests=True))
        # In the order of their first rows: b, a, c, d.
        self.assertAllClose(x["user"], [3, 2, 4, 4])
        self.assertAllClose(x["item"], [[7, 8], [6, 0], [2, 0], [3, 0]])
        self.assertAllClose(x["item.brand"], [[4, 2], [3, 0], [2, 0], [3, 0]])
        self.assertAllClose(x["score"], [[1, 1.5], [0.5, 0], [2, 0], [2.5, 0]])
        self.assertAllClose(y["click"], [[0, 1], [1, 0], [0, 0], [1, 0]])
        self.assertAllClose(w, [[1, 1], [1, 0], [1, 0], [1, 0]])
        self.assertAllClose(x["history.length"], [1, 3, 0, 0])
        self.assertAllClose(x["hist"][:2], [[7, 0, 0], [4, 5, 6]])
        dataset = data.from_pandas(df, make_schema(), 3, requests=True)
        self.assertEqual(int(dataset.cardinality()), 2)
        sizes = [w.shape for _, _, w in dataset]
        self.assertEqual(sizes, [(3, 2), (1, 1)])

    def test_requests_hold_the_same_numbers_as_rows(self):
        rng = np.random.default_rng(0)
        rows = 300
        users = rng.integers(0, 40, rows)
        histories = [list(rng.integers(0, 10, n % 5)) for n in range(40)]
        df = pd.DataFrame(
            {
                "user": users % 3,
                "request": users,
                "item": rng.integers(0, 10, rows),
                "hist": [histories[u] for u in users],
                "hist_time": [[5] * len(histories[u]) for u in users],
                "time": users * 1000 + 10**6,
                "score": rng.normal(size=rows),
                "click": rng.integers(0, 2, rows),
                "share": rng.random(rows),
            }
        )
        found = []
        for x, y, w in data.from_pandas(df, make_schema(), 7, requests=True):
            real = w.numpy() > 0
            hist = np.repeat(x["hist"].numpy()[:, None], w.shape[1], 1)
            hist = np.pad(hist, [(0, 0)] * 2 + [(0, 3 - hist.shape[2])])
            found.append(
                np.column_stack(
                    [
                        x["item"].numpy()[real],
                        x["item.brand"].numpy()[real],
                        x["score"].numpy()[real],
                        y["share"].numpy()[real],
                        hist[real],
                    ]
                )
            )
        found = np.concatenate(found)
        (batch,) = data.from_pandas(df, make_schema(), rows)
        x, y, _ = batch
        expected = np.column_stack(
            [
                x["item"],
                x["item.brand"],
                x["score"],
                y["share"],
                x["hist"],
            ]
        )
        self.assertAllClose(
            found[np.lexsort(found.T)], expected[np.lexsort(expected.T)]
        )

    def test_predict_without_labels(self):
        # Neither labels nor the columns that metrics group by.
        df = frame().drop(columns=["click", "share", "request"])
        elements = list(data.from_pandas(df, make_schema(), 2, labels=False))
        self.assertLen(elements, 3)
        self.assertLen(elements[0], 1)
        self.assertEqual(
            list(elements[0][0]), [e.key for e in make_schema().encoded]
        )
        (x,) = first(
            data.from_pandas(
                frame(), make_schema(), 8, labels=False, requests=True
            )
        )
        self.assertEqual(x["item"].shape, (4, 2))
        self.assertIn("__request_id__", x)

    def test_last_batch(self):
        def sizes(**kwargs):
            dataset = data.from_pandas(frame(), make_schema(), 2, **kwargs)
            weights = [w.numpy().sum() for _, _, w in dataset]
            rows = [w.shape[0] for _, _, w in dataset]
            self.assertEqual(int(dataset.cardinality()), len(rows))
            return rows, weights

        self.assertEqual(sizes(), ([2, 2, 1], [2, 2, 1]))
        self.assertEqual(sizes(shuffle=True), ([2, 2, 2], [2, 2, 1]))
        self.assertEqual(sizes(pad_batches=True), ([2, 2, 2], [2, 2, 1]))
        self.assertEqual(sizes(drop_remainder=True), ([2, 2], [2, 2]))
        self.assertEqual(
            sizes(shuffle=True, pad_batches=False), ([2, 2, 1], [2, 2, 1])
        )
        # More padding than there are rows.
        dataset = data.from_pandas(frame(), make_schema(), 16, pad_batches=True)
        x, _, w = first(dataset)
        self.assertEqual(x["hist"].shape[0], 16)
        self.assertEqual(float(tf.reduce_sum(w)), 5)

    def test_shuffle(self):
        df = pd.concat([frame()] * 40, ignore_index=True)
        df["score"] = np.arange(len(df), dtype="float64")

        def epoch(dataset):
            return np.concatenate(
                [x["score"].numpy()[w.numpy() > 0] for x, _, w in dataset]
            )

        def make(seed=0):
            return data.from_pandas(
                df, make_schema(), 16, shuffle=True, seed=seed
            )

        dataset = make()
        one, two = epoch(dataset), epoch(dataset)
        self.assertFalse(np.array_equal(one, two))
        self.assertAllClose(np.sort(one), df["score"] / 2)
        self.assertAllClose(np.sort(two), df["score"] / 2)
        again = make()
        self.assertAllClose(epoch(again), one)
        self.assertAllClose(epoch(again), two)
        self.assertFalse(np.array_equal(epoch(make(seed=1)), one))
        in_order = epoch(data.from_pandas(df, make_schema(), 16))
        self.assertAllClose(in_order, df["score"] / 2)

    def test_padding(self):
        df = pd.concat([frame()] * 8, ignore_index=True)
        df["hist"] = [list(range(n % 10)) for n in range(40)]
        schema = Schema(
            sequences=[Sequence("s", 36, [Categorical("hist", 100)])]
        )

        def widths(df, **kwargs):
            kwargs["labels"] = False
            return [
                x["hist"].shape[1]
                for (x,) in data.from_pandas(df, schema, 20, **kwargs)
            ]

        self.assertEqual(widths(df), [16, 16])
        df.at[3, "hist"] = list(range(17))
        df.at[30, "hist"] = list(range(80))
        self.assertEqual(widths(df), [32, 36])
        self.assertEqual(widths(df, padding="max_length"), [36, 36])
        df["hist"] = [[]] * 40
        self.assertEqual(widths(df), [16, 16])
        schema = Schema(
            sequences=[Sequence("s", 1, [Categorical("hist", 100)])]
        )
        self.assertEqual(widths(df), [1, 1])

    def test_containers_of_lists(self):
        """Python lists, NumPy arrays, Arrow lists: the same batches."""
        lists = [[1, 2], [], [3], [4, 5, 6], None]
        schema = Schema(sequences=[Sequence("s", 4, [Categorical("hist", 10)])])
        expected = None
        arrow = pa.array(lists)
        for series in (
            pd.Series(lists),
            pd.Series([tuple(v) if v else v for v in lists], dtype=object),
            # The empty array is one of floats, the others of integers.
            pd.Series(
                [None if v is None else np.array(v) for v in lists],
                dtype=object,
            ),
            pd.Series([np.nan if v is None else v for v in lists]),
            pd.Series(pd.arrays.ArrowExtensionArray(arrow)),
            pd.Series(
                pd.arrays.ArrowExtensionArray(
                    arrow.cast(pa.large_list(pa.int8()))
                )
            ),
            pd.Series(
                pd.arrays.ArrowExtensionArray(
                    pa.chunked_array([arrow[:2], arrow[2:]])
                )
            ),
        ):
            df = pd.DataFrame({"hist": series})
            (x,) = first(data.from_pandas(df, schema, 8, labels=False))
            expected = x["hist"] if expected is None else expected
            self.assertAllClose(x["hist"], expected)
            self.assertAllClose(x["s.count"], np.log1p([2, 0, 1, 3, 0]))
        self.assertAllClose(expected[3], [6, 7, 8, 0])

    def test_kinds_of_scalars(self):
        schema = Schema(
            user=[
                Categorical("float", 10),
                Categorical("bool", 2),
                Categorical("nullable", 10),
                Categorical("small", 10),
                Categorical("text", vocabulary=Lookup(values=["a", "b"])),
                Categorical("factor", vocabulary=Lookup(values=["a", "b"])),
                Categorical("codes", vocabulary=Lookup(values=[5, 7])),
                Numerical("count", mean=0.0, std=1.0),
            ]
        )
        df = pd.DataFrame(
            {
                "float": [1.0, np.nan, 3.0],
                "bool": [True, False, True],
                "nullable": pd.array([1, None, 3], "Int64"),
                "small": np.array([1, 0, 3], "uint8"),
                "text": ["b", None, "c"],
                "factor": pd.Categorical(["b", None, "a"]),
                "codes": pd.Categorical([7, 5, 6]),
                "count": [1, 2, 3],
            }
        )
        (x,) = first(data.from_pandas(df, schema, 3, labels=False))
        self.assertAllClose(x["float"], [3, 1, 5])
        self.assertAllClose(x["bool"], [3, 2, 3])
        self.assertAllClose(x["nullable"], [3, 1, 5])
        self.assertAllClose(x["small"], [3, 2, 5])
        self.assertAllClose(x["text"], [3, 1, 1])
        self.assertAllClose(x["factor"], [3, 1, 2])
        self.assertAllClose(x["codes"], [3, 2, 1])
        self.assertAllClose(x["count"], [1, 2, 3])

    def test_datetimes(self):
        schema = Schema(
            sequences=[Sequence("s", 4, [Timestamp("hist")])],
            timestamp=Timestamp("now", unit="ms"),
        )
        day = pd.Timestamp("2024-03-01")
        df = pd.DataFrame(
            {
                "now": pd.Series([day, day]).dt.tz_localize("UTC"),
                "hist": [
                    [day - pd.Timedelta("1h"), day - pd.Timedelta("2s")],
                    [],
                ],
            }
        )
        schema = schema.adapt(df)
        (x,) = first(data.from_pandas(df, schema, 3, labels=False))
        self.assertAllClose(x["hist"][0, :2], [3600, 2])
        arrays = [np.array([day.to_datetime64()]), np.array([])]
        df["hist"] = pd.Series(arrays)
        (x,) = first(data.from_pandas(df, schema, 3, labels=False))
        self.assertAllClose(x["hist"][0, :1], [0])

    def test_events_a_little_after_the_request(self):
        df = frame()
        df.at[10, "hist_time"] = [10, 20, 30, 105]  # The request: 50.
        x, _, _ = first(data.from_pandas(df, make_schema(), 8))
        self.assertAllClose(x["hist_time"][0], [30, 20, 0])

    def test_unknown_ids_to_the_unknown_bucket(self):
        schema = Schema(
            item=[Categorical("item", 3, unknown="bucket")],
            sequences=[
                Sequence("s", 4, [Categorical("hist", share_with="item")])
            ],
        )
        df = pd.DataFrame({"item": [2, 3, -5], "hist": [[9], [0], []]})
        (x,) = first(data.from_pandas(df, schema, 3, labels=False))
        self.assertAllClose(x["item"], [[4], [1], [1]])
        self.assertAllClose(x["hist"][:, 0], [1, 2, 0])

    def test_chunks_do_not_matter(self):
        rng = np.random.default_rng(0)
        rows = 150_000  # More than one chunk.
        df = pd.DataFrame(
            {
                "item": rng.choice(np.array(list("abcdef"), object), rows),
                "request": np.sort(rng.integers(0, 20_000, rows)),
                "click": rng.integers(0, 2, rows),
            }
        )
        schema = Schema(
            item=[Categorical("item", vocabulary="lookup")],
            labels=[Label("click")],
            request_id="request",
        ).adapt(df)
        ids = np.concatenate(
            [
                x["item"].numpy()[w.numpy() > 0]
                for x, _, w in data.from_pandas(df, schema, 4096, requests=True)
            ]
        )
        expected = df["item"].map({v: i + 2 for i, v in enumerate("abcdef")})
        np.testing.assert_array_equal(ids, expected)

    def test_real_files(self):
        folder = SHARED / "kuairand_tiny"
        if not folder.exists():
            pytest.skip(f"no files in {folder}")
        df = pd.read_parquet(folder / "val.parquet")
        schema = Schema(
            context=[Categorical("tab", 16)],
            item=[Categorical("video_id", 7_583)],
            sequences=[
                Sequence(
                    "watched",
                    100,
                    [
                        Categorical("hist_video_id", share_with="video_id"),
                        Categorical("hist_click", 2),
                        Timestamp("hist_time_s", unit="s"),
                    ],
                )
            ],
            labels=[Label("is_click")],
            group_id="user_id",
            timestamp=Timestamp("time_ms", unit="ms"),
        )
        (batch,) = data.from_pandas(df, schema, len(df))
        x, y, _ = batch
        self.assertAllClose(y["is_click"][:, 0], df["is_click"])
        self.assertAllClose(x["tab"], df["tab"] + 2)
        row = int(np.argmax(df["hist_len"]))
        history = df["hist_video_id"].iloc[row]
        self.assertAllClose(
            x["hist_video_id"][row, : len(history)], history + 2
        )
        self.assertAllClose(x["watched.length"][row], len(history))

    def test_distributed(self):
        """Replicas get whole requests, each row once."""
        strategy = tf.distribute.MirroredStrategy(
            tf.config.list_logical_devices("CPU")[:1],
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )
        dataset = data.from_pandas(
            frame(), make_schema(), 4, shuffle=True, requests=True
        )
        rows = sum(
            float(tf.reduce_sum(w))
            for _, _, w in strategy.experimental_distribute_dataset(dataset)
        )
        self.assertEqual(rows, 5)
