"""Columns of frames and Parquet files as flat values plus offsets.

Everything that reads user data goes through `read`, so that an error about a
value always names the column, the row, what was expected and what was found.
"""

import dataclasses
import difflib
import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from keras_unirec import _parquet

# The raw value that stands for "missing" in integer and in string columns: a
# server has no other way to send it.
MISSING = int(np.iinfo("int64").min)
MISSING_STRING = ""

UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class Rows:
    """Names the rows of a chunk in error messages."""

    def __init__(self, index=None, start=0, path=None):
        self.index = index
        self.start = start
        self.path = path

    def name(self, row):
        row = int(row)
        if self.index is not None:
            return row_of_index(self.index, self.start + row)
        if self.path is not None:
            return f"row {self.start + row} of {self.path}"
        return f"row {self.start + row}"


class JoinedRows:
    """Names the rows of several chunks in a row: pairs (number, `Rows`)."""

    def __init__(self, parts):
        self.parts = parts

    def name(self, row):
        for number, rows in self.parts:
            if row < number:
                return rows.name(row)
            row -= number
        raise IndexError(row)

    def tail(self, start):
        """The names of the rows from `start` on."""
        parts = []
        for number, rows in self.parts:
            if start < number:
                parts.append((number - start, _Shifted(rows, start)))
            start = max(0, start - number)
        return JoinedRows(parts)


class _Shifted:
    def __init__(self, rows, start):
        self.rows = rows
        self.start = start

    def name(self, row):
        return self.rows.name(self.start + row)


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """One column: flat values and, for lists, offsets (outermost first).

    `values` are int64 with `MISSING` ("int"), float64 with NaN ("float"), or
    int32 codes with -1 for missing into `dictionary` ("string"), where `""` is
    missing too.
    """

    kind: str
    values: np.ndarray
    offsets: tuple = ()
    dictionary: np.ndarray | None = None

    @property
    def num_rows(self):
        return len(self.offsets[0]) - 1 if self.offsets else len(self.values)

    @property
    def missing(self):
        if self.kind == "float":
            return np.isnan(self.values)
        return self.values == (MISSING if self.kind == "int" else -1)

    def lengths(self, level=0):
        return np.diff(self.offsets[level])

    def row_of(self, position):
        """Returns the row that holds one flat value."""
        for offsets in reversed(self.offsets):
            position = np.searchsorted(offsets, position, side="right") - 1
        return int(position)

    def value(self, position):
        """Returns one flat value as the user wrote it."""
        value = self.values[position]
        if self.kind == "string":
            return None if value < 0 else self.dictionary[value]
        if self.kind == "int":
            return None if value == MISSING else int(value)
        return float(value)

    def take(self, rows):
        """Returns the rows of an index array, in that order."""
        offsets = []
        for level in self.offsets:
            rows, lengths = positions(level, rows)
            offsets.append(to_offsets(lengths))
        return dataclasses.replace(
            self, values=self.values[rows], offsets=tuple(offsets)
        )

    def unique(self):
        """Returns the distinct values that are not missing, sorted."""
        found = np.unique(self.values[~self.missing])
        if self.kind == "string":
            found = np.array(sorted(self.dictionary[found]), dtype=object)
        return found

    def strings(self):
        """Returns the flat strings, `MISSING_STRING` where missing."""
        texts = np.append(self.dictionary, MISSING_STRING)
        return texts[self.values]  # Code -1 is the last entry.

    def row(self, row):
        """Returns the value, list or list of lists of one row."""

        def part(level, position):
            if level == len(self.offsets):
                return self.value(position)
            start, stop = self.offsets[level][position : position + 2]
            return [part(level + 1, inner) for inner in range(start, stop)]

        return part(0, row)

    def __eq__(self, other):
        if not isinstance(other, Column):
            return NotImplemented
        if (self.kind, len(self.offsets)) != (other.kind, len(other.offsets)):
            return False
        if not all(map(np.array_equal, self.offsets, other.offsets)):
            return False
        if self.kind == "string":
            return np.array_equal(self.strings(), other.strings())
        return np.array_equal(
            self.values, other.values, equal_nan=self.kind == "float"
        )

    __hash__ = None


