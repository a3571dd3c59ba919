"""Histories of a log: for each row, lists over the user's earlier events."""

import numpy as np
import pandas as pd
import pyarrow as pa


def windows(event_user, event_time, user, time, max_length):
    """Finds the last events before each row, without a loop over rows.

    Args:
        event_user, event_time: int arrays, the events in order of (user,
            time).
        user, time: int arrays, the rows in any order.
        max_length: int. Events to keep of each row.

    Returns:
        Two int arrays, start and end of each row's events: those of its user
        that are strictly earlier, the last `max_length` of them.
    """
    # One number that sorts like (user, time).
    users, code = np.unique(
        np.concatenate([event_user, user]), return_inverse=True
    )
    everything = np.concatenate([event_time, time]).astype("int64")
    origin = everything.min(initial=np.iinfo("int64").max)
    stride = everything.max(initial=origin) - origin + 1
    if len(users) * int(stride) >= 2**63:
        raise ValueError(
            "Times must lie closer together to be sorted by user and time. "
            f"Received: {len(users)} users, times {origin} .. "
            f"{origin + stride - 1}"
        )
    code = code * stride
    events = len(event_user)
    event_key = code[:events] + (everything[:events] - origin)
    first = np.searchsorted(event_key, code[events:])
    end = np.searchsorted(event_key, code[events:] + (time - origin))
    return np.maximum(first, end - max_length), end


def list_column(values, start, end):
    """Makes a column of lists, `values[start:end]` of each row.

    Args:
        values: Array, NumPy's or Arrow's.
        start, end: int arrays with one entry per row.

    Returns:
        `pandas.Series` of Arrow lists, which the readers take without a
        Python object per list.
    """
    length = end - start
    offsets = np.append(0, np.cumsum(length))
    dtype = "int32" if offsets[-1] < 2**31 else "int64"  # For speed.
    index = np.repeat((start - offsets[:-1]).astype(dtype), length)
    index += np.arange(offsets[-1], dtype=dtype)
    if not isinstance(values, (pa.Array, pa.ChunkedArray)):
        values = pa.array(values)
    values = values.take(pa.array(index))
    array = pa.LargeListArray.from_arrays(offsets, values)
    return pd.Series(array, dtype=pd.ArrowDtype(array.type))
