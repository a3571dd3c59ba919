import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from keras_unirec import data
from keras_unirec.schema import Categorical
from keras_unirec.schema import ItemTable
from keras_unirec.schema import Label
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from keras_unirec.schema import Timestamp
from tests.test_case import TestCase

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


def frame(rows=1000, seed=0):
    """Rows of requests of 1 to 5 candidates, in order."""
    rng = np.random.default_rng(seed)
    request = np.sort(rng.integers(0, rows // 2, rows))
    histories = [list(rng.integers(0, 30, n % 7)) for n in range(rows)]
    return pd.DataFrame(
        {
            "row": np.arange(rows),
            "request": [f"r{r}" for r in request],
            "city": [["rome", "oslo", None][r % 3] for r in request],
            "item": rng.integers(0, 30, rows),
            "hist": [histories[r] or None for r in request],
            "hist_time": [[r] * len(histories[r]) for r in request],
            "time": request + 100,
            "x": rng.normal(size=rows),
            "click": rng.integers(0, 2, rows),
        }
    )


def make_schema():
    table = ItemTable(
        {"item": np.arange(30), "brand": np.arange(30) % 7},
        "item",
        [Categorical("brand", 7)],
    )
    return Schema(
        user=[Categorical("city", vocabulary="lookup")],
        item=[
            Categorical("item", 30, table=table),
            Numerical("x"),
            Numerical("row", mean=0.0, std=1.0),
        ],
        sequences=[
            Sequence(
                "history",
                4,
                [
                    Categorical("hist", share_with="item"),
                    Timestamp("hist_time", unit="s"),
                ],
            )
        ],
        labels=[Label("click")],
        request_id="request",
        timestamp=Timestamp("time", unit="s"),
    )


def assert_same_batches(dataset, expected):
    dataset, expected = list(dataset), list(expected)
    assert len(dataset) == len(expected)
    for one, two in zip(dataset, expected):
        tf.nest.assert_same_structure(one, two)
        for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two)):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def rows_of(dataset):
    return [
        x["row"].numpy()[w.numpy() > 0].astype("int64") for x, _, w in dataset
    ]