def concatenate(columns):
    """Joins chunks of one column."""
    first = columns[0]
    if len(columns) == 1:
        return first
    dictionary = None
    values = [column.values for column in columns]
    if first.kind == "string":
        texts = np.concatenate([column.dictionary for column in columns])
        codes, dictionary = pd.factorize(texts)
        starts = np.cumsum([0] + [len(c.dictionary) for c in columns])
        values = [
            np.append(codes[start : start + len(c.dictionary)], -1)[c.values]
            for start, c in zip(starts, columns)
        ]
        values = [codes.astype("int32") for codes in values]
    offsets = tuple(
        to_offsets(np.concatenate([c.lengths(level) for c in columns]))
        for level in range(len(first.offsets))
    )
    return Column(first.kind, np.concatenate(values), offsets, dictionary)


def from_frame(frame, name, start=0, stop=None):
    """Returns rows `start:stop` of one frame column as an Arrow array."""
    series = frame[name]
    if isinstance(series, pd.DataFrame):
        raise ValueError(
            f"Column `{name}` must occur once in the data frame. "
            f"Received: {series.shape[1]} columns of that name"
        )
    series = series.iloc[start:stop]
    try:
        if series.dtype == object:
            array = _from_objects(series.to_numpy())
        else:
            array = pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError):
        array = _from_mixed_objects(series, name)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array


def read(array, name, kind, depth, rows, unit=None):
    """Reads an Arrow array as a `Column`.

    Args:
        array: Arrow array.
        name: string. The column, for messages.
        kind: `"int"`, `"string"`, `"category"` (either), `"float"` or
            `"time"` (integers in `unit`, or datetimes).
        depth: 0 for one value a row, 1 for a list, 2 for a list of lists.
        rows: `Rows`, for messages.
        unit: string. The unit that times are converted to.
    """
    offsets = []
    expected = _expected(kind, depth)
    if isinstance(array, pa.DictionaryArray) and depth:
        array = array.dictionary_decode()
    for _ in range(depth):
        if pa.types.is_null(array.type):
            offsets.append(np.zeros(len(array) + 1, "int64"))
            array = array.slice(0, 0)
            continue
        if not is_list(array.type):
            raise _wrong_type(name, kind, depth, array, rows, offsets)
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        offsets.append(to_offsets(lengths.to_numpy(zero_copy_only=False)))
        array = array.flatten()
    if is_list(array.type):
        raise _wrong_type(name, kind, depth, array, rows, offsets)
    offsets = tuple(offsets)

    def fail(position, why):
        row = Column("int", np.empty(0), offsets).row_of(position)
        value = array[int(position)].as_py()
        raise ValueError(
            f"Column `{name}` must hold {expected}{why}. "
            f"Received: {value!r} in {rows.name(row)}"
        )

    array_type = array.type
    if pa.types.is_dictionary(array_type):
        if not is_string(array_type.value_type):
            array = array.dictionary_decode()
            array_type = array.type
        else:
            array_type = array_type.value_type
    if kind == "category":
        kind = "string" if is_string(array_type) else "int"
    if pa.types.is_null(array_type):
        if kind == "string":
            codes = np.full(len(array), -1, "int32")
            return Column(kind, codes, offsets, np.empty(0, object))
        array = array.cast(pa.float64() if kind == "float" else pa.int64())
        array_type = array.type
    if kind == "string":
        if not is_string(array_type):
            raise _wrong_type(name, kind, depth, array, rows, offsets)
        return _read_strings(array, offsets)
    if kind == "time":
        is_date = pa.types.is_date(array_type)
        if is_date or pa.types.is_timestamp(array_type):
            if is_date:
                array = array.cast(pa.timestamp("ms"))
            values = _to_int64(array.cast(pa.int64()))
            return Column(
                "int", _convert_unit(values, array.type.unit, unit), offsets
            )
        if unit is None and is_string(array_type):
            raise ValueError(
                f"Column `{name}` must hold times: numbers or datetimes. Turn "
                "strings into datetimes with `pd.to_datetime`. "
                f"Received: {array_type} in {rows.name(0)}"
            )
        if unit is None:
            raise ValueError(
                f"Column `{name}` holds numbers, so its `Timestamp` must say "
                f"their unit: unit='s', 'ms', 'us' or 'ns'. "
                f"Received: {array_type} in {rows.name(0)}"
            )
    if pa.types.is_boolean(array_type):
        array = array.cast(pa.int8())
        array_type = array.type
    is_float = pa.types.is_floating(array_type)
    if not is_float and not pa.types.is_integer(array_type):
        raise _wrong_type(name, kind, depth, array, rows, offsets)
    if kind == "float":
        values = pc.fill_null(array.cast(pa.float64(), safe=False), np.nan)
        return Column("float", values.to_numpy(zero_copy_only=False), offsets)
    if not is_float:
        try:
            return Column("int", _to_int64(array.cast(pa.int64())), offsets)
        except pa.ArrowInvalid:
            large = pc.greater(array, pa.scalar(2**63 - 1, pa.uint64()))
            fail(pc.index(large, True).as_py(), " that fit into int64")
    numbers = pc.fill_null(array.cast(pa.float64()), np.nan)
    numbers = numbers.to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    numbers = np.where(missing, 0.0, numbers)
    bad = ~(np.abs(numbers) <= 2.0**53)
    if bad.any():
        fail(np.argmax(bad), " that a float holds exactly (up to 2**53)")
    if kind == "time":
        numbers = np.floor(numbers)
    bad = numbers != np.floor(numbers)
    if bad.any():
        fail(np.argmax(bad), " (whole numbers)")
    values = numbers.astype("int64")
    values[missing] = MISSING
    return Column("int", values, offsets)


