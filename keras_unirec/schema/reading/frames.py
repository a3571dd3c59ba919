"""Columns of data frames as Arrow arrays."""

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa

from keras_unirec.schema.reading.column import to_offsets
from keras_unirec.schema.reading.rows import row_of_index


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
