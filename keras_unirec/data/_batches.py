"""Batches of encoded requests: what a step of training sees."""

import itertools

import numpy as np

from keras_unirec import schema as schema_lib
from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.schema import reading

_PAD_MULTIPLE = 16
_POWERS_OF_TWO = 2 ** np.arange(62)


class Batcher:
    """Gathers requests of a `Chunk` into padded arrays.

    Args:
        encoder: `Encoder`.
        batch_size: int. Requests of a batch.
        padding: string. `"longest"` pads histories to the longest of the
            batch, rounded up to a multiple of 16, and candidates to its
            largest request; `"max_length"` pads histories to the `max_length`
            of the sequence, and candidates to the bound of the bucket of that
            request.
        pad_batches: bool. Whether to fill a short batch with requests of
            weight 0.
        drop_remainder: bool. Whether there are no short batches at all.
        candidate_buckets: `"auto"`, list of int or None. The bounds of the
            buckets of requests by their number of candidates.
        weighting: string. Whether each of the `"candidates"` or each of the
            `"requests"` weighs 1.
    """

    def __init__(
        self,
        encoder,
        batch_size,
        padding,
        pad_batches,
        drop_remainder,
        candidate_buckets,
        weighting,
    ):
        check_positive_integers(batch_size=batch_size)
        check_bools(pad_batches=pad_batches, drop_remainder=drop_remainder)
        if padding not in ("longest", "max_length"):
            raise ValueError(
                "`padding` must be 'longest' or 'max_length'. "
                f"Received: padding={padding!r}"
            )
        if weighting not in ("candidates", "requests"):
            raise ValueError(
                "`weighting` must be 'candidates' or 'requests'. "
                f"Received: weighting={weighting!r}"
            )
        if weighting == "requests" and not encoder.requests:
            raise ValueError(
                "`weighting` must be 'candidates' unless requests=True: a row "
                "that is a request of its own weighs 1 either way. "
                f"Received: weighting={weighting!r}, requests=False"
            )
        self.encoder = encoder
        self.schema = encoder.schema
        self.batch_size = batch_size
        self.padding = padding
        self.pad_batches = pad_batches
        self.drop_remainder = drop_remainder
        self.bounds = _bounds(candidate_buckets, encoder.requests)
        self.weighting = weighting
        # Inputs of a model that are not joined from a table, in one order.
        self._user = [f.name for f in (*self.schema.user, *self.schema.context)]
        self._user += [f"{s.name}.count" for s in self.schema.sequences]
        self._user += list(encoder.ids)
        self._specs = self._make_specs()

    def specs(self):
        """The `tf.TensorSpec` of each of `arrays`."""
        import tensorflow as tf

        return tuple(
            tf.TensorSpec(shape, dtype)
            for _, dtype, shape in self._specs.values()
        )

    def check_largest(self, size, name):
        """Raises if the largest request is too large for every bucket.

        Args:
            size: int. Its number of candidates.
            name: Function that returns its id, for the message.
        """
        if self.bounds is not None and size > self.bounds[-1]:
            raise ValueError(
                "`candidate_buckets` must end with a bound that holds the "
                f"largest request: {size} candidates of "
                f"{self.schema.request_id}={name()!r}. "
                f"Received: candidate_buckets={self.bounds.tolist()}"
            )

    def arrange(self, chunk, order):
        """Orders requests so that a batch holds requests of one bucket.

        A batch stands where its last request stood in `order`. What fills no
        batch of its bucket follows, largest first: cut in that order, too,
        it is padded little, and a last short batch is one of small requests.

        Args:
            chunk: `Chunk`.
            order: int array. Requests of it.

        Returns:
            The requests in their new order, and how many of them come before
            those left over: a multiple of `batch_size`.
        """
        size = self.batch_size
        if self.bounds is None:
            return order, len(order) // size * size
        sizes = np.diff(chunk.offsets)[order]
        buckets = np.searchsorted(self.bounds, sizes)
        by_bucket = np.argsort(buckets, kind="stable")
        counts = np.bincount(buckets)
        starts = reading.to_offsets(counts)[:-1]
        rank = np.arange(len(order)) - np.repeat(starts, counts)
        in_batch = rank < np.repeat(counts // size * size, counts)
        batches = by_bucket[in_batch].reshape(-1, size)
        batches = batches[np.argsort(batches[:, -1])]
        left = by_bucket[~in_batch]
        left = left[np.argsort(-sizes[left], kind="stable")]
        return order[np.append(batches, left)], batches.size

    def arrays(self, chunk, requests):
        """Returns the arrays of a batch, in the order of `specs`."""
        size = len(requests)
        if self.pad_batches and size < self.batch_size:
            requests = np.resize(requests, self.batch_size)
        arrays = [chunk.user[key][requests] for key in self._user]
        for sequence in self.schema.sequences:
            arrays += self._pad_events(
                chunk.sequences[sequence.name], sequence, requests
            )
        starts = chunk.offsets[requests]
        if not self.encoder.requests:
            candidates, real = starts[:, None], None
        else:
            sizes = chunk.offsets[requests + 1] - starts
            width = sizes.max(initial=1)
            if self.padding == "max_length" and self.bounds is not None:
                width = self.bounds[np.searchsorted(self.bounds, width)]
            slot = np.arange(width)
            real = slot < sizes[:, None]
            candidates = np.where(real, starts[:, None] + slot, 0)
        for feature in self.schema.item:
            values = chunk.item[feature.name][candidates]
            if real is not None:
                values[~real] = 0
            arrays.append(values)
        if self.encoder.labels:
            for name in self.schema.label_names:
                values = chunk.labels[name][candidates]
                if real is not None:
                    values[~real] = 0
                arrays.append(values)
            weights = np.ones(candidates.shape, "float32")
            if self.weighting == "requests":
                weights /= sizes[:, None]
            if real is not None:
                weights[~real] = 0.0
            weights[size:] = 0.0
            arrays.append(weights)
        return arrays

    def elements(self, arrays):
        """Turns the tensors of a batch into `(x, y, w)`, or `(x,)`.

        The item tables are joined here, by the function that the exported
        model uses.
        """
        tensors = {}
        for ((role, name), (_, _, shape)), array in zip(
            self._specs.items(), arrays
        ):
            array.set_shape(shape)
            tensors.setdefault(role, {})[name] = array
        found = tensors["x"]
        for feature, _, _ in self.schema.feature_columns():
            if feature.name in found:
                found.update(
                    self.encoder.preprocessing.joined(
                        feature.name, found[feature.name]
                    )
                )
        x = {e.key: found.pop(e.key) for e in self.schema.encoded}
        x.update((key, found[key]) for key in self.encoder.ids)
        if not self.encoder.labels:
            return (x,)
        return x, tensors["y"], tensors["w"]["weights"]

    def finish(self, dataset, num_requests):
        """Gives a dataset of batches its length, and reads it ahead."""
        import tensorflow as tf

        num_batches = num_requests // self.batch_size
        if not self.drop_remainder:
            num_batches = -(-num_requests // self.batch_size)
        if not num_batches:
            raise ValueError(
                "`drop_remainder=True` would drop all rows: they make no full "
                f"batch. Received: batch_size={self.batch_size}, requests="
                f"{num_requests}"
            )
        dataset = dataset.apply(
            tf.data.experimental.assert_cardinality(num_batches)
        )
        # Nothing is left to tune, and the thread that tunes may hold up the
        # end of an epoch for seconds.
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.prefetch(4).with_options(options)

    # --- Private ---

    def _pad_events(self, events, sequence, requests):
        starts = events.offsets[requests]
        lengths = events.offsets[requests + 1] - starts
        width = sequence.max_length
        if self.padding == "longest":
            longest = max(1, int(lengths.max(initial=1)))
            rounded = -(-longest // _PAD_MULTIPLE) * _PAD_MULTIPLE
            width = min(width, rounded)
        padding = np.arange(width) >= lengths[:, None]
        arrays = [lengths.astype("int32")]
        for feature in sequence.features:
            values = _windows(
                events.values[feature.name], starts, lengths, width
            )
            is_gap = isinstance(feature, schema_lib.Timestamp)
            values[padding] = -1 if is_gap else 0
            arrays.append(values)
        return arrays

    def _make_specs(self):
        """(role, name) -> (role, dtype, static shape), as `arrays` returns."""
        encoded = {e.key: e for e in self.schema.encoded}
        fixed = self.drop_remainder or self.pad_batches
        size = self.batch_size if fixed else None
        width = None if self.encoder.requests else 1
        one_bucket = self.bounds is not None and len(self.bounds) == 1
        if one_bucket and self.padding == "max_length":
            width = int(self.bounds[0])
        specs = {}

        def add(role, name, dtype, *shape):
            specs[(role, name)] = (role, dtype, (size, *shape))

        for key in self._user:
            one = encoded.get(key)
            if one is None:
                add("x", key, "int64")
            else:
                add("x", key, one.dtype, *one.shape)
        for sequence in self.schema.sequences:
            add("x", f"{sequence.name}.length", "int32")
            events = None
            if self.padding == "max_length":
                events = sequence.max_length
            for feature in sequence.features:
                one = encoded[feature.name]
                add("x", feature.name, one.dtype, events, *one.shape[1:])
        for feature in self.schema.item:
            one = encoded[feature.name]
            add("x", feature.name, one.dtype, width, *one.shape[1:])
        if self.encoder.labels:
            for name in self.schema.label_names:
                add("y", name, "float32", width)
            add("w", "weights", "float32", width)
        return specs


def _bounds(candidate_buckets, requests):
    """Returns the bounds of buckets as an array; None where there are none."""
    if candidate_buckets is None:
        return None
    if isinstance(candidate_buckets, str) and candidate_buckets == "auto":
        return _POWERS_OF_TWO if requests else None
    if not (
        isinstance(candidate_buckets, list | tuple)
        and len(candidate_buckets)
        and all(
            isinstance(b, int | np.integer)
            and not isinstance(b, bool)
            and b < 2**31
            for b in candidate_buckets
        )
        and all(a < b for a, b in itertools.pairwise([0, *candidate_buckets]))
    ):
        raise ValueError(
            "`candidate_buckets` must be 'auto', None or a list of positive "
            "integers that increase. "
            f"Received: candidate_buckets={candidate_buckets!r}"
        )
    if not requests:
        raise ValueError(
            "`candidate_buckets` needs requests=True: a row that is a request "
            "of its own has one candidate. Received: "
            f"candidate_buckets={candidate_buckets!r}, requests=False"
        )
    return np.array(candidate_buckets)


def _windows(values, starts, lengths, width):
    """Copies `width` values from each start on: (rows, width, ...).

    What comes after the length of a row is whatever follows it. Copying
    windows of one buffer is twice as fast as gathering single values.
    """
    if len(values) < width:
        room = np.zeros((width, *values.shape[1:]), values.dtype)
        room[: len(values)] = values
        values = room
    last = len(values) - width
    stride, *inner = values.strides
    windows = np.lib.stride_tricks.as_strided(
        values,
        (last + 1, width, *values.shape[1:]),
        (stride, stride, *inner),
        writeable=False,
    )[np.minimum(starts, last)]
    for row in np.flatnonzero(starts > last):
        stop = lengths[row]
        windows[row, :stop] = values[starts[row] : starts[row] + stop]
    return windows
