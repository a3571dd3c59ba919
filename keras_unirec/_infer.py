"""The guesses behind `Schema.infer`."""

import re

import numpy as np
import pyarrow as pa

from keras_unirec import _columns
from keras_unirec import schema as schema_lib

_LABEL = re.compile(
    r"^(is_)?(label|target|clicks?|clicked|likes?|liked|follow|followed|"
    r"comment|commented|forward|forwarded|share|shared|hate|hated|buy|bought|"
    r"purchase|purchased|order|ordered|convert|converted|conversion|install|"
    r"installed|long_?view|profile_enter|finish|finished|play|played|watched)$",
    re.IGNORECASE,
)
_TIME = re.compile(r"(^|_)(time|timestamp|ts|datetime)(_|$)", re.IGNORECASE)
_ITEM = re.compile(
    r"^(item|video|movie|product|ad|creative|song|track|article|news|post|"
    r"candidate|target|author|creator|seller|brand|category|tag|price)",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(^|_)(s|ms|seconds?|num|count|len|length|price|amount|age|size|days)$",
    re.IGNORECASE,
)
_ID = re.compile(r"id$", re.IGNORECASE)
_MAX_CATEGORIES = 1_000


def infer(df):
    if not hasattr(df, "columns"):
        raise ValueError(
            f"`df` must be a data frame. Received: {type(df).__name__}"
        )
    _columns.check_frame(df, ())
    names = [str(name) for name in df.columns]
    arrays = {name: _columns.from_frame(df, name) for name in names}
    sides = {"user": [], "context": [], "item": []}
    labels, lists, timestamp = [], [], None
    for name, array in arrays.items():
        if name == "request_id" or _columns.is_null(array):
            continue
        if _columns.is_list(array.type):
            lists.append(name)
        elif _LABEL.match(name) and _is_binary(array):
            labels.append(schema_lib.Label(name))
        elif (unit := _time_unit(name, array)) is not False:
            # Only one column can be the time of the request: the first.
            if timestamp is None:
                timestamp = schema_lib.Timestamp(name, unit=unit)
        else:
            sides[_side(name)].append(_scalar(name, array))
    scalars = [
        feature.name
        for side in sides.values()
        for feature in side
        if isinstance(feature, schema_lib.Categorical)
    ]
    return schema_lib.Schema(
        **sides,
        sequences=_sequences(arrays, lists, scalars, timestamp),
        labels=labels,
        request_id="request_id" if "request_id" in names else None,
        group_id="user_id" if "user_id" in names else None,
        timestamp=timestamp,
    )


def _side(name):
    if name.lower().startswith("user"):
        return "user"
    return "item" if _ITEM.match(name) else "context"


def _scalar(name, array):
    if _columns.is_string(_value_type(array)):
        return schema_lib.Categorical(name, vocabulary="lookup")
    numbers = _columns.read(array, name, "float", 0, _columns.Rows()).values
    numbers = numbers[~np.isnan(numbers)]
    whole = (numbers == np.floor(numbers)).all()
    is_float = pa.types.is_floating(_value_type(array))
    # Floats with missing values are how pandas keeps integers with gaps.
    many = len(np.unique(numbers)) > _MAX_CATEGORIES
    is_number = is_float or many or _NUMBER.search(name)
    if not whole or (is_number and not _ID.search(name)):
        return schema_lib.Numerical(name)
    return schema_lib.Categorical(name, vocabulary="lookup")


def _sequences(arrays, lists, scalars, timestamp):
    groups = {}
    for name in lists:
        array = arrays[name]
        depth = _columns.list_depth(array.type)
        kind = "category" if depth < 3 else None
        value_type = _value_type(array)
        if pa.types.is_floating(value_type):
            kind = "float"
        elif pa.types.is_timestamp(value_type):
            kind = "time"
        if kind is None:
            continue
        column = _columns.read(array, name, kind, depth, _columns.Rows())
        lengths = column.lengths()
        groups.setdefault(lengths.tobytes(), []).append((name, kind, column))
    sequences = []
    for group in groups.values():
        features, sort_by = [], None
        for name, kind, column in group:
            unit = _time_unit(name, arrays[name])
            if unit is not False:
                if timestamp is not None:
                    feature = schema_lib.Timestamp(name, unit=unit)
                    sort_by = sort_by or name
                    features.append(feature)
                continue
            if kind == "float":
                features.append(schema_lib.Numerical(name))
                continue
            steps = column.lengths(1) if len(column.offsets) == 2 else None
            shared = _shared(name, scalars)
            features.append(
                schema_lib.Categorical(
                    name,
                    vocabulary="identity" if shared else "lookup",
                    share_with=shared,
                    max_length=None if steps is None else max(1, steps.max()),
                )
            )
        if features:
            lengths = group[0][2].lengths()
            sequences.append(
                schema_lib.Sequence(
                    group[0][0],
                    # Rare long histories are cut: they would pad all others.
                    max(1, int(np.quantile(lengths, 0.95))),
                    features,
                    sort_by=sort_by,
                )
            )
    return sequences


def _shared(name, scalars):
    """The scalar column that a history repeats: `hist_video_id`."""
    matches = [s for s in scalars if name.endswith(f"_{s}")]
    return max(matches, key=len, default=None)


def _value_type(array):
    arrow_type = array.type
    while _columns.is_list(arrow_type):
        arrow_type = arrow_type.value_type
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    return arrow_type


def _flat(array):
    while _columns.is_list(array.type):
        array = array.flatten()
    return array


def _is_binary(array):
    value_type = _value_type(array)
    if not (
        pa.types.is_integer(value_type)
        or pa.types.is_floating(value_type)
        or pa.types.is_boolean(value_type)
    ):
        return False
    numbers = _columns.read(array, "", "float", 0, _columns.Rows()).values
    return bool(np.isin(numbers, (0.0, 1.0)).all())


def _time_unit(name, array):
    """The unit of a column of times, `False` if it holds none."""
    value_type = _value_type(array)
    if pa.types.is_timestamp(value_type) or pa.types.is_date(value_type):
        return None
    if not _TIME.search(name) or not pa.types.is_integer(value_type):
        return False
    values = _flat(array).drop_null().to_numpy(zero_copy_only=False)
    if not len(values):
        return False
    # Seconds since 1970 have 9 to 10 digits between 1980 and 2100.
    middle = float(np.median(values))
    for unit, factor in _columns.UNITS_PER_SECOND.items():
        if 3e8 * factor <= middle <= 4.2e9 * factor:
            return unit
    return False
