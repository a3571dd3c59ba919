"""Batches of encoded requests: what a step of training sees."""

import numpy as np

from keras_unirec import schema as schema_lib

_PAD_MULTIPLE = 16


class Batcher:
    """Gathers requests of a `Chunk` into padded arrays.

    Args:
        encoder: `Encoder`.
        batch_size: int. Requests of a batch.
        padding: string. `"longest"` pads histories to the longest of the
            batch, rounded up to a multiple of 16; `"max_length"` always to
            the `max_length` of the sequence.
        pad_batches: bool. Whether to fill a short batch with requests of
            weight 0.
        drop_remainder: bool. Whether there are no short batches at all.
    """

    def __init__(
        self, encoder, batch_size, padding, pad_batches, drop_remainder
    ):
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(
                "`batch_size` must be a positive integer. "
                f"Received: batch_size={batch_size!r}"
            )
        if padding not in ("longest", "max_length"):
            raise ValueError(
                "`padding` must be 'longest' or 'max_length'. "
                f"Received: padding={padding!r}"
            )
        self.encoder = encoder
        self.schema = encoder.schema
        self.batch_size = batch_size
        self.padding = padding
        self.pad_batches = pad_batches
        self.drop_remainder = drop_remainder
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
            slot = np.arange(sizes.max(initial=1))
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
