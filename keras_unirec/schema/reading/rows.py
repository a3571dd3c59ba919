"""Names of rows, for messages about the values in them."""

import numpy as np
import pandas as pd


class Rows:
    """Names the rows of a chunk in error messages."""

    def __init__(self, index=None, start=0, path=None):
        self.index = index
        self.start = start
        self.path = path

    def name(self, row):
        row = int(row)
        if self.index is not None:
            return row_of_index(self.index, self.start + row)
        if self.path is not None:
            return f"row {self.start + row} of {self.path}"
        return f"row {self.start + row}"


class JoinedRows:
    """Names the rows of several chunks in a row: pairs (number, `Rows`)."""

    def __init__(self, parts):
        self.parts = parts

    def name(self, row):
        for number, rows in self.parts:
            if row < number:
                return rows.name(row)
            row -= number
        raise IndexError(row)

    def tail(self, start):
        """The names of the rows from `start` on."""
        parts = []
        for number, rows in self.parts:
            if start < number:
                parts.append((number - start, _Shifted(rows, start)))
            start = max(0, start - number)
        return JoinedRows(parts)


class _Shifted:
    def __init__(self, rows, start):
        self.rows = rows
        self.start = start

    def name(self, row):
        return self.rows.name(self.start + row)


def row_of_index(index, position):
    """Names a row of a frame: `row 5`, `row 'a' (index label)`."""
    value = index[position]
    value = value.item() if isinstance(value, np.generic) else value
    plain = isinstance(index, pd.RangeIndex) and value == position
    return f"row {value!r}" + ("" if plain else " (index label)")
