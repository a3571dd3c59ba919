"""Arrow arrays as `Column`s, with errors that name the row of a value."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from keras_unirec.schema.reading.arrow_types import is_list
from keras_unirec.schema.reading.arrow_types import is_null
from keras_unirec.schema.reading.arrow_types import is_string
from keras_unirec.schema.reading.arrow_types import list_depth
from keras_unirec.schema.reading.column import MISSING
from keras_unirec.schema.reading.column import MISSING_STRING
from keras_unirec.schema.reading.column import Column
from keras_unirec.schema.reading.column import to_offsets

UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


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


def time_unit(array, name, rows):
    """Returns the unit of a column of datetimes; `None` if it has no values."""
    if is_null(array):
        return None
    read(array, name, "time", list_depth(array.type), rows)
    while is_list(array.type):
        array = array.flatten()
    return "s" if pa.types.is_date(array.type) else array.type.unit


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