def chunks(data, names, needed=(), chunk_rows=131_072):
    """Streams a frame or Parquet files as (dict of arrays, `Rows`).

    Args:
        data: `pandas.DataFrame`, or anything `_parquet.open_files` takes.
        names: The columns to read.
        needed: Columns that have to be there although nobody reads them.
        chunk_rows: int. Rows of a chunk.
    """
    names = list(names)
    needed = [*names, *(name for name in needed if name not in names)]
    if isinstance(data, pd.DataFrame):
        check_frame(data, needed)
        for start in range(0, len(data) if names else 0, chunk_rows):
            stop = min(start + chunk_rows, len(data))
            chunk = {n: from_frame(data, n, start, stop) for n in names}
            yield chunk, Rows(data.index, start)
        return
    if not _parquet.is_path(data):
        raise ValueError(
            "`data` must be a data frame, or a path, folder, glob or list of "
            f"paths of Parquet files. Received: {type(data).__name__}"
        )
    for file in _parquet.open_files(data, needed):
        for group in range(len(file.group_rows) if names else 0):
            yield from _parquet.read_group(file, group, names, chunk_rows)


def check_frame(frame, needed):
    """Raises unless this is a data frame with rows and the needed columns."""
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(
            f"`df` must be a data frame. Received: {type(frame).__name__}"
        )
    check_columns(frame.columns, needed, "a data frame")
    if not len(frame):
        raise ValueError(
            "The data frame must have at least one row. Received: an empty "
            "data frame"
        )


