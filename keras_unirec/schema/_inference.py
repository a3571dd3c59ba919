"""The guesses behind `Schema.infer`."""

import re
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa

from keras_unirec.schema import reading
from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.label import Label
from keras_unirec.schema.numerical import Numerical
from keras_unirec.schema.sequence import Sequence
from keras_unirec.schema.timestamp import Timestamp

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
# What is measured after the item was shown, and so gives labels away.
_OUTCOME = re.compile(r"^(play|watch|view|dwell|stay)\w*_(ms|s|seconds|time)$")
_ID = re.compile(r"id$", re.IGNORECASE)
_REQUEST = re.compile(r"^req(uest)?(_?id)?$", re.IGNORECASE)
_REQUEST_LIKE = re.compile(
    r"^(session|search|query|impression|slate|visit|pageview)_?id$",
    re.IGNORECASE,
)
# What may stand behind the name of a column in that of its history.
_HISTORY = ("hist", "history", "list", "seq", "sequence", "log")
_MAX_CATEGORIES = 1_000
# Columns with more different values per row are perhaps keys of the rows.
_UNIQUE, _UNIQUE_ROWS = 0.9, 50


def propose(df, request_id=None):
    """Returns the arguments of a `Schema` of a frame, and the doubts.

    The doubts are lines for `warn`.
    """
    reading.check_frame(df, () if request_id is None else (request_id,))
    names = [str(name) for name in df.columns]
    arrays = {name: reading.from_frame(df, name) for name in names}
    doubts = {}
    for name in names:
        if reading.is_null(arrays[name]):
            doubts[name] = "no values; left out"
            del arrays[name]
    if request_id is None:
        found = filter(_REQUEST.match, arrays)
        request_id = next(
            (n for n in found if not reading.is_list(arrays[n].type)), None
        )
    firsts = _first_rows(df, request_id)
    sides = {"user": [], "context": [], "item": []}
    labels, lists, timestamp = [], [], None
    for name, array in arrays.items():
        if name == request_id:
            continue
        if reading.is_list(array.type):
            if _varies(name, array, firsts) and _is_multi_valued(array):
                sides["item"].append(_multi_valued(name, array))
            else:
                lists.append(name)
        elif _LABEL.match(name) and _is_binary(array):
            labels.append(Label(name))
        elif (unit := _time_unit(name, array)) is not False:
            # Only one column can be the time of the request: the first.
            if timestamp is None:
                timestamp = Timestamp(name, unit=unit)
            else:
                doubts[name] = f"a time besides `{timestamp.name}`; left out"
        else:
            side = "item" if _varies(name, array, firsts) else _side(name)
            sides[side].append(_scalar(name, array))
            doubt = _doubt(array, sides[side][-1])
            if doubt:
                doubts[name] = doubt
    scalars = [
        feature.name
        for side in sides.values()
        for feature in side
        if isinstance(feature, Categorical) and feature.max_length is None
    ]
    sequences = _sequences(arrays, lists, scalars, timestamp)
    found = {f.name: f for sequence in sequences for f in sequence.features}
    for name in lists:
        if name not in found:
            doubts[name] = "a list that cannot be part of a history; left out"
        elif isinstance(found[name], Categorical):
            values = _flat(arrays[name]).unique()
            if found[name].share_with is None and len(values) > 2:
                doubts[name] = (
                    "a list with a vocabulary of its own; give it `share_with` "
                    "if it repeats another column"
                )
    arguments = {
        **sides,
        "sequences": sequences,
        "labels": labels,
        "request_id": request_id,
        "group_id": "user_id" if "user_id" in arrays else None,
        "timestamp": timestamp,
    }
    lines = [f"`{name}`: {doubt}" for name, doubt in doubts.items()]
    if not labels:
        lines.append("no column looks like a label")
    return arguments, lines


def warn(doubts):
    """Warns the caller of `Schema.infer` of what to look at."""
    if doubts:
        lines = "\n".join(f"- {doubt}" for doubt in doubts)
        warnings.warn(f"`Schema.infer` guesses; look at\n{lines}", stacklevel=3)


def _doubt(array, feature):
    """Says why a column might not be the feature that it was taken for."""
    value_type = _value_type(array)
    if _OUTCOME.match(feature.name.lower()):
        return "named like an outcome of the row; leave it out if it is one"
    if _REQUEST_LIKE.match(feature.name):
        return (
            "named like a request, taken as an input; give it as "
            f"`request_id={feature.name!r}` if its rows were shown together"
        )
    if pa.types.is_floating(value_type):
        return None
    if not reading.is_string(value_type) and _is_binary(array):
        return (
            "0 and 1, taken as an input; make it a label or leave it out if "
            "it is an outcome of the row"
        )
    number = len(array) - array.null_count
    if number >= _UNIQUE_ROWS and len(array.unique()) > _UNIQUE * number:
        return (
            f"nearly every row has its own value, taken as a "
            f"`{type(feature).__name__}`; leave it out if it is a key"
        )
    return None


def _first_rows(df, request_id):
    """By row, the first row of its request; `None` without requests."""
    if request_id is None:
        return None
    codes, requests = pd.factorize(df[request_id])
    first = np.zeros(len(requests) + 1, "int64")
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return np.where(codes < 0, np.arange(len(codes)), first[codes])


