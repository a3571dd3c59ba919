"""A column of ids or strings."""

import dataclasses

from keras_unirec.schema._arguments import check_choice
from keras_unirec.schema._arguments import check_name
from keras_unirec.schema._arguments import check_positive
from keras_unirec.schema._arguments import short
from keras_unirec.schema._config import Config
from keras_unirec.schema._feature import Feature
from keras_unirec.schema._feature import Table
from keras_unirec.schema.vocabulary import VOCABULARIES
from keras_unirec.schema.vocabulary import Hash
from keras_unirec.schema.vocabulary import Identity
from keras_unirec.schema.vocabulary import Lookup

_LEARNED = ("dtype", "values")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Categorical(Feature, Config):
    """A column of ids or of strings, embedded by the model.

    Encoded ids: 0 is padding, 1 is unknown or missing, the value number `v` is
    `v + 2`. A raw 0 is a value like any other.

    Args:
        name: string. The column.
        num_values: int. With `"identity"`, raw values are `0..num_values-1`;
            with `"hash"`, the number of buckets. Left out with `"lookup"`,
            which learns it, and where the vocabulary is a part that says it.
        embedding_dim: int. Defaults to `None`, which chooses the multiple of 4
            nearest to `2 * num_values ** (1 / 3)`, between 4 and 64.
        vocabulary: `Identity`, `Hash` or `Lookup`, or its name. `"identity"`
            takes integers as they are, `"hash"` hashes any integers or
            strings, `"lookup"` numbers the values that `Schema.adapt` sees in
            the training data; others become unknown.
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

    Example:
    ```python
    import keras_unirec as ku

    ku.Categorical("tab", num_values=16)
    ku.Categorical("query", vocabulary=ku.Hash(100_000))
    ku.Categorical("author_id", vocabulary=ku.Lookup(min_count=5))
    ```
    """

    name: str
    num_values: int | None = None
    embedding_dim: int | None = None
    vocabulary: Identity | Hash | Lookup | str = "identity"
    share_with: str | None = None
    table: Table | None = None
    max_length: int | None = None
    pooling: str = "mean"
    unknown: str = "error"

    def __post_init__(self):
        check_name(self.name, "name")
        for argument in ("num_values", "embedding_dim", "max_length"):
            check_positive(self, argument)
        self._set_vocabulary()
        check_choice(self, "pooling", ("mean", "sum"))
        check_choice(self, "unknown", ("error", "bucket"))
        if self.share_with is not None:
            self._check_sharing()
        elif self.num_values is None and self.vocabulary.kind != "lookup":
            raise ValueError(
                f"`num_values` of `Categorical({self.name!r})` must be the "
                f"number of {self.vocabulary.kind} values. Received: None "
                "(leave it out only with vocabulary='lookup' or share_with)"
            )
        if self.table is not None:
            self._check_table()

    @property
    def dtype(self):
        """`"int64"` or `"string"`, `None` until it is learned."""
        return self.vocabulary.dtype

    @property
    def values(self):
        """The vocabulary of a lookup, sorted, `None` until it is learned."""
        return self.vocabulary.values

    @property
    def unlearned(self):
        return None if self.share_with else self.vocabulary.unlearned

    def arguments(self):
        """One spelling of equal features: a name wherever that says it all."""
        arguments = super().arguments()
        kind = self.vocabulary.kind
        if self.vocabulary.sized(None).arguments():
            part = self.vocabulary.sized(self.num_values)
            arguments["vocabulary"] = part
            if part.num_values == self.num_values:
                arguments.pop("num_values", None)
        elif kind == "identity":
            del arguments["vocabulary"]
        else:
            arguments["vocabulary"] = kind
        return arguments

    def get_config(self):
        """A flat config, where a name says all but what was learned.

        So it was before vocabularies were parts, and the identity of saved
        weights is made of it.
        """
        config = super().get_config()
        part = config.get("vocabulary")
        if isinstance(part, dict):
            for argument in _LEARNED:
                if argument in part:
                    config[argument] = part.pop(argument)
            part.pop("num_values", None)
            if self.num_values is not None:
                config["num_values"] = self.num_values
            if part.keys() == {"type"}:
                config["vocabulary"] = self.vocabulary.kind
        return config

    @classmethod
    def unflatten(cls, config):
        config = dict(config)
        part = config.get("vocabulary", "identity")
        if part == "identity":
            if "share_with" in config or config.get("dtype") == "int64":
                config.pop("dtype", None)  # It goes without saying.
            return config
        if isinstance(part, str) and part in VOCABULARIES:
            part = {"type": VOCABULARIES[part].__name__}
        if isinstance(part, dict):
            learned = {a: config.pop(a) for a in _LEARNED if a in config}
            config["vocabulary"] = {**part, **learned}
        return config

    def _set_vocabulary(self):
        part = self.vocabulary
        if isinstance(part, str) and part in VOCABULARIES:
            part = VOCABULARIES[part]()
            object.__setattr__(self, "vocabulary", part)
        if not isinstance(part, tuple(VOCABULARIES.values())):
            raise ValueError(
                f"`vocabulary` of `Categorical({self.name!r})` must be one of "
                f"{list(VOCABULARIES)}, or an `Identity`, a `Hash` or a "
                f"`Lookup`. Received: vocabulary={part!r}"
            )
        if self.num_values is None or part.num_values == self.num_values:
            object.__setattr__(self, "num_values", part.num_values)
        elif part.num_values is not None:
            raise ValueError(
                f"`num_values` of `Categorical({self.name!r})` must be left "
                f"out, or be the {part.num_values} of its vocabulary. "
                f"Received: num_values={self.num_values}"
            )
        elif part.kind == "lookup" and self.share_with is None:
            raise ValueError(
                f"`num_values` of `Categorical({self.name!r})` must be None "
                "with vocabulary='lookup': `adapt` learns the values. "
                f"Received: num_values={self.num_values}"
            )

    def _check_sharing(self):
        check_name(self.share_with, "share_with")
        for argument in ("table", "values"):
            if getattr(self, argument) is not None:
                raise ValueError(
                    f"`{argument}` of `Categorical({self.name!r})` must be "
                    f"left out: it is that of share_with={self.share_with!r}. "
                    f"Received: {argument}={short(getattr(self, argument))}"
                )
        if self.share_with == self.name:
            raise ValueError(
                f"`share_with` of `Categorical({self.name!r})` must name "
                f"another feature. Received: {self.share_with!r}"
            )

    def _check_table(self):
        if not isinstance(self.table, Table):
            raise ValueError(
                f"`table` of `Categorical({self.name!r})` must be an "
                f"`ItemTable`. Received: {type(self.table).__name__}"
            )
        if self.vocabulary.kind == "hash":
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
