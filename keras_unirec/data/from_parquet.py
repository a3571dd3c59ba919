"""Parquet files as a dataset of encoded batches."""

import concurrent.futures
import itertools

import numpy as np

from keras_unirec.data import _batches
from keras_unirec.data.encoding.chunk import concatenate
from keras_unirec.data.encoding.request_ids import check_request_ids
from keras_unirec.data.encoding.request_ids import request_offsets
from keras_unirec.data.encoding.request_ids import stable_ids
from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_integers
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.schema import reading

_CHUNK_ROWS = 32_768
# Smaller row groups are joined before they are encoded: each call costs time.
_MIN_ROWS = 16_384


def from_parquet(
    paths,
    schema,
    batch_size=256,
    shuffle=False,
    seed=0,
    labels=True,
    requests=False,
    padding="longest",
    pad_batches=None,
    drop_remainder=False,
    shuffle_buffer=131_072,
    validate=True,
    candidate_buckets="auto",
    weighting="candidates",
):
    """Makes a `tf.data.Dataset` of the rows of Parquet files.

    The files are streamed by row group and may be larger than memory. Footers
    of all files are read at once, so a truncated file is found immediately.
    Columns that the schema does not name are not read.

    Args:
        paths: path of a file, of a folder (its `.parquet` files, sorted), a
            glob, or a list of those.
        schema: `Schema`, adapted.
        batch_size: int. Requests in a batch.
        shuffle: bool. Whether to shuffle, anew in each epoch: the order of the
            row groups, and requests within a buffer.
        seed: int. Seed of the shuffling.
        labels: bool. Whether to read the labels; `False` for prediction.
        requests: bool. Whether to group the rows by the schema's `request_id`
            into one request of several candidates. The rows of a request
            have to follow each other; they may cross row groups and files.
        padding: string. `"longest"` or `"max_length"`, as in `from_pandas`.
            Defaults to `"longest"`.
        pad_batches: bool. Whether the last batch is filled up with requests
            of weight 0. Defaults to `shuffle`.
        drop_remainder: bool. Whether to drop a last batch that is not full.
        shuffle_buffer: int. Requests that are kept in memory to shuffle. Where
            row groups are fewer or longer than that, their order matters.
        validate: bool. Whether to check every value before the first batch,
            in one more pass over the files. Otherwise a wrong value stops the
            training when it is read.
        candidate_buckets: `"auto"`, list of int or None. The buckets of
            requests by number of candidates, as in `from_pandas`. What fills
            no batch of its bucket waits in the buffer for the row groups that
            follow. Defaults to `"auto"`.
        weighting: string. Whether each of the `"candidates"` or each of the
            `"requests"` weighs 1, as in `from_pandas`. Defaults to
            `"candidates"`.

    Returns:
        A `tf.data.Dataset` as of `from_pandas`.

    Raises:
        ValueError: If an argument or a file is wrong, the rows of a request
            do not follow each other, or, with `validate=True`, a value is
            wrong; and as in `from_pandas`.

    Example:
    ```python
    schema = schema.adapt("train/")
    train = keras_unirec.data.from_parquet("train/", schema, shuffle=True)
    model.fit(train)
    ```
    """
    import tensorflow as tf

    from keras_unirec.data.encoding.encoder import Encoder

    check_positive_integers(shuffle_buffer=shuffle_buffer)
    check_bools(shuffle=shuffle, validate=validate)
    check_integers(0, 2**63 - 1, seed=seed)
    encoder = Encoder(schema, labels, requests)
    batcher = _batches.Batcher(
        encoder,
        batch_size,
        padding,
        shuffle if pad_batches is None else pad_batches,
        drop_remainder,
        candidate_buckets,
        weighting,
    )
    stream = _Stream(reading.open_files(paths, encoder.columns), encoder)
    if requests:
        batcher.check_largest(
            stream.largest_size, lambda: stream.request(stream.largest)[0]
        )
    if validate:
        for columns, rows in stream.columns(stream.units):
            encoder.check(columns, rows)
    epochs = itertools.count()

    def generate():
        rng, units = None, list(stream.units)
        if shuffle:
            rng = np.random.default_rng([seed, next(epochs)])
            rng.shuffle(units)
        for chunk, index in _pools(
            stream.chunks(units), batcher, shuffle_buffer, rng
        ):
            for start in range(0, len(index), batch_size):
                yield tuple(
                    batcher.arrays(chunk, index[start : start + batch_size])
                )

    dataset = tf.data.Dataset.from_generator(
        generate, output_signature=batcher.specs()
    )
    return batcher.finish(
        dataset.map(
            lambda *arrays: batcher.elements(arrays), num_parallel_calls=2
        ),
        stream.num_requests,
    )


