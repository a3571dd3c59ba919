"""The TensorFlow functions that turn raw columns into a model's inputs."""

import numpy as np
import tensorflow as tf

from keras_unirec import schema as schema_lib
from keras_unirec.schema import reading

_MAX_GAP = np.iinfo("int32").max


class Preprocessing(tf.Module):
    """Raw columns in, encoded inputs out: written once.

    The input pipeline calls the elementwise functions (`ids`, `numbers`,
    `gaps`, `counts`, `joined`) on the flat values of whole chunks. The exported
    model calls `user` and `item`, which are the same functions around dense,
    padded tensors. Both give the same numbers.

    Nothing here raises on a value: unknown and out-of-range ids become 1,
    numbers that are not finite become the mean, and events that are later than
    the request are at a gap of 0. The pipeline checks its data before.

    Raw tensors, by column name: integers are int64 with `-2**63` for missing,
    strings are strings with `""` for missing, numbers are float32 and times are
    int64 in the unit of the schema.

    Args:
        schema: `Schema`, adapted.

    Example:
    ```python
    preprocessing = keras_unirec.data.Preprocessing(schema)
    preprocessing.item_signature()  # {"item_id": TensorSpec((None, None), ...
    preprocessing.item({"item_id": [[3, 7]]})  # {"item_id": [[5, 9]]}
    ```
    """

    def __init__(self, schema, name="preprocessing"):
        super().__init__(name=name)
        schema.require_adapted()
        self.schema = schema
        self._vocabularies = {}
        self._tables = {}
        # The host keeps vocabularies and tables: strings live nowhere else.
        with tf.init_scope(), tf.device("CPU:0"):
            for feature in schema.features.values():
                if getattr(feature, "values", None) is not None:
                    self._vocabularies[feature.name] = _vocabulary(feature)
            for feature in schema.features.values():
                if getattr(feature, "table", None) is not None:
                    self._tables[feature.name] = self._encode_table(feature)

    # --- Elementwise, any shape ---

    def ids(self, name, values):
        """Encodes raw values of a categorical.

        Integers are hashed by the SplitMix64 finalizer, strings by
        `tf.strings.to_hash_bucket_fast`.

        Args:
            name: string. The feature.
            values: int64 or string tensor.

        Returns:
            int32 tensor of the same shape, never 0.
        """
        root = self.schema.categorical(name)
        is_string = root.dtype == "string"
        values = tf.convert_to_tensor(
            values, tf.string if is_string else tf.int64
        )
        known = tf.not_equal(
            values, reading.MISSING_STRING if is_string else reading.MISSING
        )
        if root.vocabulary.kind == "lookup":
            # Unseen values are at -1, which becomes 1.
            index = self._vocabularies[root.name].lookup(values)
        elif root.vocabulary.kind == "identity":
            known = (values >= 0) & (values < root.num_values)
            index = values
        elif is_string:
            index = tf.strings.to_hash_bucket_fast(values, root.num_values)
        else:
            index = tf.math.floormod(_hash(values), root.num_values)
        return tf.cast(tf.where(known, index + 2, 1), tf.int32)

    def numbers(self, name, values):
        """Normalizes numbers: float32 in, float32 of the same shape out."""
        feature = self.schema.numerical(name)
        values = tf.convert_to_tensor(values, tf.float32)
        finite = tf.math.is_finite(values)
        # In float64: graph optimization reorders products, and the export has
        # to give the bits that training saw.
        exact = (tf.cast(values, tf.float64) - feature.mean) / feature.std
        return tf.where(finite, tf.cast(exact, tf.float32), 0.0)

    def gaps(self, name, events, requests):
        """Returns whole seconds from events to their requests.

        Args:
            name: string. The `Timestamp` of a sequence.
            events: int64 tensor, times in its unit.
            requests: int64 tensor that broadcasts with `events`, times in the
                unit of the schema's timestamp.

        Returns:
            int32 tensor; -1 where a time is missing.
        """
        events = tf.convert_to_tensor(events, tf.int64)
        requests = tf.convert_to_tensor(requests, tf.int64)
        gaps = _seconds(requests, self.schema.timestamp) - _seconds(
            events, self.schema.feature(name)
        )
        missing = tf.equal(events, reading.MISSING) | tf.equal(
            requests, reading.MISSING
        )
        gaps = tf.clip_by_value(gaps, 0, _MAX_GAP)
        return tf.cast(tf.where(missing, tf.cast(-1, tf.int64), gaps), tf.int32)

    def counts(self, lengths):
        """Returns `log(1 + length)` of integer lengths, float32."""
        # In float64, as in `numbers`: vector and scalar code round unequally.
        logs = tf.math.log1p(tf.cast(lengths, tf.float64))
        return tf.cast(logs, tf.float32)

    def joined(self, name, ids):
        """Looks up the item table of a categorical.

        Args:
            name: string. The feature `c`, which carries a table or shares with
                a feature that does.
            ids: int32 tensor of encoded ids.

        Returns:
            dict of encoded key `c.f` -> tensor of the shape of `ids`, with the
            values of multi-valued features last.
        """
        feature = self.schema.feature(name)
        if self.schema.table(feature) is None:
            return {}
        tables = self._tables[self.schema.categorical(name).name]
        return {
            f"{name}.{column}": tf.gather(table, ids)
            for column, table in tables.items()
        }

    # --- Dense tensors ---

    def user_signature(self):
        """Raw inputs of `user`: dict of name -> `tf.TensorSpec`."""
        return self._signature("user")

    def item_signature(self):
        """Raw inputs of `item`: dict of name -> `tf.TensorSpec`."""
        return self._signature("item")

    def user(self, raw):
        """Encodes the raw tensors of the user side.

        Features of the user and the context have shape `(R,)`. Histories have
        shape `(R, T)`, oldest first, padded on the right with anything, and
        `<sequence>_length` of shape `(R,)` says how many events are real. It
        may exceed `T` if only the most recent events are sent. If the columns
        of a sequence differ in `T`, the smallest counts. Multi-valued
        columns have one more axis, and `<column>_length`.

        Args:
            raw: dict of tensors as in `user_signature()`.

        Returns:
            dict of the encoded inputs of the user side.
        """
        raw = self._check_raw(raw, "user")
        encoded = {}
        for feature in (*self.schema.user, *self.schema.context):
            encoded.update(self._encode(feature, raw))
        for sequence in self.schema.sequences:
            encoded.update(self._encode_sequence(sequence, raw))
        return encoded

    def item(self, raw):
        """Encodes the raw tensors of the candidates, of shape `(R, C)`.

        Args:
            raw: dict of tensors as in `item_signature()`.

        Returns:
            dict of the encoded inputs of the item side.
        """
        raw = self._check_raw(raw, "item")
        encoded = {}
        for feature in self.schema.item:
            encoded.update(self._encode(feature, raw))
        return encoded

    # --- Private ---

    def _encode(self, feature, raw):
        values = raw[feature.name]
        if isinstance(feature, schema_lib.Numerical):
            return {feature.name: self.numbers(feature.name, values)}
        ids = self.ids(feature.name, values)
        if feature.max_length is not None:
            lengths = raw[f"{feature.name}_length"]
            return {feature.name: _first_values(ids, lengths, feature)}
        return {feature.name: ids, **self.joined(feature.name, ids)}

    def _encode_sequence(self, sequence, raw):
        features = sequence.features
        length = tf.maximum(raw[f"{sequence.name}_length"], 0)
        # Events that every column has: one column may be shorter than others.
        names = [feature.name for feature in features]
        names += [
            f"{feature.name}_length"
            for feature in features
            if getattr(feature, "max_length", None) is not None
        ]
        width = tf.reduce_min(
            [tf.shape(raw[name], tf.int64)[1] for name in names]
        )
        order = None
        if sequence.sort_by is not None:
            real = tf.sequence_mask(length, width)
            times = raw[sequence.sort_by][:, :width]
            times = tf.where(real, times, tf.int64.max)
            order = tf.argsort(times, axis=1, stable=True)
        kept = tf.minimum(tf.minimum(length, width), sequence.max_length)
        # Events `length - kept .. length` move to the front.
        event = tf.range(tf.minimum(width, sequence.max_length))[None, :]
        real = event < kept[:, None]
        event += (tf.minimum(length, width) - kept)[:, None]
        event = tf.where(real, event, 0)
        if order is not None:
            event = tf.gather(order, event, batch_dims=1)
        encoded = {
            f"{sequence.name}.length": tf.cast(kept, tf.int32),
            f"{sequence.name}.count": self.counts(length),
        }
        for feature in features:
            values = tf.gather(raw[feature.name], event, batch_dims=1)
            if isinstance(feature, schema_lib.Timestamp):
                requests = raw[self.schema.timestamp.name][:, None]
                one = {feature.name: self.gaps(feature.name, values, requests)}
            else:
                local = {feature.name: values}
                if getattr(feature, "max_length", None) is not None:
                    key = f"{feature.name}_length"
                    lengths = tf.gather(raw[key], event, batch_dims=1)
                    local[key] = lengths
                one = self._encode(feature, local)
            for key, value in one.items():
                mask = real if len(value.shape) == 2 else real[..., None]
                is_gap = isinstance(feature, schema_lib.Timestamp)
                pad = tf.cast(-1 if is_gap else 0, value.dtype)
                encoded[key] = tf.where(mask, value, pad)
        return encoded

    def _encode_table(self, carrier):
        """Arrays by encoded id of the features of an `ItemTable`."""
        table = carrier.table
        keys = table.data[table.key]
        rows = self.column_ids(carrier.name, keys)
        tables = {}
        for feature in table.features:
            column = table.data[feature.name]
            shape = (carrier.num_values + 2,)
            if isinstance(feature, schema_lib.Numerical):
                # An id without a row gets the mean, 0 after normalization.
                values = np.zeros(shape, "float32")
                known = self.numbers(feature.name, column.values).numpy()
            else:
                known = self.column_ids(feature.name, column)
                if feature.max_length is None:
                    values = np.ones(shape, "int32")
                else:
                    values = np.zeros((*shape, feature.max_length), "int32")
                    values[:, 0] = 1
                    known = dense_values(known, column.offsets[0], feature)
                values[0] = 0
            values[rows[rows > 1]] = known[rows > 1]
            tables[feature.name] = tf.constant(values)
        return tables

    def column_ids(self, name, column):
        """Encodes the flat values of a `Column`: int32 array."""
        if column.kind == "string":
            # Each distinct string is looked up or hashed once.
            ids = self.ids(name, column.dictionary).numpy()
            return np.append(ids, np.int32(1))[column.values]
        return self.ids(name, column.values).numpy()

    def _signature(self, side):
        schema, signature = self.schema, {}

        def add(name, dtype, *shape):
            signature[name] = tf.TensorSpec(shape, dtype, name)

        def add_feature(feature, *shape):
            if isinstance(feature, schema_lib.Numerical):
                return add(feature.name, tf.float32, *shape)
            if isinstance(feature, schema_lib.Timestamp):
                return add(feature.name, tf.int64, *shape)
            root = schema.categorical(feature.name)
            is_string = root.dtype == "string"
            dtype = tf.string if is_string else tf.int64
            if feature.max_length is None:
                return add(feature.name, dtype, *shape)
            add(feature.name, dtype, *shape, None)
            add(f"{feature.name}_length", tf.int64, *shape)

        if side == "item":
            for feature in schema.item:
                add_feature(feature, None, None)
            return signature
        for feature in (*schema.user, *schema.context):
            add_feature(feature, None)
        for sequence in schema.sequences:
            for feature in sequence.features:
                add_feature(feature, None, None)
            add(f"{sequence.name}_length", tf.int64, None)
        if any(encoded.kind == "gap" for encoded in schema.encoded):
            add(schema.timestamp.name, tf.int64, None)
        return signature

    def _check_raw(self, raw, side):
        signature = self._signature(side)
        if set(raw) != set(signature):
            raise ValueError(
                f"`raw` must hold the columns {sorted(signature)}. Received: "
                f"{sorted(raw)} (missing: {sorted(set(signature) - set(raw))},"
                f" unknown: {sorted(set(raw) - set(signature))})"
            )
        tensors = {}
        for name, spec in signature.items():
            try:
                value = tf.convert_to_tensor(raw[name], spec.dtype)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Column `{name}` of `raw` must convert to "
                    f"{spec.dtype.name}. Received: {raw[name]!r}"
                ) from error
            if not spec.shape.is_compatible_with(value.shape):
                raise ValueError(
                    f"Column `{name}` of `raw` must have the shape "
                    f"{spec.shape}. Received: {value.shape}"
                )
            tensors[name] = value
        return tensors


