"""Checks of what a table holds, whatever it comes from."""

import difflib

import numpy as np
import pandas as pd


def check_columns(present, needed, what):
    """Raises for the first needed column that is absent."""
    present = [str(name) for name in present]
    for name in needed:
        if name not in present:
            close = difflib.get_close_matches(name, present, n=3, cutoff=0.6)
            hint = f" (did you mean {', '.join(close)}?)" if close else ""
            raise ValueError(
                f"Column `{name}` is missing: the schema needs it{hint}. "
                f"Received: {what} with the columns {sorted(present)}"
            )


def check_frame(frame, needed):
    """Raises unless this is a data frame with rows and the needed columns."""
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(
            f"`df` must be a data frame. Received: {type(frame).__name__}"
        )
    check_columns(frame.columns, needed, "a data frame")
    if not len(frame):
        raise ValueError(
            "The data frame must have at least one row. Received: an empty "
            "data frame"
        )


def check_finite(column, name, rows):
    """Raises for the first number that is missing or infinite in float32."""
    bad = ~(np.abs(column.values) <= np.finfo("float32").max)
    if bad.any():
        position = int(np.argmax(bad))
        raise ValueError(
            f"Column `{name}` must hold finite numbers without missing "
            "values: fill them, for example with the mean, or drop the rows. "
            f"Received: {column.values[position]} in "
            f"{rows.name(column.row_of(position))}"
        )
