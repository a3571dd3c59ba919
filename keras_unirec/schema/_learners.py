"""What one feature, and those that share with it, learn: chunk by chunk."""

import dataclasses
import math

import numpy as np

from keras_unirec.schema import reading
from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.numerical import Numerical


def learner_of(feature):
    """Returns the learner of a kind of feature."""
    if isinstance(feature, Categorical):
        return _VocabularyLearner(feature)
    if isinstance(feature, Numerical):
        return _MomentsLearner(feature)
    return _UnitLearner(feature)


class _Learner:
    """Sees columns and returns the feature with what it learned of them.

    Args:
        feature: The feature that learns; of a shared vocabulary, its owner.
    """

    kind = None  # How `reading.read` reads its columns.

    def __init__(self, feature):
        self.feature = feature
        self.columns = {}  # Name -> depth.

    @property
    def is_idle(self):
        return self.feature.unlearned is None

    def read(self, array, name, depth, rows):
        """Reads a chunk of a column and learns from it."""
        if reading.is_null(array):
            return
        column = reading.read(array, name, self.kind, depth, rows)
        if not column.missing.all():  # Of empty strings.
            self.update(column, f"Column `{name}`", rows)

    def update(self, column, where, rows):
        """Learns from a `Column`; `where` names it in messages."""
        if not self.is_idle:
            self._update(column, where, rows)

    def learned(self, feature):
        """Returns the feature with what was learned."""
        return feature if self.is_idle else self._learned(feature)


class _UnitLearner(_Learner):
    def __init__(self, feature):
        super().__init__(feature)
        self.unit = None

    def read(self, array, name, depth, rows):
        self.unit = self.unit or reading.time_unit(array, name, rows)

    def _learned(self, feature):
        return dataclasses.replace(feature, unit=self.unit)


class _MomentsLearner(_Learner):
    kind = "float"

    def __init__(self, feature):
        super().__init__(feature)
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def _update(self, column, where, rows):
        reading.check_finite(column, self.feature.name, rows)
        # Chan et al.: merging chunks without the cancellation of raw sums.
        values = column.values
        if not len(values):
            return
        count, mean = len(values), float(values.mean())
        delta, total = mean - self.mean, self.count + count
        self.squares += float(((values - mean) ** 2).sum())
        self.squares += delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total

    def _learned(self, feature):
        if not self.count:
            raise ValueError(
                f"Column `{feature.name}` must have at least one number to "
                "learn its mean from. Received: none"
            )
        std = math.sqrt(self.squares / self.count)
        # Rounding leaves a constant column a tiny deviation.
        constant = std <= 1e-9 * abs(self.mean) or std == 0.0
        return dataclasses.replace(
            feature, mean=self.mean, std=1.0 if constant else std
        )


class _VocabularyLearner(_Learner):
    kind = "category"

    def __init__(self, feature):
        super().__init__(feature)
        self.found, self.first = None, None
        self.counts = None

    def _update(self, column, where, rows):
        if not len(column.values):
            return
        if self.found is None:
            self.found, self.first = column.kind, where
            self.counts = _COUNTS[column.kind]()
        elif self.found != column.kind:
            kinds = {"int": "integers", "string": "strings"}
            raise ValueError(
                f"{where} must hold {kinds[self.found]}, like {self.first}: "
                f"they share the vocabulary of `{self.feature.name}`. "
                f"Received: {kinds[column.kind]}"
            )
        if self.feature.vocabulary.kind == "lookup":
            self.counts.add(*column.counts())

    def _learned(self, feature):
        if self.found is None:
            raise ValueError(
                f"Column `{feature.name}` must have at least one value to "
                "learn its vocabulary from. Received: none"
            )
        vocabulary = feature.vocabulary
        learned = {"dtype": "string" if self.found == "string" else "int64"}
        if vocabulary.kind == "lookup":
            values, counts = self.counts.sorted()
            kept = counts >= vocabulary.min_count
            if len(counts) and not kept.any():
                raise ValueError(
                    f"`min_count` of the `Lookup` of `{feature.name}` must "
                    "leave a value: the most frequent one is seen "
                    f"{counts.max()} times. "
                    f"Received: min_count={vocabulary.min_count}"
                )
            learned["values"] = values[kept]
        return dataclasses.replace(
            feature, vocabulary=dataclasses.replace(vocabulary, **learned)
        )


class _IntegerCounts:
    """How often each integer was seen, as sorted arrays."""

    def __init__(self):
        self.values = np.empty(0, "int64")
        self.counts = np.empty(0, "int64")

    def add(self, values, counts):
        """Adds distinct values, each with its count."""
        order = np.argsort(values)
        values, counts = values[order], counts[order]
        place = np.searchsorted(self.values, values)
        known = np.zeros(len(values), "bool")
        inside = place < len(self.values)
        known[inside] = self.values[place[inside]] == values[inside]
        self.counts[place[known]] += counts[known]
        place = place[~known]
        self.values = np.insert(self.values, place, values[~known])
        self.counts = np.insert(self.counts, place, counts[~known])

    def sorted(self):
        """Returns the values in order, and their counts."""
        return self.values, self.counts


class _StringCounts:
    """How often each string was seen."""

    def __init__(self):
        self.counts = {}

    def add(self, values, counts):
        """Adds values, each with its count."""
        for value, count in zip(values, counts.tolist()):
            self.counts[value] = self.counts.get(value, 0) + count

    def sorted(self):
        """Returns the values in order, and their counts."""
        values = sorted(self.counts)
        counts = [self.counts[value] for value in values]
        return np.array(values, dtype=object), np.array(counts, "int64")


_COUNTS = {"int": _IntegerCounts, "string": _StringCounts}