def check_finite(column, name, rows):
    """Raises for the first number that is missing or infinite in float32."""
    bad = ~(np.abs(column.values) <= np.finfo("float32").max)
    if bad.any():
        position = int(np.argmax(bad))
        raise ValueError(
            f"Column `{name}` must hold finite numbers without missing "
            "values: fill them, for example with the mean, or drop the rows. "
            f"Received: {column.values[position]} in "
            f"{rows.name(column.row_of(position))}"
        )


def is_null(array):
    """Whether an Arrow array holds no values at all."""
    while is_list(array.type):
        array = array.flatten()
    return array.null_count == len(array)


def time_unit(array, name, rows):
    """Returns the unit of a column of datetimes; `None` if it has no values."""
    if is_null(array):
        return None
    read(array, name, "time", list_depth(array.type), rows)
    while is_list(array.type):
        array = array.flatten()
    return "s" if pa.types.is_date(array.type) else array.type.unit


def check_columns(present, needed, what):
    """Raises for the first needed column that is absent."""
    present = [str(name) for name in present]
    for name in needed:
        if name not in present:
            close = difflib.get_close_matches(name, present, n=3, cutoff=0.6)
            hint = f" (did you mean {', '.join(close)}?)" if close else ""
            raise ValueError(
                f"Column `{name}` is missing: the schema needs it{hint}. "
                f"Received: {what} with the columns {sorted(present)}"
            )


def row_of_index(index, position):
    """Names a row of a frame: `row 5`, `row 'a' (index label)`."""
    value = index[position]
    value = value.item() if isinstance(value, np.generic) else value
    plain = isinstance(index, pd.RangeIndex) and value == position
    return f"row {value!r}" + ("" if plain else " (index label)")


def is_list(arrow_type):
    return (
        pa.types.is_list(arrow_type)
        or pa.types.is_large_list(arrow_type)
        or pa.types.is_fixed_size_list(arrow_type)
        or pa.types.is_list_view(arrow_type)
        or pa.types.is_large_list_view(arrow_type)
    )


def is_string(arrow_type):
    return (
        pa.types.is_string(arrow_type)
        or pa.types.is_large_string(arrow_type)
        or pa.types.is_string_view(arrow_type)
    )


def list_depth(arrow_type):
    depth = 0
    while is_list(arrow_type):
        arrow_type, depth = arrow_type.value_type, depth + 1
    return depth


def positions(offsets, rows):
    """Flat positions of the values of some rows, and their lengths."""
    lengths = np.diff(offsets)[rows]
    starts = offsets[:-1][rows] - to_offsets(lengths)[:-1]
    return np.repeat(starts, lengths) + np.arange(lengths.sum()), lengths


def to_offsets(lengths):
    offsets = np.zeros(len(lengths) + 1, "int64")
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _to_int64(array):
    array = pc.fill_null(array, MISSING)
    return array.to_numpy(zero_copy_only=False)