class FromParquetTest(TestCase):
    def write(self, df, files=2, group=130):
        folder = pathlib.Path(self.get_temp_dir()) / "rows"
        folder.mkdir()
        for number, part in enumerate(
            np.array_split(np.arange(len(df)), files)
        ):
            df.iloc[part].to_parquet(
                folder / f"part-{number}.parquet", row_group_size=group
            )
        return folder

    def test_equals_from_pandas(self):
        df = frame()
        folder = self.write(df)
        schema = make_schema().adapt(folder)
        for kwargs in (
            {},
            {"requests": True},
            {"labels": False, "padding": "max_length"},
            {"pad_batches": True},
            {"drop_remainder": True, "requests": True},
            {
                "requests": True,
                "padding": "max_length",
                "candidate_buckets": [2, 9],
                "weighting": "requests",
            },
        ):
            streamed = data.from_parquet(folder, schema, 64, **kwargs)
            expected = data.from_pandas(df, schema, 64, **kwargs)
            assert_same_batches(streamed, expected)
            self.assertEqual(streamed.cardinality(), expected.cardinality())
            self.assertEqual(streamed.element_spec, expected.element_spec)

    def test_paths(self):
        df = frame(60)
        folder = self.write(df, files=3)
        (folder / "_notes.parquet").write_text("not data")
        (folder / "deeper").mkdir()
        schema = make_schema().adapt(df)
        files = [folder / f"part-{n}.parquet" for n in range(3)]
        expected = list(range(60))
        for paths in (
            folder,
            str(folder),
            str(folder / "part-*.parquet"),
            files,
            [str(files[0]), str(folder / "part-[12].parquet")],
        ):
            found = rows_of(data.from_parquet(paths, schema, 7))
            self.assertEqual(np.concatenate(found).tolist(), expected)
        files[2].rename(folder / "deeper" / "part-2.parquet")
        found = rows_of(data.from_parquet(folder, schema, 7))
        self.assertEqual(sorted(np.concatenate(found)), expected)
        found = rows_of(data.from_parquet(files[1], schema, 7))
        self.assertEqual(np.concatenate(found).tolist(), list(range(20, 40)))

    def test_shuffle(self):
        df = frame(2000)
        folder = self.write(df, group=100)
        schema = make_schema().adapt(df)

        def make(**kwargs):
            return data.from_parquet(folder, schema, 64, shuffle=True, **kwargs)

        for kwargs in ({}, {"shuffle_buffer": 300}, {"shuffle_buffer": 1}):
            dataset = make(**kwargs)
            one = np.concatenate(rows_of(dataset))
            two = np.concatenate(rows_of(dataset))
            self.assertEqual(sorted(one), list(range(2000)))
            self.assertEqual(sorted(two), list(range(2000)))
            self.assertFalse(np.array_equal(one, two))
            again = make(**kwargs)
            np.testing.assert_array_equal(np.concatenate(rows_of(again)), one)
            np.testing.assert_array_equal(np.concatenate(rows_of(again)), two)
        # A buffer of 300 mixes rows of several row groups of 100.
        batch = rows_of(make(shuffle_buffer=300))[0]
        self.assertGreater(len(set(batch // 100)), 2)
        batch = list(make())[-1]
        self.assertEqual(batch[2].shape[0], 64)  # Filled up.

    def test_shuffled_requests_stay_whole(self):
        df = frame(1500)
        folder = self.write(df, files=3, group=37)
        schema = make_schema().adapt(df)
        dataset = data.from_parquet(
            folder,
            schema,
            16,
            shuffle=True,
            requests=True,
            shuffle_buffer=100,
        )
        sizes = df.groupby("request")["row"].agg(["min", "count"])
        sizes = sizes.set_index("min")["count"].to_dict()
        self.assertEqual(int(dataset.cardinality()), -(-len(sizes) // 16))
        for _ in range(2):
            found = []
            for x, _, w in dataset:
                for row, weights in zip(x["row"].numpy(), w.numpy()):
                    if weights[0]:
                        row = row[weights > 0].astype("int64")
                        self.assertEqual(
                            row.tolist(),
                            list(range(row[0], row[0] + sizes[row[0]])),
                        )
                        found.append(row)
            self.assertEqual(sorted(np.concatenate(found)), list(range(1500)))

    def test_a_request_across_many_row_groups(self):
        df = frame(300)
        df["request"] = ["a"] * 5 + ["b"] * 200 + ["c"] * 95
        for name in ("city", "hist", "hist_time", "time"):
            df[name] = [df[name].iloc[0]] * len(df)
        folder = self.write(df, files=2, group=40)
        schema = make_schema().adapt(df.assign(city="rome"))
        for shuffle in (False, True):
            dataset = data.from_parquet(
                folder, schema, 2, shuffle=shuffle, requests=True
            )
            weights = [w.numpy().sum(1) for _, _, w in dataset]
            self.assertEqual(sorted(np.concatenate(weights))[-3:], [5, 95, 200])
        with self.assertRaisesRegex(
            ValueError, "largest request: 200 candidates of request='b'"
        ):
            data.from_parquet(
                folder, schema, requests=True, candidate_buckets=[5, 199]
            )

    def test_requests_of_integers(self):
        df = frame(200)
        df["request"] = df["request"].str[1:].astype("int64")
        folder = self.write(df)
        schema = make_schema().adapt(df)
        dataset = data.from_parquet(folder, schema, 1000, requests=True)
        x, _, _ = next(iter(dataset))
        self.assertEqual(
            x["__request_id__"].numpy().tolist(),
            df["request"].unique().tolist(),
        )

    def test_empty_row_groups_and_files(self):
        df = frame(50)
        folder = self.write(df, files=1)
        df.iloc[:0].to_parquet(folder / "empty.parquet")
        schema = make_schema().adapt(df)
        for requests in (False, True):
            dataset = data.from_parquet(folder, schema, 8, requests=requests)
            self.assertEqual(
                np.concatenate(rows_of(dataset)).tolist(), list(range(50))
            )

    def test_widths_of_numbers_may_differ_between_files(self):
        df = frame(40)
        folder = pathlib.Path(self.get_temp_dir())
        df[:20].astype({"item": "int8"}).to_parquet(folder / "a.parquet")
        df[20:].astype({"item": "uint64"}).to_parquet(folder / "b.parquet")
        schema = make_schema().adapt(folder)
        assert_same_batches(
            data.from_parquet(folder, schema, 16, requests=True),
            data.from_pandas(df, schema, 16, requests=True),
        )

    def test_a_column_without_values_in_one_file(self):
        df = frame(40)
        df["request"] = [f"r{n // 4}" for n in range(40)]
        for name in ("city", "hist", "hist_time", "time"):
            df[name] = [df[name].iloc[n // 4 * 4] for n in range(40)]
        folder = pathlib.Path(self.get_temp_dir())
        df[:20].to_parquet(folder / "a.parquet")
        table = pa.Table.from_pandas(
            df[20:].assign(hist=[[]] * 20, hist_time=[[]] * 20)
        )
        pq.write_table(
            table.set_column(
                table.schema.get_field_index("city"), "city", pa.nulls(20)
            ),
            folder / "b.parquet",
        )
        schema = make_schema().adapt(folder)
        for requests in (False, True):
            dataset = list(
                data.from_parquet(folder, schema, 40, requests=requests)
            )
            x = dataset[-1][0]
            self.assertEqual(int(x["city"][-1]), 1)
            self.assertEqual(int(x["history.length"][-1]), 0)

    def test_without_validation_a_wrong_value_stops_the_training(self):
        df = frame(100)
        df.loc[70, "item"] = 99
        folder = self.write(df)
        schema = make_schema().adapt(df)
        with self.assertRaisesRegex(ValueError, "`item`.*99 in row 20 of .*-1"):
            data.from_parquet(folder, schema, 8)
        dataset = data.from_parquet(folder, schema, 8, validate=False)
        with self.assertRaisesRegex(Exception, "`item`.*99 in row 20 of .*-1"):
            list(dataset)

    def test_stopping_early_leaves_nothing_behind(self):
        df = frame(500)
        folder = self.write(df)
        dataset = data.from_parquet(folder, make_schema().adapt(df), 8)
        for _ in range(20):
            next(iter(dataset))
        self.assertLen(list(dataset.take(3)), 3)

    def test_real_files(self):
        folder = SHARED / "kuairand_tiny"
        if not folder.exists():
            pytest.skip(f"no files in {folder}")
        schema = Schema(
            user=[Categorical("user_id", vocabulary="lookup")],
            context=[Categorical("tab", 16), Numerical("hourmin")],
            item=[Categorical("video_id", 7_583)],
            sequences=[
                Sequence(
                    "watched",
                    100,
                    [
                        Categorical("hist_video_id", share_with="video_id"),
                        Categorical("hist_click", 2),
                        Categorical("hist_tab", share_with="tab"),
                        Timestamp("hist_time_s", unit="s"),
                    ],
                )
            ],
            labels=[Label("is_click"), Label("long_view")],
            group_id="user_id",
            timestamp=Timestamp("time_ms", unit="ms"),
        )
        schema = schema.adapt(folder / "train.parquet")
        df = pd.read_parquet(folder / "train.parquet")
        self.assertEqual(schema, schema.adapt(df))
        dataset = data.from_parquet(folder / "train.parquet", schema, 128)
        assert_same_batches(dataset, data.from_pandas(df, schema, 128))
        users = folder / "users.parquet"
        schema = Schema(
            user=[Categorical("user_active_degree", vocabulary="lookup")],
            sequences=[Sequence("pre", 50, [Categorical("pre_watch", 7_583)])],
        ).adapt(users)
        (x,) = next(iter(data.from_parquet(users, schema, 80, labels=False)))
        lengths = pd.read_parquet(users)["pre_watch"].str.len().fillna(0)
        self.assertAllClose(x["pre.length"], np.minimum(lengths, 50))


class ParquetErrorsTest(TestCase):
    def setUp(self):
        super().setUp()
        self.df = frame(100)
        self.folder = pathlib.Path(self.get_temp_dir())
        self.file = self.folder / "a.parquet"
        self.df.to_parquet(self.file, row_group_size=30)
        self.schema = make_schema().adapt(self.df)

    def read(self, **kwargs):
        return data.from_parquet(self.folder, self.schema, 8, **kwargs)

    def test_truncated_file(self):
        content = self.file.read_bytes()
        broken = self.folder / "b.parquet"
        broken.write_bytes(content[: len(content) // 2])
        with self.assertRaisesRegex(
            ValueError, r"File `.*b\.parquet` must be a complete Parquet file"
        ):
            self.read(validate=False)
        with self.assertRaisesRegex(ValueError, r"File `.*b\.parquet` must"):
            make_schema().adapt(self.folder)

    def test_another_format(self):
        (self.folder / "b.parquet").write_text("a,b\n1,2\n")
        with self.assertRaisesRegex(ValueError, r"File `.*b\.parquet` must"):
            self.read()
        (self.folder / "b.parquet").write_text("")
        with self.assertRaisesRegex(ValueError, r"File `.*b\.parquet` must"):
            self.read()

    def test_corrupt_data(self):
        content = bytearray(self.file.read_bytes())
        metadata = pq.read_metadata(self.file)
        column = metadata.row_group(2).column(3)
        start = column.data_page_offset
        for position in range(start, start + 24):
            content[position] ^= 0xFF
        self.file.write_bytes(bytes(content))
        with self.assertRaisesRegex(
            ValueError, r"File `.*a\.parquet`.*corrupt from row 60 on"
        ):
            self.read()

    def test_missing_column_in_one_file(self):
        self.df.drop(columns="x").to_parquet(self.folder / "b.parquet")
        with self.assertRaisesRegex(
            ValueError, r"Column `x` is missing.*the file .*b\.parquet with"
        ):
            self.read()

    def test_types_that_differ(self):
        self.df.astype({"item": "str"}).to_parquet(self.folder / "b.parquet")
        with self.assertRaisesRegex(
            ValueError,
            r"Column `item` must have one type in all Parquet files. Received:"
            r" int64 in .*a\.parquet and .*string in .*b\.parquet",
        ):
            self.read()

    def test_no_files(self):
        with self.assertRaisesRegex(ValueError, "`paths` must lead to Parquet"):
            data.from_parquet(self.folder / "*.csv", self.schema)
        with self.assertRaisesRegex(ValueError, "`paths` must be the path"):
            data.from_parquet([], self.schema)
        with self.assertRaisesRegex(ValueError, "`paths` must be the path"):
            data.from_parquet(self.df, self.schema)

    def test_no_rows(self):
        self.df.iloc[:0].to_parquet(self.file)
        with self.assertRaisesRegex(ValueError, "`paths` must hold at least"):
            self.read()

    def test_shuffle_buffer(self):
        with self.assertRaisesRegex(ValueError, "`shuffle_buffer` must be"):
            self.read(shuffle_buffer=0)

    def test_rows_are_named_with_their_file(self):
        df = self.df.copy()
        df.loc[55, "click"] = 2
        df.to_parquet(self.folder / "b.parquet", row_group_size=30)
        with self.assertRaisesRegex(
            ValueError, r"`click`.*Received: 2.0 in row 55 of .*b\.parquet"
        ):
            self.read()
        with self.assertRaisesRegex(
            ValueError, r"`click`.*Received: 2.0 in row 55 of .*b\.parquet"
        ):
            data.from_parquet(
                self.folder / "b.parquet", self.schema, requests=True
            )

    def test_requests_that_are_not_contiguous(self):
        self.df.iloc[::-1].to_parquet(self.folder / "b.parquet")
        request = self.df["request"].iloc[-2]
        expected = (
            r"Column `request` must hold the rows of a request one after "
            rf"another.*Received: '{request}' again in row \d+ of "
            r".*b\.parquet"
        )
        df = self.df
        if df["request"].iloc[-1] == request:
            expected = expected.replace(f"'{request}'", "'r.*'")
        for validate in (True, False):
            with self.assertRaisesRegex(ValueError, expected):
                self.read(requests=True, validate=validate)
        self.read()  # Without requests, order is free.

    def test_missing_request(self):
        self.df.loc[4, "request"] = None
        self.df.to_parquet(self.file)
        with self.assertRaisesRegex(
            ValueError, "`request` must hold the request.*in row 4 of"
        ):
            self.read(requests=True)
