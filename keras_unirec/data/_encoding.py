"""Chunks of raw columns: read, checked and encoded."""

import dataclasses

import numpy as np
import pandas as pd

from keras_unirec import schema as schema_lib
from keras_unirec.data import preprocessing as preprocessing_lib
from keras_unirec.layers._checks import check_bools
from keras_unirec.schema import reading

GROUP_ID = "__group_id__"
REQUEST_ID = "__request_id__"

# Clocks of servers disagree a little: an event may seem to be this much later
# than the request that its history belongs to. Its gap is then 0.
FUTURE_TOLERANCE_SECONDS = 60
_FIFTY_YEARS = 50 * 365 * 24 * 3600
_YEAR_2200 = 7_258_118_400  # In seconds.


@dataclasses.dataclass(frozen=True)
class Events:
    """The encoded events of a history: flat values and offsets."""

    offsets: np.ndarray
    values: dict

    @property
    def lengths(self):
        return np.diff(self.offsets)

    def take(self, rows):
        index, lengths = reading.positions(self.offsets, rows)
        values = {key: value[index] for key, value in self.values.items()}
        return Events(reading.to_offsets(lengths), values)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Encoded requests.

    `user` holds an array per request by encoded key, `item` and `labels` one
    per candidate; the candidates of request `r` are `offsets[r:r + 2]`.
    """

    user: dict
    sequences: dict
    item: dict
    labels: dict
    offsets: np.ndarray

    def __len__(self):
        return len(self.offsets) - 1

    def take(self, requests):
        candidates, sizes = reading.positions(self.offsets, requests)
        return Chunk(
            {key: value[requests] for key, value in self.user.items()},
            {name: e.take(requests) for name, e in self.sequences.items()},
            {key: value[candidates] for key, value in self.item.items()},
            {key: value[candidates] for key, value in self.labels.items()},
            reading.to_offsets(sizes),
        )


def concatenate(chunks):
    """Joins chunks, in order."""
    if len(chunks) == 1:
        return chunks[0]

    def join(dicts):
        return {
            key: np.concatenate([one[key] for one in dicts]) for key in dicts[0]
        }

    def join_offsets(parts):
        return reading.to_offsets(np.concatenate([np.diff(p) for p in parts]))

    sequences = {}
    for name in chunks[0].sequences:
        parts = [chunk.sequences[name] for chunk in chunks]
        sequences[name] = Events(
            join_offsets([part.offsets for part in parts]),
            join([part.values for part in parts]),
        )
    return Chunk(
        join([chunk.user for chunk in chunks]),
        sequences,
        join([chunk.item for chunk in chunks]),
        join([chunk.labels for chunk in chunks]),
        join_offsets([chunk.offsets for chunk in chunks]),
    )


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
        self.preprocessing = preprocessing_lib.Preprocessing(schema)
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
        schema = self.schema
        for feature, _, _ in schema.feature_columns():
            column = columns[feature.name]
            if isinstance(feature, schema_lib.Numerical):
                reading.check_finite(column, feature.name, rows)
            elif isinstance(feature, schema_lib.Categorical):
                self._check_range(feature, column, rows)
        self.check_shapes(columns, rows)
        if schema.timestamp is not None:
            self._check_times(columns, rows)
        for name in schema.label_names if self.labels else ():
            values = columns[name].values
            bad = ~((values >= 0) & (values <= 1))
            if bad.any():
                row = int(np.argmax(bad))
                raise ValueError(
                    f"Label column `{name}` must hold numbers in [0, 1]. "
                    f"Received: {values[row]} in {rows.name(row)}"
                )

    def check_shapes(self, columns, rows):
        """Raises where columns of a history, or rows of a request, differ.

        Args:
            columns: dict of `Column`, of all columns or of one side.
            rows: `Rows`, for messages.
        """
        for sequence in self.schema.sequences:
            if sequence.features[0].name in columns:
                self._check_lengths(sequence, columns, rows)
        if self.requests:
            self._check_requests(columns, rows)

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
        return preprocessing_lib.dense_values(ids, offsets, feature)

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

    def _check_range(self, feature, column, rows):
        root = self.schema.categorical(feature.name)
        bucket = "bucket" in (feature.unknown, root.unknown)
        values = column.values
        if root.vocabulary.kind != "identity" or bucket or not len(values):
            return
        # Missing values are the smallest integer.
        if values.max() < root.num_values and values.min() >= 0:
            return
        bad = (values >= root.num_values) | (values < 0)
        bad &= ~column.missing
        if bad.any():
            position = int(np.argmax(bad))
            raise ValueError(
                f"Column `{feature.name}` must hold ids in [0, "
                f"{root.num_values}), the vocabulary of "
                f"`Categorical({root.name!r})`; unknown='bucket' maps others "
                f"to the unknown id. Received: {values[position]} in "
                f"{rows.name(column.row_of(position))}"
            )

    def _check_lengths(self, sequence, columns, rows):
        first = sequence.features[0].name
        lengths = columns[first].lengths()
        for feature in sequence.features[1:]:
            others = columns[feature.name].lengths()
            if not np.array_equal(lengths, others):
                row = int(np.argmax(lengths != others))
                raise ValueError(
                    f"Column `{feature.name}` must hold as many events as "
                    f"`{first}` in each row: both belong to "
                    f"`Sequence({sequence.name!r})`. Received: {others[row]} "
                    f"and {lengths[row]} in {rows.name(row)}"
                )

    def _check_times(self, columns, rows):
        timestamp = self.schema.timestamp
        column = columns[timestamp.name]
        if column.missing.any():
            row = int(np.argmax(column.missing))
            raise ValueError(
                f"Column `{timestamp.name}` must hold the time of each "
                f"request. Received: a missing value in {rows.name(row)}"
            )
        requests = _to_seconds(column, timestamp)
        late = requests > _YEAR_2200
        if late.any():
            row = int(np.argmax(late))
            raise ValueError(
                f"Column `{timestamp.name}` must hold times in "
                f"{timestamp.unit!r}{_guess(column.values[row])}. Received: "
                f"{column.values[row]}, later than the year 2200, in "
                f"{rows.name(row)}"
            )
        far = np.abs(requests - requests[0]) > _FIFTY_YEARS
        if far.any():
            row = int(np.argmax(far))
            raise ValueError(
                f"Column `{timestamp.name}` must hold times in one unit, "
                f"{timestamp.unit!r}, within 50 years of each other. Received: "
                f"{column.values[row]} in {rows.name(row)} and "
                f"{column.values[0]} in {rows.name(0)}"
            )
        for sequence in self.schema.sequences:
            for feature in sequence.features:
                if isinstance(feature, schema_lib.Timestamp):
                    self._check_gaps(feature, requests, columns, rows)

    def _check_gaps(self, feature, requests, columns, rows):
        timestamp = self.schema.timestamp
        column = columns[feature.name]
        gaps = np.repeat(requests, column.lengths())
        gaps -= _to_seconds(column, feature)
        known = ~column.missing
        for bad, expected in (
            (
                known & (np.abs(gaps) > _FIFTY_YEARS),
                f"times in {feature.unit!r} within 50 years of "
                f"`{timestamp.name}` in {timestamp.unit!r}; check both units",
            ),
            (
                known & (gaps < -FUTURE_TOLERANCE_SECONDS),
                f"events before their request: at most "
                f"{FUTURE_TOLERANCE_SECONDS} s after `{timestamp.name}`",
            ),
            (
                self._runs_backwards(feature, column),
                "events from the oldest to the newest; `Sequence(..., "
                f"sort_by={feature.name!r})` sorts them. An event is older "
                "than the one before it",
            ),
        ):
            if bad.any():
                position = int(np.argmax(bad))
                row = column.row_of(position)
                raise ValueError(
                    f"Column `{feature.name}` must hold {expected}. Received: "
                    f"{column.values[position]} with `{timestamp.name}` "
                    f"{columns[timestamp.name].values[row]} in "
                    f"{rows.name(row)}"
                )

    def _runs_backwards(self, feature, column):
        """Events that are older than the one before, where order counts."""
        sequence = next(
            s for s in self.schema.sequences if feature in s.features
        )
        values = column.values
        backwards = np.zeros(len(values), bool)
        if sequence.sort_by is not None or len(values) < 2:
            return backwards
        backwards[1:] = values[1:] < values[:-1]
        backwards[1:] &= ~column.missing[1:] & ~column.missing[:-1]
        starts = column.offsets[0][:-1]
        backwards[starts[starts < len(values)]] = False
        return backwards

    def _check_requests(self, columns, rows):
        schema = self.schema
        ids = columns[schema.request_id]
        check_request_ids(ids, schema.request_id, rows)
        offsets = request_offsets(ids)
        sizes = np.diff(offsets)
        if not (sizes > 1).any():
            return
        first = np.repeat(offsets[:-1], sizes)
        names = [
            feature.name
            for feature, group, _ in schema.feature_columns()
            if group not in ("item", "timestamp")
        ]
        if self.has_gaps:
            names.append(schema.timestamp.name)
        if GROUP_ID in self.ids:
            names.append(schema.group_id)
        for name in filter(columns.__contains__, names):
            row = _first_difference(columns[name], first)
            if row is not None:
                column, other = columns[name], first[row]
                raise ValueError(
                    f"Column `{name}` must be the same in all rows of a "
                    "request: it belongs to the user, the context or the "
                    f"history. Received: {_short(column.row(other))} in "
                    f"{rows.name(other)} but {_short(column.row(row))} in "
                    f"{rows.name(row)}, both of "
                    f"{schema.request_id}={ids.value(row)!r}"
                )


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


def _first_difference(column, first):
    """The first row whose value differs from that of row `first[row]`."""
    rows = np.arange(column.num_rows)
    for level, offsets in enumerate(column.offsets):
        lengths = np.diff(offsets)
        bad = lengths[rows] != lengths[first]
        if bad.any():
            outer = dataclasses.replace(column, offsets=column.offsets[:level])
            return outer.row_of(int(rows[np.argmax(bad)]))
        rows, _ = reading.positions(offsets, rows)
        first, _ = reading.positions(offsets, first)
    values, others = column.values[rows], column.values[first]
    bad = values != others
    if column.kind == "float":
        bad &= ~(np.isnan(values) & np.isnan(others))
    return column.row_of(int(rows[np.argmax(bad)])) if bad.any() else None


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _to_seconds(column, timestamp):
    return column.values // reading.UNITS_PER_SECOND[timestamp.unit]


def _guess(value):
    """Names the unit in which a time would be between 1980 and 2100."""
    for unit, factor in reading.UNITS_PER_SECOND.items():
        if 3e8 * factor <= value <= 4.2e9 * factor:
            return f" (the values look like {unit!r})"
    return ""
