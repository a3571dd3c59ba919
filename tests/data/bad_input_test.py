"""Each wrong input raises a `ValueError` that names it, before training."""

import decimal
import pathlib

import numpy as np
import pandas as pd
import pytest

from keras_unirec import data
from keras_unirec.schema import Categorical
from keras_unirec.schema import Hash
from keras_unirec.schema import Label
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from keras_unirec.schema import Timestamp

NOW = 1_700_000_000


def frame():
    return pd.DataFrame(
        {
            "user": [0, 1, 1],
            "city": ["rome", "oslo", "oslo"],
            "age": [30.0, 40.0, 40.0],
            "langs": [["it"], ["no", "en"], ["no", "en"]],
            "request": [7, 8, 8],
            "item": [3, 4, 5],
            "tags": [[0], [], [1, 2]],
            "hist": [[1, 2], [3], [3]],
            "hist_price": [[1.0, 2.0], [3.0], [3.0]],
            "hist_time": [[NOW - 9, NOW - 5], [NOW - 3], [NOW - 3]],
            "hist_words": [[["a"], []], [["b", "a"]], [["b", "a"]]],
            "time": [NOW, NOW + 1, NOW + 1],
            "click": [0, 1, 0],
        },
        index=["a", "b", "c"],
    )


def make_schema(adapt=True, **units):
    schema = Schema(
        user=[
            Categorical("user", 2),
            Categorical("city", vocabulary="lookup"),
            Numerical("age"),
            Categorical("langs", vocabulary="lookup", max_length=2),
        ],
        item=[
            Categorical("item", 6),
            Categorical("tags", 3, max_length=4),
        ],
        sequences=[
            Sequence(
                "history",
                5,
                [
                    Categorical("hist", share_with="item"),
                    Numerical("hist_price"),
                    Timestamp("hist_time", unit=units.get("hist", "s")),
                    Categorical(
                        "hist_words",
                        100,
                        vocabulary=Hash(dtype="string"),
                        max_length=2,
                    ),
                ],
            )
        ],
        labels=[Label("click")],
        request_id="request",
        group_id="user",
        timestamp=Timestamp("time", unit=units.get("time", "s")),
    )
    return schema.adapt(frame()) if adapt else schema


def with_value(column, value, row="c"):
    df = frame()
    df[column] = df[column].astype(object)
    df.at[row, column] = value
    if not isinstance(df[column].iloc[0], list):
        df[column] = df[column].infer_objects()
    return df


