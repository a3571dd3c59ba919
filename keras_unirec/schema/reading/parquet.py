"""Parquet files: finding them, checking them and streaming them."""

import dataclasses
import glob
import os
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

from keras_unirec.schema.reading.arrow_types import is_list
from keras_unirec.schema.reading.arrow_types import is_string
from keras_unirec.schema.reading.checks import check_columns
from keras_unirec.schema.reading.rows import Rows


@dataclasses.dataclass(frozen=True)
class ParquetFile:
    """A file whose footer was read: its path and rows per row group."""

    path: str
    group_rows: tuple
    metadata: pq.FileMetaData

    @property
    def num_rows(self):
        return sum(self.group_rows)


def is_path(data):
    """Whether `data` is a path, or a list of paths."""
    if isinstance(data, (str, os.PathLike)):
        return True
    return (
        isinstance(data, (list, tuple))
        and len(data) > 0
        and all(isinstance(path, (str, os.PathLike)) for path in data)
    )


def open_files(paths, columns):
    """Finds Parquet files, reads all footers and checks the columns.

    Args:
        paths: path of a file or of a folder, glob, or list of those.
        columns: list of strings. The columns that every file must have.

    Returns:
        A list of `ParquetFile`, in the order given, sorted inside a folder.
    """
    files, kinds = [], {}
    for path in _expand(paths):
        try:
            with pq.ParquetFile(path) as file:
                metadata, schema = file.metadata, file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"File `{path}` must be a complete Parquet file; it is "
                f"truncated, corrupt or of another format. Received: {error}"
            ) from error
        check_columns(schema.names, columns, f"the file {path}")
        for name in columns:
            found = schema.field(name).type
            kind = _kind(found)
            if kind is None:  # All values are missing.
                continue
            first = kinds.setdefault(name, (kind, found, path))
            if first[0] != kind:
                raise ValueError(
                    f"Column `{name}` must have one type in all Parquet "
                    f"files. Received: {first[1]} in {first[2]} and {found} "
                    f"in {path}"
                )
        groups = range(metadata.num_row_groups)
        files.append(
            ParquetFile(
                path,
                tuple(metadata.row_group(g).num_rows for g in groups),
                metadata,
            )
        )
    if not sum(file.num_rows for file in files):
        raise ValueError(
            "`paths` must hold at least one row. Received: "
            f"{len(files)} Parquet files without rows"
        )
    return files


def read_group(file, group, columns, chunk_rows):
    """Streams a row group as (dict of Arrow arrays, `Rows`)."""
    start = sum(file.group_rows[:group])
    try:
        with pq.ParquetFile(file.path, metadata=file.metadata) as reader:
            batches = reader.iter_batches(
                chunk_rows, row_groups=[group], columns=list(columns)
            )
            for batch in batches:
                chunk = {name: batch.column(name) for name in columns}
                yield chunk, Rows(start=start, path=file.path)
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"File `{file.path}` must be a complete Parquet file; its data "
            f"is corrupt from row {start} on. Received: {error}"
        ) from error


def _expand(paths):
    if not is_path(paths):
        raise ValueError(
            "`paths` must be the path of a Parquet file or folder, a glob, or "
            f"a list of those. Received: {paths!r}"
        )
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    files = []
    for path in paths:
        path = os.fspath(path)
        if os.path.isdir(path):
            # Names with "_" or "." are notes that writers leave behind.
            found = sorted(
                str(file)
                for file in pathlib.Path(path).rglob("*.parquet")
                if not file.name.startswith(("_", "."))
            )
        elif os.path.exists(path):
            found = [path]
        else:
            found = sorted(glob.glob(path, recursive=True))
        if not found:
            raise ValueError(
                "`paths` must lead to Parquet files. Received: "
                f"{path!r}, where there are none"
            )
        files += found
    return files


def _kind(arrow_type):
    """The type as far as it matters: widths may differ between files.

    `None` where a file holds no values, which goes with any type.
    """
    if is_list(arrow_type):
        inner = _kind(arrow_type.value_type)
        return inner and ("list", inner)
    if pa.types.is_dictionary(arrow_type):
        return _kind(arrow_type.value_type)
    if pa.types.is_null(arrow_type):
        return None
    if pa.types.is_integer(arrow_type) or pa.types.is_boolean(arrow_type):
        return "int"
    if pa.types.is_floating(arrow_type):
        return "float"
    if is_string(arrow_type):
        return "string"
    if pa.types.is_timestamp(arrow_type) or pa.types.is_date(arrow_type):
        return "time"
    return str(arrow_type)
