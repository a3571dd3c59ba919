"""What `Schema.adapt` learns from data: vocabularies, moments, units."""

import dataclasses
import math

import numpy as np

from keras_unirec.schema import reading
from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.numerical import Numerical
from keras_unirec.schema.timestamp import Timestamp


def adapt(schema, data):
    """Returns the schema with what it learned from a frame or from Parquet."""
    learners = {}

    def learner(feature):
        if isinstance(feature, Categorical):
            feature = schema.categorical(feature.name)  # Its owner.
        return learners.setdefault(feature.name, _Learner(feature))

    for feature, _, depth in schema.feature_columns():
        learner(feature).columns[feature.name] = (feature, depth)
    for carrier in schema.carriers():
        table, rows = carrier.table, reading.Rows()
        for name, feature in (
            (table.key, carrier),
            *((feature.name, feature) for feature in table.features),
        ):
            where = f"Column `{name}` of an `ItemTable`"
            learner(feature).update(table.data[name], where, rows)
    names = {
        name
        for learner in learners.values()
        if not learner.is_idle
        for name in learner.columns
    }
    _check_types(schema, data)
    for chunk, rows in reading.chunks(data, sorted(names)):
        for learner in learners.values():
            for name, (feature, depth) in learner.columns.items():
                if name in names:
                    learner.read(chunk[name], name, feature, depth, rows)
    return schema.replace_features(
        lambda feature: (
            learners[feature.name].learned(feature)
            if feature.name in learners
            else feature
        )
    )


def _check_types(schema, data):
    """Raises for a column that is absent or, at its start, of a wrong type.

    Also for what nothing is learned from: labels, the ids of metrics, times of
    a known unit. The readers check all values.
    """
    kinds = {}
    for feature, _, depth in schema.feature_columns():
        unit = getattr(feature, "unit", None)
        if isinstance(feature, Timestamp):
            kinds[feature.name] = ("time", depth, unit)
            continue
        kind = "float"
        if isinstance(feature, Categorical):
            root = schema.categorical(feature.name)
            kind = {None: "category", "int64": "int"}.get(root.dtype, "string")
            kind = "int" if root.vocabulary == "identity" else kind
        kinds[feature.name] = (kind, depth, None)
    for name in (schema.request_id, schema.group_id):
        if name is not None:
            kinds.setdefault(name, ("category", 0, None))
    for name in schema.label_names:
        kinds[name] = ("float", 0, None)
    for chunk, rows in reading.chunks(data, kinds, chunk_rows=1_000):
        for name, (kind, depth, unit) in kinds.items():
            if not reading.is_null(chunk[name]):
                reading.read(chunk[name], name, kind, depth, rows, unit)
        return


class _Learner:
    """Collects what one feature, and those that share with it, learn."""

    def __init__(self, feature):
        self.feature = feature
        self.columns = {}
        self.kind = None
        self.first = None
        self.values = None
        self.unit = None
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    @property
    def is_idle(self):
        feature = self.feature
        if isinstance(feature, Timestamp):
            return feature.unit is not None
        if isinstance(feature, Numerical):
            return feature.mean is not None
        if feature.vocabulary == "lookup":
            return feature.values is not None
        return feature.vocabulary == "identity" or feature.dtype is not None

    def read(self, array, name, feature, depth, rows):
        if isinstance(feature, Timestamp):
            self.unit = self.unit or reading.time_unit(array, name, rows)
            return
        is_number = isinstance(feature, Numerical)
        kind = "float" if is_number else "category"
        if reading.is_null(array):
            return
        column = reading.read(array, name, kind, depth, rows)
        if column.missing.all():  # Empty strings.
            return
        self.update(column, f"Column `{name}`", rows)

    def update(self, column, where, rows):
        if self.is_idle:
            return
        if isinstance(self.feature, Numerical):
            name = self.feature.name
            reading.check_finite(column, name, rows)
            return self._update_moments(column.values)
        if not len(column.values):
            return
        if self.kind is None:
            self.kind, self.first = column.kind, where
        elif self.kind != column.kind:
            kinds = {"int": "integers", "string": "strings"}
            raise ValueError(
                f"{where} must hold {kinds[self.kind]}, like {self.first}: "
                f"they share the vocabulary of `{self.feature.name}`. "
                f"Received: {kinds[column.kind]}"
            )
        if self.feature.vocabulary != "lookup":
            return
        values = column.unique()
        if self.kind == "string":
            self.values = (self.values or set()) | set(values)
        elif self.values is None:
            self.values = values
        else:
            self.values = np.union1d(self.values, values)

    def _update_moments(self, values):
        # Chan et al.: merging chunks without the cancellation of raw sums.
        if not len(values):
            return
        count, mean = len(values), float(values.mean())
        delta, total = mean - self.mean, self.count + count
        self.squares += float(((values - mean) ** 2).sum())
        self.squares += delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total

    def learned(self, feature):
        if self.is_idle:
            return feature
        name = feature.name
        if isinstance(feature, Timestamp):
            return dataclasses.replace(feature, unit=self.unit)
        if isinstance(feature, Numerical):
            if not self.count:
                raise ValueError(
                    f"Column `{name}` must have at least one number to learn "
                    "its mean from. Received: none"
                )
            std = math.sqrt(self.squares / self.count)
            # Rounding leaves a constant column a tiny deviation.
            constant = std <= 1e-9 * abs(self.mean) or std == 0.0
            return dataclasses.replace(
                feature, mean=self.mean, std=1.0 if constant else std
            )
        if self.kind is None:
            raise ValueError(
                f"Column `{name}` must have at least one value to learn "
                f"its vocabulary from. Received: none"
            )
        dtype = "string" if self.kind == "string" else "int64"
        if feature.vocabulary == "hash":
            return dataclasses.replace(feature, dtype=dtype)
        values = self.values
        if self.kind == "string":
            values = np.array(sorted(values), dtype=object)
        return dataclasses.replace(feature, dtype=dtype, values=values)
