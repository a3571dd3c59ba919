"""A column as flat values plus offsets."""

import dataclasses

import numpy as np
import pandas as pd

# The raw value that stands for "missing" in integer and in string columns: a
# server has no other way to send it.
MISSING = int(np.iinfo("int64").min)
MISSING_STRING = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """One column: flat values and, for lists, offsets (outermost first).

    `values` are int64 with `MISSING` ("int"), float64 with NaN ("float"), or
    int32 codes with -1 for missing into `dictionary` ("string"), where `""` is
    missing too.
    """

    kind: str
    values: np.ndarray
    offsets: tuple = ()
    dictionary: np.ndarray | None = None

    @property
    def num_rows(self):
        return len(self.offsets[0]) - 1 if self.offsets else len(self.values)

    @property
    def missing(self):
        if self.kind == "float":
            return np.isnan(self.values)
        return self.values == (MISSING if self.kind == "int" else -1)

    def lengths(self, level=0):
        return np.diff(self.offsets[level])

    def row_of(self, position):
        """Returns the row that holds one flat value."""
        for offsets in reversed(self.offsets):
            position = np.searchsorted(offsets, position, side="right") - 1
        return int(position)

    def value(self, position):
        """Returns one flat value as the user wrote it."""
        value = self.values[position]
        if self.kind == "string":
            return None if value < 0 else self.dictionary[value]
        if self.kind == "int":
            return None if value == MISSING else int(value)
        return float(value)

    def take(self, rows):
        """Returns the rows of an index array, in that order."""
        offsets = []
        for level in self.offsets:
            rows, lengths = positions(level, rows)
            offsets.append(to_offsets(lengths))
        return dataclasses.replace(
            self, values=self.values[rows], offsets=tuple(offsets)
        )

    def counts(self):
        """Returns the distinct values that are not missing, and their counts.

        In the order in which they occur.
        """
        codes, found = pd.factorize(self.values[~self.missing])
        if self.kind == "string":
            found = self.dictionary[found]
        return found, np.bincount(codes, minlength=len(found))

    def strings(self):
        """Returns the flat strings, `MISSING_STRING` where missing."""
        texts = np.append(self.dictionary, MISSING_STRING)
        return texts[self.values]  # Code -1 is the last entry.

    def row(self, row):
        """Returns the value, list or list of lists of one row."""

        def part(level, position):
            if level == len(self.offsets):
                return self.value(position)
            start, stop = self.offsets[level][position : position + 2]
            return [part(level + 1, inner) for inner in range(start, stop)]

        return part(0, row)

    def __eq__(self, other):
        if not isinstance(other, Column):
            return NotImplemented
        if (self.kind, len(self.offsets)) != (other.kind, len(other.offsets)):
            return False
        if not all(map(np.array_equal, self.offsets, other.offsets)):
            return False
        if self.kind == "string":
            return np.array_equal(self.strings(), other.strings())
        return np.array_equal(
            self.values, other.values, equal_nan=self.kind == "float"
        )

    __hash__ = None


def concatenate(columns):
    """Joins chunks of one column."""
    first = columns[0]
    if len(columns) == 1:
        return first
    dictionary = None
    values = [column.values for column in columns]
    if first.kind == "string":
        texts = np.concatenate([column.dictionary for column in columns])
        codes, dictionary = pd.factorize(texts)
        starts = np.cumsum([0] + [len(c.dictionary) for c in columns])
        values = [
            np.append(codes[start : start + len(c.dictionary)], -1)[c.values]
            for start, c in zip(starts, columns)
        ]
        values = [codes.astype("int32") for codes in values]
    offsets = tuple(
        to_offsets(np.concatenate([c.lengths(level) for c in columns]))
        for level in range(len(first.offsets))
    )
    return Column(first.kind, np.concatenate(values), offsets, dictionary)


def positions(offsets, rows):
    """Flat positions of the values of some rows, and their lengths."""
    lengths = np.diff(offsets)[rows]
    starts = offsets[:-1][rows] - to_offsets(lengths)[:-1]
    return np.repeat(starts, lengths) + np.arange(lengths.sum()), lengths


def to_offsets(lengths):
    offsets = np.zeros(len(lengths) + 1, "int64")
    np.cumsum(lengths, out=offsets[1:])
    return offsets
