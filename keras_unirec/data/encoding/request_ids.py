"""Which rows belong to one request."""

import numpy as np
import pandas as pd

from keras_unirec.schema import reading


def sort_by_request(df, schema):
    """Sorts the rows of a frame so that those of a request follow each other.

    Requests are in the order of their first rows. Returns the frame and the
    row after the last of each request.
    """
    name = schema.request_id
    codes, _ = pd.factorize(df[name])
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise ValueError(
            f"Column `{name}` must hold the request of each row. Received: a "
            f"missing value in {reading.row_of_index(df.index, row)}"
        )
    order = np.argsort(codes, kind="stable")
    if not np.array_equal(order, np.arange(len(df))):
        df = df.iloc[order]
    return df, np.cumsum(np.bincount(codes))


def check_request_ids(ids, name, rows):
    """Raises for a row without a request."""
    if ids.missing.any():
        row = int(np.argmax(ids.missing))
        raise ValueError(
            f"Column `{name}` must hold the request of each row. Received: a "
            f"missing value in {rows.name(row)}"
        )


def request_offsets(ids):
    """Offsets of the runs of equal values of a `Column`."""
    starts = np.flatnonzero(ids.values[1:] != ids.values[:-1]) + 1
    return np.concatenate([[0], starts, [len(ids.values)]]).astype("int64")


def stable_ids(column):
    """int64 ids that do not depend on the chunk: strings are hashed."""
    if column.kind != "string":
        return column.values
    hashes = pd.util.hash_array(column.dictionary, categorize=False)
    return np.append(hashes.view("int64"), reading.MISSING)[column.values]