class _SortedIntegers(tf.Module):
    """Index of integers in a sorted vocabulary, -1 for others.

    No hash table: a binary search also runs under XLA and on accelerators.
    """

    def __init__(self, values):
        super().__init__(name="sorted_integers")
        self.values = tf.constant(values, tf.int64)

    def lookup(self, values):
        flat = tf.reshape(values, [-1])
        index = tf.searchsorted(self.values, flat, out_type=tf.int64)
        last = tf.size(self.values, tf.int64) - 1
        found = tf.gather(self.values, tf.minimum(index, last)) == flat
        return tf.reshape(tf.where(found, index, -1), tf.shape(values))


class _Strings(tf.Module):
    """Index of strings in a vocabulary, -1 for others."""

    def __init__(self, values):
        super().__init__(name="strings")
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(list(values), tf.string),
                tf.range(len(values), dtype=tf.int64),
            ),
            default_value=-1,
        )

    def lookup(self, values):
        return self.table.lookup(values)


class _Empty(tf.Module):
    """The vocabulary of a column without any value."""

    def lookup(self, values):
        return tf.fill(tf.shape(values), tf.constant(-1, tf.int64))


def dense_values(values, offsets, feature):
    """Packs the first `max_length` values of each list: (rows, max_length)."""
    lengths = np.minimum(np.diff(offsets), feature.max_length)
    slot = np.arange(feature.max_length)[None, :]
    index = np.where(slot < lengths[:, None], offsets[:-1, None] + slot, -1)
    return np.append(values, values.dtype.type(0))[index]