# name: (frame, message, whether Parquet files can hold it)
BAD = {
    "missing_column": (
        frame().drop(columns="hist_time"),
        r"Column `hist_time` is missing: the schema needs it.*did you mean "
        r"hist_price.*Received: .* with the columns .*'age', 'city'",
    ),
    "missing_label": (
        frame().rename(columns={"click": "clicked"}),
        r"Column `click` is missing.*did you mean clicked",
    ),
    "missing_group": (
        frame().drop(columns="request"),
        "Column `request` is missing",
    ),
    "string_for_integer": (
        frame().assign(user=["0", "1", "1"]),
        r"Column `user` must hold one integer in each row; strings need "
        r"vocabulary='hash' or 'lookup'. Received: '0' \(.*string\) in row",
    ),
    "integer_for_string": (
        frame().assign(city=[1, 2, 3]),
        r"Column `city` must hold one string in each row. Received: 1 \(int64",
    ),
    "string_for_number": (
        frame().assign(age=["a", "b", "c"]),
        "Column `age` must hold one number in each row. Received: 'a'",
    ),
    "decimal_for_number": (
        frame().assign(age=[decimal.Decimal("1.5")] * 3),
        r"Column `age` must hold one number in each row; cast decimals to "
        r"floats: `.astype\(float\)`. Received: Decimal\('1.5'\)",
    ),
    "datetime_for_number": (
        frame().assign(age=pd.Timestamp("2024-01-01")),
        "Column `age` must hold one number in each row. Received: .*timestamp",
    ),
    "string_for_time": (
        frame().assign(time="2024-01-01"),
        "Column `time` must hold one time in each row. Received: '2024-01-01'",
    ),
    "string_label": (
        frame().assign(click=["yes", "no", "no"]),
        "Column `click` must hold one number in each row. Received: 'yes'",
    ),
    "list_for_scalar": (
        frame().assign(user=[[0], [1], [1]]),
        r"Column `user` must hold one integer in each row. Received: \[0\] "
        r"\(.*list",
    ),
    "scalar_for_list": (
        frame().assign(hist=[1, 2, 3]),
        "Column `hist` must hold one list of integers in each row. Received: 1",
    ),
    "scalar_for_multi_valued": (
        frame().assign(langs=["it", "no", "no"]),
        "Column `langs` must hold one list of strings in each row. "
        "Received: 'it'",
    ),
    "list_for_list_of_lists": (
        frame().assign(hist_words=[["a", "b"], ["a"], ["a"]]),
        "Column `hist_words` must hold one list of lists of strings in each "
        "row. Received: 'a'",
    ),
    "list_of_lists_for_list": (
        frame().assign(hist=[[[1], [2]], [[3]], [[3]]]),
        r"Column `hist` must hold one list of integers in each row. "
        r"Received: \[1\]",
    ),
    "id_too_large": (
        with_value("user", 2),
        r"Column `user` must hold ids in \[0, 2\), the vocabulary of "
        r"`Categorical\('user'\)`; unknown='bucket' maps others to the "
        r"unknown id. Received: 2 in row (2 of|'c')",
    ),
    "id_negative": (
        with_value("item", -124),
        r"Column `item` must hold ids in \[0, 6\).*Received: -124 in row "
        r"(2 of|'c')",
    ),
    "id_in_history": (
        with_value("hist", [6], row="b"),
        r"Column `hist` must hold ids in \[0, 6\), the vocabulary of "
        r"`Categorical\('item'\)`.*Received: 6 in row (1 of|'b')",
    ),
    "id_in_multi_valued": (
        with_value("tags", [0, 3]),
        r"Column `tags` must hold ids in \[0, 3\).*Received: 3 in row (2|'c')",
    ),
    "float_id": (
        with_value("item", 4.5),
        r"Column `item` must hold one integer in each row \(whole numbers\). "
        r"Received: 4.5 in row (2 of|'c')",
    ),
    "float_id_in_history": (
        with_value("hist", [0.5], row="b"),
        r"Column `hist` .*\(whole numbers\). Received: 0.5 in row (1 of|'b')",
    ),
    "float_id_too_large": (
        with_value("item", 2.0**60),
        r"Column `item` .*a float holds exactly.*Received: 1.15.*e\+18 in "
        r"row (2 of|'c')",
    ),
    "integer_too_large": (
        frame().assign(item=np.array([0, 1, 2**63], "uint64")),
        r"Column `item` .*fit into int64. Received: 9223372036854775808 in "
        r"row (2 of|'c')",
    ),
    "nan": (
        with_value("age", np.nan, row="b"),
        r"Column `age` must hold finite numbers without missing values: fill "
        r"them, for example with the mean, or drop the rows. Received: nan "
        r"in row (1 of|'b')",
    ),
    "infinite": (
        with_value("age", np.inf),
        r"Column `age` must hold finite numbers.*Received: inf in row "
        r"(2 of|'c')",
    ),
    "too_large_for_float32": (
        with_value("age", 1e39),
        r"Column `age` must hold finite numbers.*Received: 1e\+39 in row",
    ),
    "nan_in_history": (
        with_value("hist_price", [np.nan], row="b"),
        r"Column `hist_price` must hold finite.*nan in row (1 of|'b')",
    ),
    "none_in_history": (
        with_value("hist_price", [None], row="b"),
        r"Column `hist_price` must hold finite.*nan in row (1 of|'b')",
    ),
    "unequal_lengths": (
        with_value("hist_price", [1.0, 2.0], row="b"),
        r"Column `hist_price` must hold as many events as `hist` in each row: "
        r"both belong to `Sequence\('history'\)`. Received: 2 and 1 in row "
        r"(1 of|'b')",
    ),
    "unequal_missing_list": (
        with_value("hist_time", None, row="a"),
        r"Column `hist_time` must hold as many events as `hist`.*Received: 0 "
        r"and 2 in row (0 of|'a')",
    ),
    "unequal_steps": (
        with_value("hist_words", [["a"]], row="a"),
        r"Column `hist_words` must hold as many events.*1 and 2 in row",
    ),
    "label_too_large": (
        with_value("click", 2),
        r"Label column `click` must hold numbers in \[0, 1\]. Received: 2.0 "
        r"in row (2 of|'c')",
    ),
    "label_negative": (
        with_value("click", -1, row="a"),
        r"Label column `click` .*Received: -1.0 in row (0 of|'a')",
    ),
    "label_nan": (
        with_value("click", np.nan),
        r"Label column `click` .*Received: nan in row (2 of|'c')",
    ),
    "time_missing": (
        with_value("time", np.nan),
        r"Column `time` must hold the time of each request. Received: a "
        r"missing value in row (2 of|'c')",
    ),
    "request_in_ms": (
        frame().assign(time=[NOW * 1000] * 3),
        r"Column `time` must hold times in 's' \(the values look like 'ms'\). "
        r"Received: 1700000000000, later than the year 2200, in row (0|'a')",
    ),
    "times_in_two_units": (
        with_value("time", NOW // 1000),
        r"Column `time` must hold times in one unit, 's', within 50 years of "
        r"each other. Received: 1700000 in row (2 of|'c').* and 1700000000 "
        r"in row (0 of|'a')",
    ),
    "events_in_ms": (
        with_value("hist_time", [NOW * 1000 - 5], row="b"),
        r"Column `hist_time` must hold times in 's' within 50 years of `time` "
        r"in 's'; check both units. Received: 1699999999995 with `time` "
        r"1700000001 in row (1 of|'b')",
    ),
    "events_run_backwards": (
        with_value("hist_time", [NOW - 5, NOW - 9], row="a"),
        r"Column `hist_time` must hold events from the oldest to the newest; "
        r"`Sequence\(..., sort_by='hist_time'\)` sorts them.*Received: "
        r"1699999991 with `time` 1700000000 in row (0 of|'a')",
    ),
    "event_after_request": (
        with_value("hist_time", [NOW + 62], row="b"),
        r"Column `hist_time` must hold events before their request: at most "
        r"60 s after `time`. Received: 1700000062 with `time` 1700000001 in "
        r"row (1 of|'b')",
    ),
}


def read(df, schema, reader, folder, **kwargs):
    if reader == "pandas":
        return data.from_pandas(df, schema, 2, **kwargs)
    df.to_parquet(folder / "rows.parquet")
    return data.from_parquet(folder, schema, 2, **kwargs)


@pytest.mark.parametrize("reader", ["pandas", "parquet"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, reader, tmp_path):
    df, message = BAD[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read(df, make_schema(), reader, tmp_path)


@pytest.mark.parametrize("reader", ["pandas", "parquet"])
def test_good_input(reader, tmp_path):
    dataset = read(frame(), make_schema(), reader, tmp_path, requests=True)
    assert len(list(dataset)) == 1


@pytest.mark.parametrize("reader", ["pandas", "parquet"])
@pytest.mark.parametrize(
    ("hist", "time"), [("s", "ms"), ("ms", "s"), ("s", "us"), ("ns", "s")]
)
def test_mixed_units(hist, time, reader, tmp_path):
    schema = make_schema(hist=hist, time=time)
    with pytest.raises(
        ValueError,
        match=rf"`hist_time` must hold times in '{hist}' within 50 years of "
        rf"`time` in '{time}'; check both units",
    ):
        read(frame(), schema, reader, tmp_path)


@pytest.mark.parametrize("reader", ["pandas", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("user", 0, "Received: 1 in row .* but 0 in row"),
        ("city", "rome", "Received: 'oslo' in row .* but 'rome' in row"),
        ("city", None, "Received: 'oslo' in row .* but None in row"),
        ("age", 41.0, "Received: 40.0 in row .* but 41.0 in row"),
        ("langs", ["no"], r"Received: \['no', 'en'\] in row .* but \['no'\]"),
        ("hist", [4], r"Received: \[3\] in row .* but \[4\] in row"),
        ("hist_words", [["b", "b"]], r"but \[\['b', 'b'\]\] in row"),
        ("hist_words", [["b"]], r"but \[\['b'\]\] in row"),
        ("time", NOW + 2, "1700000001 in row .* but 1700000002 in row"),
    ],
)
def test_column_that_varies_inside_a_request(
    column, value, shown, reader, tmp_path
):
    df = with_value(column, value)
    with pytest.raises(
        ValueError,
        match=rf"Column `{column}` must be the same in all rows of a request.*"
        rf"{shown}.*both of request=8",
    ):
        read(df, make_schema(), reader, tmp_path, requests=True)
    # Rows that are requests of their own may differ.
    read(df, make_schema(), reader, tmp_path)


@pytest.mark.parametrize("reader", ["pandas", "parquet"])
def test_missing_request_id(reader, tmp_path):
    df = with_value("request", np.nan)
    with pytest.raises(
        ValueError,
        match=r"Column `request` must hold the request of each row. Received: "
        r"a missing value in row (2 of|'c')",
    ):
        read(df, make_schema(), reader, tmp_path, requests=True)


@pytest.mark.parametrize("reader", ["pandas", "parquet"])
def test_no_full_batch(reader, tmp_path):
    with pytest.raises(
        ValueError,
        match="`drop_remainder=True` would drop all rows.*batch_size=2, "
        "requests=1",
    ):
        df = frame().iloc[:1]
        read(df, make_schema(), reader, tmp_path, drop_remainder=True)


def test_empty_frame():
    with pytest.raises(ValueError, match="must have at least one row"):
        data.from_pandas(frame().iloc[:0], make_schema())


def test_duplicate_column():
    df = pd.concat([frame(), frame()[["item"]]], axis=1)
    with pytest.raises(
        ValueError, match="Column `item` must occur once.*Received: 2 columns"
    ):
        data.from_pandas(df, make_schema())


def test_values_of_several_types():
    df = with_value("item", "x", row="b")
    with pytest.raises(
        ValueError,
        match="Column `item` must hold values of one type. Received: 'x' in "
        r"row 'b' \(index label\), of another type",
    ):
        data.from_pandas(df, make_schema())
    df = with_value("hist", [1, "x"], row="a")
    with pytest.raises(
        ValueError,
        match=r"Column `hist` must hold values of one type. Received: "
        r"\[1, 'x'\] in row 'a'",
    ):
        data.from_pandas(df, make_schema())
    df = with_value("hist", 5, row="b")
    with pytest.raises(
        ValueError, match="Column `hist` .*Received: 5 in row 'b'"
    ):
        data.from_pandas(df, make_schema())
    df = frame()
    df["hist"] = pd.Series(
        [np.array([1, 2]), 7, np.array([3])], index=df.index, dtype=object
    )
    with pytest.raises(
        ValueError, match="Column `hist` .*Received: 7 in row 'b'"
    ):
        data.from_pandas(df, make_schema())


@pytest.mark.parametrize("reader", ["pandas", "parquet"])
def test_schema_that_is_not_adapted(reader, tmp_path):
    with pytest.raises(
        ValueError, match="`schema` must be adapted.*the values of `city`"
    ):
        read(frame(), make_schema(adapt=False), reader, tmp_path)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"batch_size": 2.5}, "`batch_size`.*Received: batch_size=2.5"),
        ({"padding": "none"}, "`padding` must be 'longest' or 'max_length'"),
        ({"schema": {"a": 1}}, "`schema` must be a `Schema`. Received: dict"),
        ({"df": "rows.parquet"}, "`df` must be a data frame. Received: str"),
    ],
)
def test_arguments(kwargs, message):
    kwargs = {"df": frame(), "schema": make_schema(), **kwargs}
    with pytest.raises(ValueError, match=message):
        data.from_pandas(**kwargs)


