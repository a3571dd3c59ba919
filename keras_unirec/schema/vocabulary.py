"""How the values of a `Categorical` become ids: the parts that it takes."""

import dataclasses

import numpy as np

from keras_unirec.schema._arguments import check_choice
from keras_unirec.schema._arguments import check_positive
from keras_unirec.schema._arguments import short
from keras_unirec.schema._config import Config


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Identity(Config):
    """Integers `0..num_values-1`, as they are.

    Args:
        num_values: int. Defaults to `None`, the `num_values` of the
            `Categorical`.
    """

    num_values: int | None = None

    kind = "identity"
    dtype = "int64"
    values = None
    unlearned = None

    def __post_init__(self):
        check_positive(self, "num_values")

    def sized(self, num_values):
        """This part with another `num_values`."""
        return dataclasses.replace(self, num_values=num_values)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Hash(Config):
    """Any integers or strings, hashed into buckets.

    Args:
        num_values: int. The number of buckets. Defaults to `None`, the
            `num_values` of the `Categorical`.
        dtype: string, `"int64"` or `"string"`. Learned.
    """

    num_values: int | None = None
    dtype: str | None = None

    kind = "hash"
    values = None

    def __post_init__(self):
        check_positive(self, "num_values")
        check_choice(self, "dtype", (None, "int64", "string"))

    @property
    def unlearned(self):
        return "dtype" if self.dtype is None else None

    def sized(self, num_values):
        """This part with another `num_values`."""
        return dataclasses.replace(self, num_values=num_values)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Lookup(Config):
    """Numbers the values that `Schema.adapt` sees; others are unknown.

    Args:
        min_count: int. A value that `adapt` sees less often is unknown.
            Defaults to `1`, every value. It counts all columns that share the
            vocabulary: rows, events of the histories of each row, entries of
            lists, and rows of item tables.
        values: array. The vocabulary, learned. One that is given is kept,
            whatever `min_count` is.
        dtype: string, `"int64"` or `"string"`. Learned, or that of `values`.
    """

    min_count: int = 1
    values: np.ndarray | None = None
    dtype: str | None = None

    kind = "lookup"

    def __post_init__(self):
        check_positive(self, "min_count", required=True)
        check_choice(self, "dtype", (None, "int64", "string"))
        if self.values is not None:
            self._set_values()

    @property
    def num_values(self):
        if self.values is None:
            return None
        # A column without any value still has a table of one row to look at.
        return max(len(self.values), 1)

    @property
    def unlearned(self):
        return "values" if self.values is None else None

    def sized(self, num_values):
        """This part: how many values it has follows from them."""
        return self

    def _set_values(self):
        values = np.asarray(self.values)
        if values.ndim != 1:
            raise ValueError(
                "`values` of `Lookup` must be a flat array. "
                f"Received: values={short(self.values)}"
            )
        strings = values.dtype.kind not in "iub"
        if strings:
            values = values.astype(object)
            if not all(isinstance(value, str) for value in values):
                raise ValueError(
                    "`values` of `Lookup` must hold integers or strings. "
                    f"Received: {short(values)}"
                )
        else:
            if (values > np.iinfo("int64").max).any():
                raise ValueError(
                    "`values` of `Lookup` must fit into int64. "
                    f"Received: {values.max()}"
                )
            values = values.astype("int64")
        values = np.sort(values)
        if (values[1:] == values[:-1]).any():
            raise ValueError(
                "`values` of `Lookup` must be without duplicates. "
                f"Received: {short(values)}"
            )
        dtype = "string" if strings else "int64"
        if self.dtype is not None and len(values) and self.dtype != dtype:
            raise ValueError(
                f"`values` of `Lookup` must be of dtype={self.dtype!r}. "
                f"Received: {short(values)}"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "dtype", self.dtype or dtype)


VOCABULARIES = {part.kind: part for part in (Identity, Hash, Lookup)}
