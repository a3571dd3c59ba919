"""Chunks of raw columns: read, checked and encoded."""

import dataclasses

import numpy as np

from keras_unirec import schema as schema_lib
from keras_unirec.data.encoding import checks
from keras_unirec.data.encoding.chunk import Chunk
from keras_unirec.data.encoding.chunk import Events
from keras_unirec.data.encoding.request_ids import request_offsets
from keras_unirec.data.encoding.request_ids import stable_ids
from keras_unirec.data.preprocessing import Preprocessing
from keras_unirec.data.preprocessing import dense_values
from keras_unirec.layers._checks import check_bools
from keras_unirec.schema import reading

GROUP_ID = "__group_id__"
REQUEST_ID = "__request_id__"


class Encoder:
    """Reads, checks and encodes chunks of the columns of a schema.

    Args:
        schema: `Schema`, adapted.
        labels: bool. Whether to read the labels.
        requests: bool. Whether rows of one request are grouped; a chunk then
            holds whole requests, each in consecutive rows.
    """

    def __init__(self, schema, labels=True, requests=False):
        if not isinstance(schema, schema_lib.Schema):
            raise ValueError(
                "`schema` must be a `Schema`. "
                f"Received: {type(schema).__name__}"
            )
        schema.require_adapted()
        check_bools(labels=labels, requests=requests)
        if labels and not schema.labels:
            raise ValueError(
                "`schema` must have `labels` to read them; pass labels=False "
                "for data without. Received: labels=()"
            )
        if requests and schema.request_id is None:
            raise ValueError(
                "`schema` must name its `request_id` column to group by it "
                "(requests=True). Received: request_id=None"
            )
        self.schema = schema
        self.labels = labels
        self.requests = requests
        self.preprocessing = Preprocessing(schema)
        self.has_gaps = any(e.kind == "gap" for e in schema.encoded)
        kinds = {}
        for feature, group, depth in schema.feature_columns():
            kinds[feature.name] = (self._kind(feature), depth)
        # Predictions need neither labels nor what metrics group by.
        self.ids = {}
        if labels and schema.group_id is not None:
            self.ids[GROUP_ID] = schema.group_id
        if (labels or requests) and schema.request_id is not None:
            self.ids[REQUEST_ID] = schema.request_id
        for name in self.ids.values():
            kinds.setdefault(name, ("category", 0))
        if labels:
            kinds.update((name, ("float", 0)) for name in schema.label_names)
        self._kinds = kinds

    @property
    def columns(self):
        """Names of the columns that a chunk has to hold."""
        return tuple(self._kinds)

    def read(self, arrays, rows):
        """Turns Arrow arrays into checked `Column`s.

        Args:
            arrays: dict of column name -> Arrow array, of all `columns` or
                some.
            rows: `Rows`, for messages.
        """
        units = {
            feature.name: feature.unit
            for feature, _, _ in self.schema.feature_columns()
            if isinstance(feature, schema_lib.Timestamp)
        }
        return {
            name: reading.read(
                arrays[name], name, kind, depth, rows, units.get(name)
            )
            for name, (kind, depth) in self._kinds.items()
            if name in arrays
        }

    def check(self, columns, rows):
        """Raises a `ValueError` for the first value that cannot be right."""
        checks.check_features(self.schema, columns, rows)
        self.check_shapes(columns, rows)
        if self.schema.timestamp is not None:
            checks.check_times(self.schema, columns, rows)
        if self.labels:
            checks.check_labels(self.schema, columns, rows)

    def check_shapes(self, columns, rows):
        """Raises where columns of a history, or rows of a request, differ.

        Args:
            columns: dict of `Column`, of all columns or of one side.
            rows: `Rows`, for messages.
        """
        for sequence in self.schema.sequences:
            if sequence.features[0].name in columns:
                checks.check_lengths(sequence, columns, rows)
        if self.requests:
            more = []
            if self.has_gaps:
                more.append(self.schema.timestamp.name)
            if GROUP_ID in self.ids:
                more.append(self.schema.group_id)
            checks.check_requests(self.schema, columns, rows, more)

    def encode(self, columns):
        """Encodes checked columns as a `Chunk`, on the host."""
        import tensorflow as tf

        with tf.device("CPU:0"):
            return self._encode(columns)

    # --- Private ---

    def _encode(self, columns):
        schema, encoder = self.schema, self.preprocessing
        num_rows = next(iter(columns.values())).num_rows
        offsets = np.arange(num_rows + 1)
        if self.requests:
            offsets = request_offsets(columns[schema.request_id])
        firsts = offsets[:-1] if self.requests else None

        def per_request(name):
            column = columns[name]
            return column if firsts is None else column.take(firsts)

        user, sequences, item = {}, {}, {}
        for feature in (*schema.user, *schema.context):
            user[feature.name] = self._values(
                feature, per_request(feature.name)
            )
        for feature in schema.item:
            item[feature.name] = self._values(feature, columns[feature.name])
        requests = None
        if self.has_gaps:
            requests = per_request(schema.timestamp.name).values
        for sequence in schema.sequences:
            raw = {f.name: per_request(f.name) for f in sequence.features}
            lengths = next(iter(raw.values())).lengths()
            counts = encoder.counts(lengths).numpy()
            user[f"{sequence.name}.count"] = counts
            sequences[sequence.name] = self._events(sequence, raw, requests)
        for key, name in self.ids.items():
            user[key] = stable_ids(per_request(name))
        labels = {
            name: columns[name].values.astype("float32")
            for name in (schema.label_names if self.labels else ())
        }
        return Chunk(user, sequences, item, labels, offsets)

    def _kind(self, feature):
        if isinstance(feature, schema_lib.Numerical):
            return "float"
        if isinstance(feature, schema_lib.Timestamp):
            return "time"
        root = self.schema.categorical(feature.name)
        return "string" if root.dtype == "string" else "int"

    def _values(self, feature, column):
        """One encoded feature: flat over rows, or over events."""
        encoder = self.preprocessing
        if isinstance(feature, schema_lib.Numerical):
            return encoder.numbers(feature.name, column.values).numpy()
        ids = encoder.column_ids(feature.name, column)
        if feature.max_length is None:
            return ids
        offsets = column.offsets[-1]
        return dense_values(ids, offsets, feature)

    def _events(self, sequence, raw, requests):
        first = next(iter(raw.values()))
        lengths = first.lengths()
        order = None
        if sequence.sort_by is not None:
            row = np.repeat(np.arange(len(lengths)), lengths)
            # Stable, and missing times are the smallest number: oldest.
            order = np.lexsort((raw[sequence.sort_by].values, row))
        kept = np.minimum(lengths, sequence.max_length)
        index = None
        if order is not None or (kept < lengths).any():
            starts = first.offsets[0][1:] - kept
            index = np.repeat(starts - reading.to_offsets(kept)[:-1], kept)
            index += np.arange(kept.sum())
            if order is not None:
                index = order[index]
        values = {}
        for feature in sequence.features:
            column = raw[feature.name]
            events = dataclasses.replace(column, offsets=column.offsets[1:])
            if index is not None:
                events = events.take(index)
            if isinstance(feature, schema_lib.Timestamp):
                values[feature.name] = self.preprocessing.gaps(
                    feature.name, events.values, np.repeat(requests, kept)
                ).numpy()
            else:
                values[feature.name] = self._values(feature, events)
        return Events(reading.to_offsets(kept), values)