@pytest.mark.parametrize("reader", ["pandas", "parquet"])
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"candidate_buckets": [1]},
            "`candidate_buckets` must end with a bound that holds the largest "
            r"request: 2 candidates of request=8. Received: "
            r"candidate_buckets=\[1\]",
        ),
        *(
            (
                {"candidate_buckets": wrong},
                "`candidate_buckets` must be 'auto', None or a list of "
                "positive integers that increase. Received: candidate_buckets=",
            )
            for wrong in ([], [2, 2], [4, 2], [0, 2], [2.0], "2", 2, [[2]])
        ),
        (
            {"candidate_buckets": [2], "requests": False},
            "`candidate_buckets` needs requests=True.*Received: "
            r"candidate_buckets=\[2\], requests=False",
        ),
        (
            {"weighting": "rows"},
            "`weighting` must be 'candidates' or 'requests'. Received: "
            "weighting='rows'",
        ),
        (
            {"weighting": "requests", "requests": False},
            "`weighting` must be 'candidates' unless requests=True.*Received: "
            "weighting='requests', requests=False",
        ),
    ],
)
def test_arguments_of_requests(kwargs, message, reader, tmp_path):
    kwargs = {"requests": True, **kwargs}
    for shuffle in (False, True):
        with pytest.raises(ValueError, match=message):
            read(
                frame(),
                make_schema(),
                reader,
                tmp_path,
                shuffle=shuffle,
                **kwargs,
            )


def test_schema_without_labels_or_requests():
    schema = Schema(user=[Categorical("user", 2)])
    with pytest.raises(ValueError, match="pass labels=False"):
        data.from_pandas(frame(), schema)
    with pytest.raises(ValueError, match="must name its `request_id`"):
        data.from_pandas(frame(), schema, labels=False, requests=True)


def test_the_first_wrong_row_of_many_is_named(tmp_path):
    """Rows count from the start of the frame and of the file."""
    schema = Schema(user=[Categorical("user", 10)])
    df = pd.DataFrame({"user": np.zeros(200_000, "int64")})
    df.loc[[150_003, 180_000], "user"] = 10
    df.index += 5
    with pytest.raises(ValueError, match=r"10 in row 150008 \(index label\)$"):
        data.from_pandas(df, schema, labels=False)
    with pytest.raises(ValueError, match="Received: 10 in row 150003$"):
        data.from_pandas(df.reset_index(), schema, labels=False)
    path = pathlib.Path(tmp_path) / "rows.parquet"
    df.to_parquet(path, row_group_size=60_000)
    with pytest.raises(ValueError, match="Received: 10 in row 150003 of "):
        data.from_parquet(path, schema, labels=False)