def _varies(name, array, firsts):
    """Whether a column differs between rows of one request."""
    if firsts is None:
        return False
    depth = reading.list_depth(array.type)
    kind = _kind(array)
    if depth > 2 or kind is None:
        return False
    column = reading.read(array, name, kind, depth, reading.Rows())
    return column != column.take(firsts)


def _is_multi_valued(array):
    depth = reading.list_depth(array.type)
    return depth == 1 and _kind(array) == "category"


def _multi_valued(name, array):
    lengths = array.value_lengths().drop_null().to_numpy()
    return Categorical(
        name, vocabulary="lookup", max_length=max(1, int(lengths.max()))
    )


def _side(name):
    if name.lower().startswith("user"):
        return "user"
    return "item" if _ITEM.match(name) else "context"


def _scalar(name, array):
    if reading.is_string(_value_type(array)):
        return Categorical(name, vocabulary="lookup")
    numbers = reading.read(array, name, "float", 0, reading.Rows()).values
    numbers = numbers[~np.isnan(numbers)]
    whole = (numbers == np.floor(numbers)).all()
    is_float = pa.types.is_floating(_value_type(array))
    # Floats with missing values are how pandas keeps integers with gaps.
    many = len(np.unique(numbers)) > _MAX_CATEGORIES
    is_number = is_float or many or _NUMBER.search(name)
    if not whole or (is_number and not _ID.search(name)):
        return Numerical(name)
    return Categorical(name, vocabulary="lookup")


def _sequences(arrays, lists, scalars, timestamp):
    groups = {}
    for name in lists:
        array = arrays[name]
        depth = reading.list_depth(array.type)
        kind = _kind(array)
        if depth > (2 if kind == "category" else 1) or kind is None:
            continue
        column = reading.read(array, name, kind, depth, reading.Rows())
        lengths = column.lengths()
        groups.setdefault(lengths.tobytes(), []).append((name, kind, column))
    sequences = []
    for group in groups.values():
        features, sort_by = [], None
        for name, kind, column in group:
            unit = _time_unit(name, arrays[name])
            if unit is not False:
                if timestamp is not None:
                    feature = Timestamp(name, unit=unit)
                    sort_by = sort_by or name
                    features.append(feature)
                continue
            if kind == "float":
                features.append(Numerical(name))
                continue
            steps = column.lengths(1) if len(column.offsets) == 2 else None
            shared = _shared(name, arrays[name], scalars, arrays)
            features.append(
                Categorical(
                    name,
                    vocabulary="identity" if shared else "lookup",
                    share_with=shared,
                    max_length=None if steps is None else max(1, steps.max()),
                )
            )
        if features:
            lengths = group[0][2].lengths()
            sequences.append(
                Sequence(
                    group[0][0],
                    # Rare long histories are cut: they would pad all others.
                    max(1, int(np.quantile(lengths, 0.95))),
                    features,
                    sort_by=sort_by,
                )
            )
    return sequences


def _shared(name, array, scalars, arrays):
    """The column that a history repeats: `item_id` for `viewed_item_ids`."""
    words = _words(name)
    endings = [_words(ending) for ending in _HISTORY]
    while words[1:] and words[-1:] in endings:
        words.pop()
    matches = []
    for scalar in scalars:
        if _is_string(arrays[scalar]) != _is_string(array):
            continue
        target = _words(scalar)
        matches.append((_ends_with(words, target), True, scalar))
        if target[-1:] == ["id"]:  # `viewed_items`
            matches.append((_ends_with(words, target[:-1]), False, scalar))
    length, _, scalar = max(matches, default=(0, True, None))
    return scalar if length else None


def _words(name):
    """The words of a name without their plural: `hist_itemIds` ends in `id`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    words = [word for word in re.split(r"[^a-z0-9]+", name) if word]
    words = [re.sub(r"(?<=..)s$", "", word) for word in words]
    # Categories and category, movies and movie.
    return [re.sub(r"(ie|y)$", "i", word) for word in words]


def _ends_with(words, ending):
    """The number of words that agree, 0 unless all of the ending do."""
    if not ending or words[-len(ending) :] != ending:
        return 0
    return len(ending)


def _kind(array):
    """How `reading.read` reads a column; `None` if it cannot."""
    value_type = _value_type(array)
    if pa.types.is_floating(value_type):
        return "float"
    if pa.types.is_timestamp(value_type) or pa.types.is_date(value_type):
        return "time"
    if (
        reading.is_string(value_type)
        or pa.types.is_integer(value_type)
        or pa.types.is_boolean(value_type)
    ):
        return "category"
    return None


def _is_string(array):
    return reading.is_string(_value_type(array))


def _value_type(array):
    arrow_type = array.type
    while reading.is_list(arrow_type):
        arrow_type = arrow_type.value_type
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    return arrow_type


def _flat(array):
    while reading.is_list(array.type):
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
    numbers = reading.read(array, "", "float", 0, reading.Rows()).values
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
    for unit, factor in reading.UNITS_PER_SECOND.items():
        if 3e8 * factor <= middle <= 4.2e9 * factor:
            return unit
    return False