def _convert_unit(values, unit, to):
    if to is None or unit == to:
        return values
    source, target = UNITS_PER_SECOND[unit], UNITS_PER_SECOND[to]
    if target > source:
        converted = values * (target // source)
    else:
        converted = values // (source // target)
    return np.where(values == MISSING, MISSING, converted)


def _read_strings(array, offsets):
    if not isinstance(array, pa.DictionaryArray):
        array = array.dictionary_encode()
    codes = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
    texts = np.array(array.dictionary.to_pylist(), dtype=object)
    codes = codes.astype("int32")
    for empty in np.flatnonzero(texts == MISSING_STRING):
        codes[codes == empty] = -1
    return Column("string", codes, offsets, texts)


def _expected(kind, depth):
    one, many = {
        "int": ("one integer", "integers"),
        "string": ("one string", "strings"),
        "category": ("one integer or string", "integers or strings"),
        "float": ("one number", "numbers"),
        "time": ("one time", "times"),
    }[kind]
    shapes = (one, f"one list of {many}", f"one list of lists of {many}")
    return f"{shapes[depth]} in each row"


def _wrong_type(name, kind, depth, array, rows, offsets):
    hint = ""
    if pa.types.is_decimal(array.type):
        hint = "; cast decimals to floats: `.astype(float)`"
    elif kind == "int" and is_string(array.type):
        hint = "; strings need vocabulary='hash' or 'lookup'"
    position = 0
    if array.null_count < len(array):
        position = pc.index(pc.is_valid(array), True).as_py()
    row = position
    if offsets:
        row = Column("int", np.empty(0), tuple(offsets)).row_of(position)
    value = repr(array[position].as_py()) if len(array) else "no value"
    value = value if len(value) <= 80 else value[:77] + "..."
    return ValueError(
        f"Column `{name}` must hold {_expected(kind, depth)}{hint}. "
        f"Received: {value} ({array.type}) in {rows.name(row)}"
    )


def _from_objects(values):
    """Converts an array of Python objects: scalars, lists or arrays."""
    if not any(_holds_arrays(value) for value in values):
        return pa.array(values, from_pandas=True)
    # Arrow wants NumPy arrays of one type, and may crash on others. pandas
    # mixes types readily: an empty history becomes `np.array([])`, of floats.
    is_missing = [
        value is None or isinstance(value, float) and np.isnan(value)
        for value in values
    ]
    lengths = [
        0 if missing else len(value)
        for value, missing in zip(values, is_missing)
    ]
    parts = [value for value, length in zip(values, lengths) if length]
    if all(
        isinstance(part, np.ndarray) and part.ndim == 1 and part.dtype != object
        for part in parts
    ):
        flat = np.concatenate(parts) if parts else np.empty(0, "int64")
        flat = pa.array(flat)
    else:
        objects = np.empty(sum(lengths), dtype=object)
        for position, value in enumerate(itertools.chain.from_iterable(parts)):
            objects[position] = value
        flat = _from_objects(objects)
    return pa.LargeListArray.from_arrays(to_offsets(lengths), flat)


def _holds_arrays(value):
    if isinstance(value, (list, tuple)) and len(value):
        value = value[0]
    return isinstance(value, np.ndarray)


def _from_mixed_objects(series, name):
    """Converts objects that Arrow refuses, or says which row is the odd one."""
    values = series.to_numpy(dtype=object)
    empty = ("list", None)

    def kind_of(value):
        if isinstance(value, (list, tuple, np.ndarray, pd.Series)):
            kinds = [kind_of(inner) for inner in value]
            kinds = {kind for kind in kinds if kind is not None}
            if len(kinds - {empty}) > 1:
                return ("list", "mixed")
            return ("list", min(kinds - {empty}, default=None, key=str))
        if value is None or value is pd.NA or value is pd.NaT:
            return None
        if isinstance(value, (float, np.floating)):
            return None if np.isnan(value) else "number"
        if isinstance(value, (bool, np.bool_, int, np.integer)):
            return "number"
        return type(value).__name__

    def plain(value):
        if isinstance(value, (list, tuple, np.ndarray, pd.Series)):
            return [plain(inner) for inner in value]
        if kind_of(value) is None:
            return None
        if isinstance(value, np.datetime64):
            return pd.Timestamp(value)  # `item()` would be an integer.
        return value.item() if isinstance(value, np.generic) else value

    try:
        return pa.array([plain(value) for value in values])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        kinds = [kind_of(value) for value in values]
        usual = [kind for kind in kinds if kind not in (None, empty)]
        for row, kind in enumerate(kinds):
            if kind == ("list", "mixed") or kind not in (None, empty, usual[0]):
                raise ValueError(
                    f"Column `{name}` must hold values of one type. "
                    f"Received: {values[row]!r} in "
                    f"{row_of_index(series.index, row)}, of another type"
                ) from error
        raise ValueError(
            f"Column `{name}` must hold values of one type. "
            f"Received: {str(error)!r} from {row_of_index(series.index, 0)} on"
        ) from error
