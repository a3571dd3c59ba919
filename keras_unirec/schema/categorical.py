"""A column of ids or strings."""

import dataclasses

import numpy as np

from keras_unirec.schema._arguments import check_choice
from keras_unirec.schema._arguments import check_name
from keras_unirec.schema._arguments import check_positive
from keras_unirec.schema._arguments import short
from keras_unirec.schema._config import Config
from keras_unirec.schema._feature import Feature
from keras_unirec.schema._feature import Table

_VOCABULARIES = ("identity", "hash", "lookup")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Categorical(Feature, Config):
    """A column of ids or of strings, embedded by the model.

    Encoded ids: 0 is padding, 1 is unknown or missing, the value number `v` is
    `v + 2`. A raw 0 is a value like any other.

    Args:
        name: string. The column.
        num_values: int. With `"identity"`, raw values are `0..num_values-1`;
            with `"hash"`, the number of buckets. Learned with `"lookup"`.
        embedding_dim: int. Defaults to `None`, which chooses the multiple of 4
            nearest to `2 * num_values ** (1 / 3)`, between 4 and 64.
        vocabulary: string. `"identity"` takes integers as they are, `"hash"`
            hashes any integers or strings, `"lookup"` numbers the values that
            `Schema.adapt` sees in the training data; others become unknown.
        share_with: string. Another categorical whose vocabulary and embedding
            this one uses. It learns its vocabulary from the columns of both.
        table: `ItemTable`. Side information that is joined to this column,
            and to every single-valued column that shares with it.
        max_length: int. Set for a multi-valued column: a list in each row (in
            a sequence, in each event). The first `max_length` values count.
        pooling: string. How the embeddings of a multi-valued column are
            merged, `"mean"` or `"sum"`.
        unknown: string. What an integer outside of an identity vocabulary is
            in training and evaluation: an `"error"`, or the unknown id
            (`"bucket"`). In serving it is always the unknown id.
        dtype: string, `"int64"` or `"string"`. Learned.
        values: array. The vocabulary of `"lookup"`, learned.
    """

    name: str
    num_values: int | None = None
    embedding_dim: int | None = None
    vocabulary: str = "identity"
    share_with: str | None = None
    table: Table | None = None
    max_length: int | None = None
    pooling: str = "mean"
    unknown: str = "error"
    dtype: str | None = None
    values: np.ndarray | None = None

    def __post_init__(self):
        check_name(self.name, "name")
        for argument in ("num_values", "embedding_dim", "max_length"):
            check_positive(self, argument)
        check_choice(self, "vocabulary", _VOCABULARIES)
        check_choice(self, "pooling", ("mean", "sum"))
        check_choice(self, "unknown", ("error", "bucket"))
        check_choice(self, "dtype", (None, "int64", "string"))
        if self.share_with is not None:
            check_name(self.share_with, "share_with")
            for argument in ("table", "values"):
                if getattr(self, argument) is not None:
                    raise ValueError(
                        f"`{argument}` of `Categorical({self.name!r})` must "
                        f"be left out: it is that of "
                        f"share_with={self.share_with!r}. Received: "
                        f"{argument}={short(getattr(self, argument))}"
                    )
            if self.share_with == self.name:
                raise ValueError(
                    f"`share_with` of `Categorical({self.name!r})` must name "
                    f"another feature. Received: {self.share_with!r}"
                )
        elif self.vocabulary == "lookup":
            self._set_values()
        elif self.num_values is None:
            raise ValueError(
                f"`num_values` of `Categorical({self.name!r})` must be the "
                f"number of {self.vocabulary} values. Received: None (leave "
                "it out only with vocabulary='lookup' or share_with)"
            )
        elif self.values is not None:
            raise ValueError(
                f"`values` of `Categorical({self.name!r})` must be left out "
                f"unless vocabulary='lookup'. Received: "
                f"vocabulary={self.vocabulary!r}"
            )
        if self.vocabulary == "identity" and self.dtype == "string":
            raise ValueError(
                f"`dtype` of `Categorical({self.name!r})` must be 'int64' with "
                "vocabulary='identity'; strings need 'hash' or 'lookup'. "
                "Received: dtype='string'"
            )
        if self.table is not None:
            if not isinstance(self.table, Table):
                raise ValueError(
                    f"`table` of `Categorical({self.name!r})` must be an "
                    f"`ItemTable`. Received: {type(self.table).__name__}"
                )
            if self.vocabulary == "hash":
                raise ValueError(
                    f"`vocabulary` of `Categorical({self.name!r})` must be "
                    "'identity' or 'lookup' to carry an `ItemTable`: two keys "
                    "may hash to one bucket. Received: vocabulary='hash'"
                )
            if self.max_length is not None:
                raise ValueError(
                    f"`max_length` of `Categorical({self.name!r})` must be "
                    "None to carry an `ItemTable`: a table is joined to one "
                    f"value. Received: max_length={self.max_length}"
                )

    @property
    def unlearned(self):
        if self.share_with:
            return None
        if self.vocabulary == "lookup" and self.values is None:
            return "values"
        if self.vocabulary == "hash" and self.dtype is None:
            return "dtype"
        return None

    def _set_values(self):
        if self.values is None:
            if self.num_values is not None:
                raise ValueError(
                    f"`num_values` of `Categorical({self.name!r})` must be "
                    "None with vocabulary='lookup': `adapt` learns the values."
                    f" Received: num_values={self.num_values}"
                )
            return
        values = np.asarray(self.values)
        strings = values.dtype.kind not in "iub"
        if strings:
            values = values.astype(object)
            if not all(isinstance(value, str) for value in values):
                raise ValueError(
                    f"`values` of `Categorical({self.name!r})` must hold "
                    f"integers or strings. Received: {short(values)}"
                )
        else:
            values = values.astype("int64")
        values = np.sort(values)
        if values.ndim != 1 or (values[1:] == values[:-1]).any():
            raise ValueError(
                f"`values` of `Categorical({self.name!r})` must be a flat "
                f"array without duplicates. Received: {short(values)}"
            )
        dtype = "string" if strings else "int64"
        if self.dtype is not None and len(values) and self.dtype != dtype:
            raise ValueError(
                f"`values` of `Categorical({self.name!r})` must be of "
                f"dtype={self.dtype!r}. Received: {short(values)}"
            )
        if self.num_values not in (None, max(len(values), 1)):
            raise ValueError(
                f"`num_values` of `Categorical({self.name!r})` must be the "
                f"number of `values`, {len(values)}. "
                f"Received: num_values={self.num_values}"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "dtype", self.dtype or dtype)
        # A column without any value still has a table of one row to look at.
        object.__setattr__(self, "num_values", max(len(values), 1))
