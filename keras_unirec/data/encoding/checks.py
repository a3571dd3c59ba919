"""Checks of raw columns: a value that cannot be right is named.

Each raises a `ValueError` with the column, what was expected, what was found
and its row.
"""

import dataclasses

import numpy as np

from keras_unirec import schema as schema_lib
from keras_unirec.data.encoding.request_ids import check_request_ids
from keras_unirec.data.encoding.request_ids import request_offsets
from keras_unirec.schema import reading

# Clocks of servers disagree a little: an event may seem to be this much later
# than the request that its history belongs to. Its gap is then 0.
FUTURE_TOLERANCE_SECONDS = 60
_FIFTY_YEARS = 50 * 365 * 24 * 3600
_YEAR_2200 = 7_258_118_400  # In seconds.


def check_features(schema, columns, rows):
    """Raises for a number that is not finite, or an id out of its range."""
    for feature, _, _ in schema.feature_columns():
        column = columns[feature.name]
        if isinstance(feature, schema_lib.Numerical):
            reading.check_finite(column, feature.name, rows)
        elif isinstance(feature, schema_lib.Categorical):
            _check_range(schema, feature, column, rows)


def check_lengths(sequence, columns, rows):
    """Raises where the columns of one history differ in length."""
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


def check_times(schema, columns, rows):
    """Raises for times of the wrong unit, and events after their request."""
    timestamp = schema.timestamp
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
    for sequence in schema.sequences:
        for feature in sequence.features:
            if isinstance(feature, schema_lib.Timestamp):
                _check_gaps(schema, feature, requests, columns, rows)


def check_requests(schema, columns, rows, more=()):
    """Raises where rows of one request differ in what belongs to it.

    Args:
        schema: `Schema` with a `request_id`.
        columns: dict of `Column`, of all columns or of one side.
        rows: `Rows`, for messages.
        more: Names of columns that belong to a request and are no features.
    """
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
    for name in filter(columns.__contains__, (*names, *more)):
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


def check_labels(schema, columns, rows):
    """Raises for a label that is missing or outside of [0, 1]."""
    for name in schema.label_names:
        values = columns[name].values
        bad = illegal_labels(values)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"Label column `{name}` must hold numbers in [0, 1]. "
                f"Received: {values[row]} in {rows.name(row)}"
            )


def illegal_labels(values):
    """Which values are no labels: NaN, too."""
    return ~((values >= 0) & (values <= 1))


def _check_range(schema, feature, column, rows):
    root = schema.categorical(feature.name)
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


def _check_gaps(schema, feature, requests, columns, rows):
    timestamp = schema.timestamp
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
            _runs_backwards(schema, feature, column),
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


def _runs_backwards(schema, feature, column):
    """Events that are older than the one before, where order counts."""
    sequence = next(s for s in schema.sequences if feature in s.features)
    values = column.values
    backwards = np.zeros(len(values), bool)
    if sequence.sort_by is not None or len(values) < 2:
        return backwards
    backwards[1:] = values[1:] < values[:-1]
    backwards[1:] &= ~column.missing[1:] & ~column.missing[:-1]
    starts = column.offsets[0][:-1]
    backwards[starts[starts < len(values)]] = False
    return backwards


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
