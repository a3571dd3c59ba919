"""Frames and Parquet files as one stream of chunks."""

import pandas as pd

from keras_unirec.schema.reading import parquet
from keras_unirec.schema.reading.checks import check_frame
from keras_unirec.schema.reading.frames import from_frame
from keras_unirec.schema.reading.rows import Rows


def chunks(data, names, needed=(), chunk_rows=131_072):
    """Streams a frame or Parquet files as (dict of arrays, `Rows`).

    Args:
        data: `pandas.DataFrame`, or anything `parquet.open_files` takes.
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
    if not parquet.is_path(data):
        raise ValueError(
            "`data` must be a data frame, or a path, folder, glob or list of "
            f"paths of Parquet files. Received: {type(data).__name__}"
        )
    for file in parquet.open_files(data, needed):
        for group in range(len(file.group_rows) if names else 0):
            yield from parquet.read_group(file, group, names, chunk_rows)
