"""A data frame as a dataset of encoded batches."""

import numpy as np

from keras_unirec.data import _batches
from keras_unirec.data.encoding.chunk import concatenate
from keras_unirec.data.encoding.request_ids import sort_by_request
from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_integers
from keras_unirec.schema import reading

_CHUNK_ROWS = 131_072


def from_pandas(
    df,
    schema,
    batch_size=256,
    shuffle=False,
    seed=0,
    labels=True,
    requests=False,
    padding="longest",
    pad_batches=None,
    drop_remainder=False,
    candidate_buckets="auto",
    weighting="candidates",
):
    """Makes a `tf.data.Dataset` of the rows of a data frame.

    The whole frame is checked and encoded at once: a value that cannot be
    right raises a `ValueError` that names its column and row before any
    training step. Columns that the schema does not name are ignored.

    Args:
        df: `pandas.DataFrame`. Lists of histories may be Python lists, NumPy
            arrays or Arrow lists; a missing list is an empty history.
        schema: `Schema`, adapted.
        batch_size: int. Requests in a batch.
        shuffle: bool. Whether to shuffle, anew in each epoch.
        seed: int. Seed of the shuffling.
        labels: bool. Whether to read the labels; `False` for prediction.
        requests: bool. Whether to group the rows by the schema's `request_id`
            into one request of several candidates. User, context and
            history columns have to be equal in all rows of a request.
            Defaults to `False`: each row is a request of one candidate.
        padding: string. `"longest"` pads the histories of a batch to its
            longest, rounded up to a multiple of 16, and candidates to its
            largest request; `"max_length"`, for few or static shapes, pads
            histories to the `max_length` of their sequence, and candidates to
            the bound of the bucket of its largest request. Defaults to
            `"longest"`.
        pad_batches: bool. Whether the last batch is filled up with requests
            of weight 0, so that all have `batch_size`. Defaults to `shuffle`.
        drop_remainder: bool. Whether to drop a last batch that is not full.
        candidate_buckets: `"auto"`, list of int or None. Where requests are
            shuffled, a batch holds requests of one bucket, of similar numbers
            of candidates, so that little is padded. A list gives the bounds
            of the buckets, increasing: the most candidates of a request in
            each. `"auto"` stands for 1, 2, 4, 8 and so on, `None` for no
            buckets (candidates are then padded to the largest request of the
            batch under either `padding`). What fills no batch of its bucket
            makes up the last batches of the epoch. With `shuffle=False`
            requests keep their order, and the bounds only tell what
            `padding="max_length"` pads to. Defaults to `"auto"`.
        weighting: string. With `"candidates"`, each candidate weighs 1, as in
            training on single rows; with `"requests"`, each request does, and
            a candidate of `n` weighs `1 / n`. Metrics of `fit` are weighted
            alike. Defaults to `"candidates"`.

    Returns:
        A `tf.data.Dataset` of `(x, y, w)`: encoded inputs by key, labels by
        name, float32 of shape `(R, C)`, and the weights of the candidates, 0
        on padding. With `labels=False`, of `(x,)`.

    Raises:
        ValueError: If an argument or a value of the frame is wrong;
            `candidate_buckets` or `weighting="requests"` comes without
            `requests=True`; or a request is larger than the last of
            `candidate_buckets`.

    Example:
    ```python
    train = keras_unirec.data.from_pandas(df, schema, shuffle=True)
    model.fit(train)
    ```
    """
    import tensorflow as tf

    from keras_unirec.data.encoding.encoder import Encoder

    check_bools(shuffle=shuffle)
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
    reading.check_frame(df, encoder.columns)
    if requests:
        df, ends = sort_by_request(df, schema)
        sizes = np.diff(ends, prepend=0)
        last = ends[np.argmax(sizes)] - 1
        (name,) = df[schema.request_id].iloc[[last]].tolist()
        batcher.check_largest(sizes.max(), lambda: name)
    else:
        ends = np.arange(1, len(df) + 1)
    chunks = []
    start = 0
    while start < len(df):
        # The last request that ends inside of the chunk, or one long one.
        found = np.searchsorted(ends, start + _CHUNK_ROWS, side="right") - 1
        first = np.searchsorted(ends, start, side="right")
        stop = int(ends[max(found, first)])
        rows = reading.Rows(df.index, start)
        arrays = {
            name: reading.from_frame(df, name, start, stop)
            for name in encoder.columns
        }
        columns = encoder.read(arrays, rows)
        encoder.check(columns, rows)
        chunks.append(encoder.encode(columns))
        start = stop
    chunk = concatenate(chunks)
    del chunks, df

    def load(index):
        return batcher.arrays(chunk, index)

    dtypes = [spec.dtype for spec in batcher.specs()]

    def batch(index):
        arrays = tf.numpy_function(load, [index], dtypes)
        return batcher.elements(arrays)

    num_requests = len(chunk)
    if shuffle:
        num_used = num_requests
        if drop_remainder:  # Not always the largest ones, or the smallest.
            num_used -= num_requests % batch_size

        def arrange(order):
            return batcher.arrange(chunk, order)[0]

        dataset = tf.data.Dataset.random(
            seed=seed, rerandomize_each_iteration=True
        ).take(1)
        dataset = dataset.map(
            lambda number: tf.random.experimental.stateless_shuffle(
                tf.range(num_requests, dtype=tf.int64), [number, seed]
            )[:num_used]
        )
        dataset = dataset.map(
            lambda order: tf.ensure_shape(
                tf.numpy_function(arrange, [order], tf.int64), [num_used]
            )
        )
        dataset = dataset.rebatch(batch_size, drop_remainder=drop_remainder)
    else:
        dataset = tf.data.Dataset.range(num_requests)
        dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    return batcher.finish(
        dataset.map(batch, num_parallel_calls=2), num_requests
    )
