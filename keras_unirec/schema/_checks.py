"""Checks of a whole schema: names, sharing, tables, times."""

import numpy as np

from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.names import ascii_name
from keras_unirec.schema.numerical import Numerical
from keras_unirec.schema.timestamp import Timestamp


def unique_features(schema):
    """Returns the features by name, and by name the words for where each is.

    Columns, and columns of item tables. The timestamp is none of them.
    """
    features, places = {}, {}

    def add(feature, where):
        if feature.name in features:
            raise ValueError(
                f"`{feature.name}` must be the name of one feature: "
                "features, features of sequences and features of item "
                f"tables share one namespace. Received: it in "
                f"{places[feature.name]} and in {where}"
            )
        features[feature.name], places[feature.name] = feature, where

    for feature, group, _ in schema.feature_columns():
        if group == "timestamp":
            continue
        add(feature, f"`{group}`")
        if feature.table is not None:
            for joined in feature.table.features:
                add(joined, f"the `ItemTable` of `{feature.name}`")
    return features, places


def check(schema, places):
    """Raises for the first thing that does not fit.

    Args:
        schema: `Schema`.
        places: dict. The second of what `unique_features` returns.
    """
    _check_reserved(schema, places)
    _check_groups(schema)
    _check_sequences(schema)
    _check_sharing(schema)
    _check_keys(schema)
    _check_tables(schema)
    _check_timestamps(schema)


# --- Names ---


def _check_reserved(schema, places):
    reserved = {label: "`labels`" for label in schema.label_names}
    if len(reserved) < len(schema.labels):
        raise ValueError(
            "`labels` must have different names. "
            f"Received: {list(schema.label_names)}"
        )
    if schema.timestamp is not None:
        reserved[schema.timestamp.name] = "`timestamp`"
        if schema.timestamp.name in schema.label_names:
            raise ValueError(
                f"`timestamp` must not be a label. "
                f"Received: {schema.timestamp.name!r} in both"
            )
    for name, where in reserved.items():
        if name in places:
            raise ValueError(
                f"{where} must not name a feature. Received: {name!r} in "
                f"{where} and in {places[name]}"
            )


def _check_groups(schema):
    scalars = [f.name for f, _, depth in schema.feature_columns() if not depth]
    for argument in ("request_id", "group_id"):
        name = getattr(schema, argument)
        if name in schema.label_names:
            raise ValueError(
                f"`{argument}` must not be a label. "
                f"Received: {argument}={name!r}"
            )
        feature = schema.features.get(name)
        if isinstance(feature, Numerical) or (
            feature is not None and name not in scalars
        ):
            raise ValueError(
                f"`{argument}` must name a column of ids, one in each "
                f"row. Received: {argument}={name!r}, which is {feature}"
            )


def _check_sequences(schema):
    sequences = [sequence.name for sequence in schema.sequences]
    if len(set(sequences)) < len(sequences):
        raise ValueError(
            f"`sequences` must have different names. Received: {sequences}"
        )


def _check_keys(schema):
    # Keys of the model's inputs, then names of the exported arguments.
    _check_unique([encoded.key for encoded in schema.encoded], "inputs")
    features = [feature for feature, _, _ in schema.feature_columns()]
    raw = [feature.name for feature in features]
    raw += [f"{sequence.name}_length" for sequence in schema.sequences]
    raw += [f"{f.name}_length" for f in features if f.max_length is not None]
    _check_unique(raw, "arguments of the exported model")
    # Layers allow more characters than the arguments of an export.
    for names, also in (
        (raw, ""),
        (schema.features, ".-"),
        (schema.label_names, ".-"),
    ):
        seen = {}
        for name in names:
            first = seen.setdefault(ascii_name(name, also), name)
            if first != name:
                raise ValueError(
                    "Names of columns must differ in letters, digits or "
                    "`_`: models name their layers and inputs by them, "
                    "with `_` for any other character. Rename one. "
                    f"Received: {first!r} and {name!r}"
                )


def _check_unique(names, what):
    seen = set()
    for name in names:
        if name in seen:
            raise ValueError(
                f"The {what} must have different names: rename the feature or "
                f"the sequence. Received: {name!r} twice"
            )
        seen.add(name)


# --- What belongs together ---


def _check_sharing(schema):
    for feature in schema.features.values():
        target = feature.share_with
        if target is None:
            continue
        where = f"`share_with` of `Categorical({feature.name!r})`"
        root = schema.features.get(target)
        if not isinstance(root, Categorical):
            known = [
                f.name
                for f in schema.features.values()
                if isinstance(f, Categorical) and not f.share_with
            ]
            raise ValueError(
                f"{where} must name a categorical, one of {sorted(known)}."
                f" Received: share_with={target!r}"
            )
        if root.share_with is not None:
            raise ValueError(
                f"{where} must name the feature that owns the embedding, "
                f"{root.share_with!r}. Received: share_with={target!r}"
            )
        for argument in ("num_values", "embedding_dim", "vocabulary"):
            value, shared = getattr(feature, argument), getattr(root, argument)
            if argument == "vocabulary":
                fits = _agrees(value, shared)
            else:
                fits = value in (None, shared)
            if not fits:
                raise ValueError(
                    f"`{argument}` of `Categorical({feature.name!r})` must "
                    f"be that of share_with={target!r}, {shared!r}, or be "
                    f"left out. Received: {argument}={value!r}"
                )


def _agrees(vocabulary, shared):
    """Whether a vocabulary says nothing else than the one it shares."""
    if vocabulary.kind != shared.kind:
        return vocabulary.kind == "identity"  # The default.
    given = vocabulary.sized(None).arguments()
    return all(getattr(shared, name) == value for name, value in given.items())


def _check_tables(schema):
    for carrier in schema.carriers():
        table = carrier.table
        columns = [(table.key, carrier)]
        columns += [(f.name, f) for f in table.features]
        for name, feature in columns:
            if isinstance(feature, Categorical):
                where = f"Column `{name}` of the `ItemTable`"
                _check_ids(schema, where, table, name, feature)


def _check_ids(schema, where, table, name, feature):
    root = schema.categorical(feature.name)
    column, keys = table.data[name], table.data[table.key]
    kinds = {"int64": "int", "string": "string", None: column.kind}
    if column.kind != kinds[root.dtype] and len(column.values):
        raise ValueError(
            f"{where} must hold values of dtype {root.dtype!r}, those of "
            f"`Categorical({root.name!r})`. "
            f"Received: {column.value(0)!r}"
        )
    bucket = "bucket" in (feature.unknown, root.unknown)
    if root.vocabulary.kind != "identity" or bucket:
        return
    bad = (column.values < 0) | (column.values >= root.num_values)
    bad &= ~column.missing
    if bad.any():
        position = int(np.argmax(bad))
        raise ValueError(
            f"{where} must hold ids in [0, {root.num_values}), the "
            f"vocabulary of `Categorical({root.name!r})`; "
            "unknown='bucket' maps others to the unknown id. Received: "
            f"{column.value(position)} in the row of {table.key}="
            f"{keys.value(column.row_of(position))!r}"
        )


def _check_timestamps(schema):
    if schema.timestamp is not None:
        return
    for sequence in schema.sequences:
        for feature in sequence.features:
            if isinstance(feature, Timestamp):
                raise ValueError(
                    "`timestamp` must name the column with the time of the "
                    f"request: `Sequence({sequence.name!r})` has the "
                    f"timestamp `{feature.name}`, of which the model sees "
                    "the time to the request. Received: timestamp=None"
                )