class _Stream:
    """Row groups of files, in units that hold whole requests."""

    def __init__(self, files, encoder):
        self.encoder = encoder
        groups = [
            (file, group)
            for file in files
            for group, rows in enumerate(file.group_rows)
            if rows
        ]
        self.groups = groups
        if encoder.requests:
            self._by_request()
        else:
            self.units = [[group] for group in groups]
            self.num_requests = sum(file.num_rows for file in files)

    def columns(self, units):
        """Yields (dict of `Column`, rows) of whole requests."""
        pending, num_rows = [], 0
        for columns, rows in self._read(units):
            pending.append((columns, rows))
            num_rows += _num_rows(columns)
            if num_rows >= _MIN_ROWS:
                yield _join(pending)
                pending, num_rows = [], 0
        if pending:
            yield _join(pending)

    def chunks(self, units):
        """Yields encoded chunks; the next one is made meanwhile."""

        def encode():
            for columns, rows in self.columns(units):
                self.encoder.check(columns, rows)
                yield self.encoder.encode(columns)

        chunks = encode()
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            following = executor.submit(next, chunks, None)
            while (chunk := following.result()) is not None:
                following = executor.submit(next, chunks, None)
                yield chunk

    def request(self, position):
        """Returns the id of a request, and the row where it starts."""
        for _, (column, rows, starts), _, _ in self._runs():
            if position < len(starts):
                start = starts[position]
                return column.value(start), rows.name(start)
            position -= len(starts)

    def _read(self, units):
        """Reads row groups; cuts them between requests."""
        for unit in units:
            left = None
            for file, group in unit:
                for arrays, rows in reading.read_group(
                    file, group, self.encoder.columns, _CHUNK_ROWS
                ):
                    columns = self.encoder.read(arrays, rows)
                    if not self.encoder.requests:
                        yield columns, rows
                        continue
                    whole, left = self._split(columns, rows, left)
                    if whole is not None:
                        yield whole
            if left is not None:
                yield left

    def _split(self, columns, rows, left):
        """Cuts off the last request, which the next chunk may go on with."""
        name = self.encoder.schema.request_id
        columns, rows = _join(
            [(columns, rows)] if left is None else [left, (columns, rows)]
        )
        cut = request_offsets(columns[name])[-2]
        tail = np.arange(cut, columns[name].num_rows)
        left = (
            {key: column.take(tail) for key, column in columns.items()},
            rows.tail(cut),
        )
        if not cut:
            return None, left
        head = np.arange(cut)
        columns = {key: column.take(head) for key, column in columns.items()}
        return (columns, rows), left

    def _by_request(self):
        """Joins row groups that share a request into units."""
        self.units, found, all_starts, num_rows = [], [], [], 0
        for place, (column, _, starts), ids, goes_on in self._runs():
            if self.units and self.units[-1][-1] == place:
                pass  # Another chunk of the same row group.
            elif goes_on:
                self.units[-1].append(place)
            else:
                self.units.append([place])
            found.append(ids)
            all_starts.append(num_rows + starts)
            num_rows += column.num_rows
        found = np.concatenate(found)
        ordered = np.sort(found)
        if (ordered[1:] == ordered[:-1]).any():
            self._raise_again(found)
        sizes = np.diff(np.concatenate(all_starts), append=num_rows)
        self.num_requests = len(sizes)
        self.largest = int(np.argmax(sizes))
        self.largest_size = sizes[self.largest]

    def _runs(self):
        """Yields where requests start, chunk by chunk of the id column.

        As (place, (column, rows, starts), ids of the starts, whether the
        chunk goes on with the request before it).
        """
        name = self.encoder.schema.request_id
        last = None
        for place in self.groups:
            for arrays, rows in reading.read_group(*place, [name], _CHUNK_ROWS):
                column = reading.read(arrays[name], name, "category", 0, rows)
                check_request_ids(column, name, rows)
                starts = request_offsets(column)[:-1]
                ids = stable_ids(column)
                goes_on = last is not None and ids[0] == last
                last = ids[-1]
                starts = starts[1:] if goes_on else starts
                yield place, (column, rows, starts), ids[starts], goes_on

    def _raise_again(self, ids):
        """Names the first request that starts a second time."""
        _, first = np.unique(ids, return_index=True)
        again = np.ones(len(ids), "bool")
        again[first] = False
        value, row = self.request(int(np.argmax(again)))
        raise ValueError(
            f"Column `{self.encoder.schema.request_id}` must hold the rows of "
            "a request one after another: sort the files by it. Received: "
            f"{value!r} again in {row}, after other requests"
        )


def _num_rows(columns):
    return next(iter(columns.values())).num_rows


def _join(parts):
    """Joins pairs of (dict of `Column`, rows) into one."""
    columns = {
        name: reading.concatenate([part[name] for part, _ in parts])
        for name in parts[0][0]
    }
    rows = [(_num_rows(part), rows) for part, rows in parts]
    return columns, reading.JoinedRows(rows)


def _pools(chunks, batcher, shuffle_buffer, rng):
    """Yields (chunk, requests of it) to cut into batches.

    All but the last hold a multiple of `batch_size`. With `rng`, half of a
    full buffer is drawn at random; the other half, and what fills no batch of
    its bucket, mixes with what follows.
    """
    batch_size = batcher.batch_size
    least = batch_size if rng is None else shuffle_buffer
    kept = 0 if rng is None else shuffle_buffer // 2
    parts, size = [], 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size < least:
            continue
        pool = concatenate(parts)
        index = np.arange(size)
        stop = max(0, size - kept) // batch_size * batch_size
        if rng is not None:
            rng.shuffle(index)
            index[:stop], stop = batcher.arrange(pool, index[:stop])
        yield pool, index[:stop]
        parts = [pool.take(np.sort(index[stop:]))]
        size = len(parts[0])
    if size:
        pool = concatenate(parts)
        index = np.arange(size)
        if rng is not None:
            rng.shuffle(index)
        if batcher.drop_remainder:
            index = index[: size // batch_size * batch_size]
        if rng is not None:
            index, _ = batcher.arrange(pool, index)
        yield pool, index