def hash_integers(values):
    """`Preprocessing`'s hash of integers in NumPy: uint64 of any shape."""
    with np.errstate(over="ignore"):
        z = np.asarray(values, "int64").view("uint64") + np.uint64(_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
        return z ^ (z >> np.uint64(31))


_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def _hash(values):
    """SplitMix64 (Steele et al., 2014), the top 63 bits as int64."""

    def constant(value):
        return tf.constant(value, tf.uint64)

    z = tf.bitcast(values, tf.uint64) + constant(_GAMMA)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        z = tf.bitwise.bitwise_xor(
            z, tf.bitwise.right_shift(z, constant(shift))
        ) * constant(factor)
    z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, constant(31)))
    return tf.bitcast(tf.bitwise.right_shift(z, constant(1)), tf.int64)


def _vocabulary(feature):
    if not len(feature.values):
        return _Empty(name="empty")
    if feature.dtype == "string":
        return _Strings(feature.values)
    return _SortedIntegers(feature.values)


def _seconds(times, timestamp):
    return times // reading.UNITS_PER_SECOND[timestamp.unit]


def _first_values(ids, lengths, feature):
    """Cuts or pads the last axis to `max_length`, with 0 after `lengths`."""
    ids = ids[..., : feature.max_length]
    width = tf.shape(ids)[-1]
    mask = tf.sequence_mask(
        tf.minimum(lengths, tf.cast(width, lengths.dtype)), width
    )
    ids = tf.where(mask, ids, 0)
    padding = [[0, 0]] * (len(ids.shape) - 1)
    padding.append([0, feature.max_length - width])
    ids = tf.pad(ids, padding)
    return tf.ensure_shape(ids, [*ids.shape[:-1], feature.max_length])
