"""What the columns of a table mean: the one description of the data.

A `Schema` names the columns, says what each holds and to which side of the
model it belongs. `Schema.adapt` learns vocabularies and normalization; readers,
models and the exported graph take everything else from here.
"""

import dataclasses
import functools
import json

import numpy as np
import pandas as pd

from keras_unirec import _columns
from keras_unirec import _config
from keras_unirec._names import ascii_name

_VOCABULARIES = ("identity", "hash", "lookup")
_SIDES = ("user", "context", "item")


def _gap_boundaries():
    boundaries = []
    for half_octave in range(2, 61):
        seconds = int(np.float32(round(2 ** (half_octave / 2)) - 1))
        boundaries.append(seconds)
    return tuple(boundaries)


# Half octaves of 1 + seconds, up to 34 years: the model looks a time gap up in
# them. They are integers that float32 holds exactly, so every backend and
# precision puts a gap into the same bucket.
GAP_BOUNDARIES = _gap_boundaries()


# --- Features ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Categorical(_config.Config):
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
    table: "ItemTable | None" = None
    max_length: int | None = None
    pooling: str = "mean"
    unknown: str = "error"
    dtype: str | None = None
    values: np.ndarray | None = None

    def __post_init__(self):
        _config.check_name(self.name, "name")
        for argument in ("num_values", "embedding_dim", "max_length"):
            _config.check_positive(self, argument)
        _config.check_choice(self, "vocabulary", _VOCABULARIES)
        _config.check_choice(self, "pooling", ("mean", "sum"))
        _config.check_choice(self, "unknown", ("error", "bucket"))
        _config.check_choice(self, "dtype", (None, "int64", "string"))
        if self.share_with is not None:
            _config.check_name(self.share_with, "share_with")
            for argument in ("table", "values"):
                if getattr(self, argument) is not None:
                    raise ValueError(
                        f"`{argument}` of `Categorical({self.name!r})` must "
                        f"be left out: it is that of "
                        f"share_with={self.share_with!r}. Received: "
                        f"{argument}={_config.short(getattr(self, argument))}"
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
            if not isinstance(self.table, ItemTable):
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
                    f"integers or strings. Received: {_config.short(values)}"
                )
        else:
            values = values.astype("int64")
        values = np.sort(values)
        if values.ndim != 1 or (values[1:] == values[:-1]).any():
            raise ValueError(
                f"`values` of `Categorical({self.name!r})` must be a flat "
                f"array without duplicates. Received: {_config.short(values)}"
            )
        dtype = "string" if strings else "int64"
        if self.dtype is not None and len(values) and self.dtype != dtype:
            raise ValueError(
                f"`values` of `Categorical({self.name!r})` must be of "
                f"dtype={self.dtype!r}. Received: {_config.short(values)}"
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


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Numerical(_config.Config):
    """A column of numbers, normalized to `(x - mean) / std`.

    Args:
        name: string. The column.
        embedding_dim: int. The width the model gives it. Defaults to `None`,
            one number.
        mean: float. Learned.
        std: float. Learned; 1 for a constant column.
    """

    name: str
    embedding_dim: int | None = None
    mean: float | None = None
    std: float | None = None

    def __post_init__(self):
        _config.check_name(self.name, "name")
        _config.check_positive(self, "embedding_dim")
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                f"`mean` and `std` of `Numerical({self.name!r})` must be given "
                f"together. Received: mean={self.mean}, std={self.std}"
            )
        if self.mean is not None:
            _config.check_number(self, "mean")
            _config.check_number(self, "std")
            if self.std <= 0:
                raise ValueError(
                    f"`std` of `Numerical({self.name!r})` must be positive. "
                    f"Received: std={self.std}"
                )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Timestamp(_config.Config):
    """A column of times: of the request, or of the events of a sequence.

    In a sequence the model sees the time from the event to the request, in
    whole seconds, bucketed by `GAP_BOUNDARIES`.

    Args:
        name: string. The column.
        unit: string. `"s"`, `"ms"`, `"us"` or `"ns"` of a column of integers.
            `None` only for columns of datetimes, where `adapt` learns it.
        embedding_dim: int. Width of the embedding of the bucketed gap.
    """

    name: str
    unit: str | None = None
    embedding_dim: int = 8

    def __post_init__(self):
        _config.check_name(self.name, "name")
        _config.check_choice(self, "unit", (None, *_columns.UNITS_PER_SECOND))
        _config.check_positive(self, "embedding_dim", required=True)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Label(_config.Config):
    """A column of targets in `[0, 1]`.

    Args:
        name: string. The column.
    """

    name: str

    def __post_init__(self):
        _config.check_name(self.name, "name")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sequence(_config.Config):
    """A history: list columns of equal lengths, one entry an event.

    The lists run from the oldest to the newest event, and the most recent
    `max_length` events count.

    Args:
        name: string. Name of the history.
        max_length: int. The number of events to keep.
        features: list of `Categorical`, `Numerical` and `Timestamp`. A
            categorical with its own `max_length` is a list of lists.
        sort_by: string. A timestamp among `features` by which the events are
            sorted. Defaults to `None`, the order of the lists.
    """

    name: str
    max_length: int
    features: tuple
    sort_by: str | None = None

    def __post_init__(self):
        _config.check_name(self.name, "name")
        _config.check_positive(self, "max_length", required=True)
        _config.set_features(
            self, "features", (Categorical, Numerical, Timestamp)
        )
        if not self.features:
            raise ValueError(
                f"`features` of `Sequence({self.name!r})` must name at least "
                "one list column. Received: features=()"
            )
        times = [f.name for f in self.features if isinstance(f, Timestamp)]
        if self.sort_by is not None and self.sort_by not in times:
            raise ValueError(
                f"`sort_by` of `Sequence({self.name!r})` must name one of its "
                f"`Timestamp` features, {times}. Received: {self.sort_by!r}"
            )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ItemTable(_config.Config):
    """Side information of ids, joined to candidates and to histories.

    A feature `f` of the table of a categorical `c` becomes the input `c.f`. An
    id that the table does not list gets unknown ids and average numbers.

    Args:
        data: `pandas.DataFrame`, or dict of arrays.
        key: string. The column of `data` that holds the ids, each once.
        features: list of `Categorical` and `Numerical`, columns of `data`.
    """

    data: object
    key: str
    features: tuple

    def __post_init__(self):
        _config.check_name(self.key, "key")
        _config.set_features(self, "features", (Categorical, Numerical))
        if not self.features:
            raise ValueError(
                "`features` of `ItemTable` must name at least one column of "
                "`data`. Received: features=()"
            )
        for feature in self.features:
            if getattr(feature, "table", None) is not None:
                raise ValueError(
                    f"`table` of `Categorical({feature.name!r})` must be None: "
                    "features of an `ItemTable` carry no table themselves. "
                    f"Received: {feature.table}"
                )
        if not isinstance(self.data, _config.TableData):
            object.__setattr__(self, "data", self._read())

    def _read(self):
        data = self.data
        if isinstance(data, dict):
            data = pd.DataFrame(
                {k: pd.Series(list(v)) for k, v in data.items()}
            )
        if not isinstance(data, pd.DataFrame):
            raise ValueError(
                "`data` of `ItemTable` must be a data frame or a dict of "
                f"arrays. Received: {type(self.data).__name__}"
            )
        names = [self.key, *(feature.name for feature in self.features)]
        _columns.check_columns(data.columns, names, "an `ItemTable`")
        if not len(data):
            raise ValueError(
                f"`data` of `ItemTable(key={self.key!r})` must have rows. "
                "Received: an empty table"
            )
        rows = _columns.Rows(data.index)
        columns = {}
        for feature in (Categorical(self.key, 1), *self.features):
            is_number = isinstance(feature, Numerical)
            column = _columns.read(
                _columns.from_frame(data, feature.name),
                feature.name,
                "float" if is_number else "category",
                int(getattr(feature, "max_length", None) is not None),
                rows,
            )
            if is_number:
                _columns.check_finite(column, feature.name, rows)
            columns[feature.name] = column
        keys = columns[self.key]
        if keys.missing.any():
            raise ValueError(
                f"Key column `{self.key}` of `ItemTable` must have no missing "
                f"keys (None or ''). Received: a missing key in "
                f"{rows.name(np.argmax(keys.missing))}"
            )
        order = np.argsort(keys.values, kind="stable")
        repeats = np.flatnonzero(np.diff(keys.values[order]) == 0)
        if len(repeats):
            first, second = order[repeats[0] : repeats[0] + 2]
            raise ValueError(
                f"Key column `{self.key}` of `ItemTable` must hold each key "
                f"once: `drop_duplicates({self.key!r})` keeps the first row of "
                f"each. Received: {keys.value(first)!r} in "
                f"{rows.name(first)} and in {rows.name(second)}"
            )
        return _config.TableData(columns)


# --- What the model sees ----------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One encoded input of a model.

    Args:
        key: string. Its key in the batch.
        kind: string. `"id"`, `"number"`, `"gap"` (seconds), `"length"` (events
            kept) or `"count"` (log of all events).
        side: string. The half of the model that reads it: `"user"` (which
            includes context and sequences) or `"item"`.
        group: string. `"user"`, `"context"`, `"item"` or `"sequence"`.
        embedding: string. Its embedding table, for ids and gaps.
        multi: int. Values per entry of a multi-valued input, else `None`.
        pooling: string. How those are merged, else `None`.
        sequence: string. The history it belongs to, else `None`.
        feature: string. The feature it comes from: `f` for `c.f`; `None` for
            lengths and counts.
    """

    key: str
    kind: str
    side: str
    group: str
    embedding: str | None = None
    multi: int | None = None
    pooling: str | None = None
    sequence: str | None = None
    feature: str | None = None

    @property
    def dtype(self):
        return "float32" if self.kind in ("number", "count") else "int32"

    @property
    def shape(self):
        """Static shape without the batch axis."""
        per_request = self.kind in ("length", "count")
        events = self.sequence is not None and not per_request
        shape = (None,) if events or self.side == "item" else ()
        return shape + ((self.multi,) if self.multi else ())


@dataclasses.dataclass(frozen=True)
class EmbeddingSpec:
    """An embedding table: its name, and its numbers of rows and columns."""

    name: str
    rows: int
    dim: int


# --- Schema -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Schema(_config.Config):
    """The columns of a data set and what they mean.

    Args:
        user: list of `Categorical` and `Numerical`. Features of the user.
        context: list of `Categorical` and `Numerical`. Features of the request.
        item: list of `Categorical` and `Numerical`. Features of the candidate,
            and of the user and the candidate together.
        sequences: list of `Sequence`. Histories of the user.
        labels: list of `Label`.
        request_id: string. Column whose equal values make one request.
        group_id: string. Column by which grouped metrics average, such as the
            user.
        timestamp: `Timestamp`. When the request happened. Sequences with
            timestamps need it.

    Example:
    ```python
    schema = keras_unirec.Schema(
        user=[keras_unirec.Categorical("country", vocabulary="lookup")],
        item=[keras_unirec.Categorical("item_id", num_values=1000)],
        sequences=[
            keras_unirec.Sequence(
                "viewed",
                max_length=50,
                features=[
                    keras_unirec.Categorical("viewed_id", share_with="item_id")
                ],
            )
        ],
        labels=[keras_unirec.Label("click")],
    )
    schema = schema.adapt(train)
    ```
    """

    user: tuple = ()
    context: tuple = ()
    item: tuple = ()
    sequences: tuple = ()
    labels: tuple = ()
    request_id: str | None = None
    group_id: str | None = None
    timestamp: Timestamp | None = None

    def __post_init__(self):
        for side in _SIDES:
            _config.set_features(self, side, (Categorical, Numerical))
        _config.set_features(self, "sequences", (Sequence,))
        _config.set_features(self, "labels", (Label,))
        for argument in ("request_id", "group_id"):
            if getattr(self, argument) is not None:
                _config.check_name(getattr(self, argument), argument)
        if self.timestamp is not None and not isinstance(
            self.timestamp, Timestamp
        ):
            raise ValueError(
                "`timestamp` must be a `Timestamp`, which says the unit. "
                f"Received: timestamp={self.timestamp!r}"
            )
        if not any(self._fields()):
            raise ValueError(
                "`Schema` must have at least one feature in `user`, "
                "`context`, `item` or `sequences`. Received: none"
            )
        self._check_names()
        self._check_sharing()
        self._check_keys()
        self._check_tables()
        self._check_timestamps()

    # --- Lookups ---

    @property
    def label_names(self):
        return tuple(label.name for label in self.labels)

    @property
    def features(self):
        """All features by name: columns and columns of item tables."""
        return self._features

    def feature(self, name):
        """Returns the feature of a column, or of a column of a table."""
        if name not in self._features:
            raise ValueError(
                f"`name` must be one of {sorted(self._features)}. "
                f"Received: name={name!r}"
            )
        return self._features[name]

    def categorical(self, name):
        """Returns the categorical whose vocabulary `name` uses.

        That is the feature itself, or the one that it shares with.
        """
        feature = self.feature(name)
        if not isinstance(feature, Categorical):
            raise ValueError(
                f"`name` must be a `Categorical`. Received: name={name!r}, a "
                f"{type(feature).__name__}"
            )
        return self._features[feature.share_with or name]

    def numerical(self, name):
        """Returns a `Numerical`, of a column or of an item table."""
        feature = self.feature(name)
        if not isinstance(feature, Numerical):
            raise ValueError(
                f"`name` must be a `Numerical`. Received: name={name!r}, a "
                f"{type(feature).__name__}"
            )
        return feature

    def sequence(self, name):
        """Returns the `Sequence` of that name."""
        for sequence in self.sequences:
            if sequence.name == name:
                return sequence
        raise ValueError(
            f"`name` must be one of {[s.name for s in self.sequences]}. "
            f"Received: name={name!r}"
        )

    def table(self, feature):
        """Returns the `ItemTable` that is joined to a feature, or `None`."""
        if not isinstance(feature, Categorical) or feature.max_length:
            return None
        return self._features[feature.share_with or feature.name].table

    @property
    def columns(self):
        """Names of all columns that a table of training data needs."""
        names = [feature.name for feature, _, _ in self.feature_columns()]
        for name in (self.request_id, self.group_id):
            if name is not None and name not in names:
                names.append(name)
        return tuple(names + list(self.label_names))

    def feature_columns(self):
        """Yields the columns of features: (feature, group, depth).

        The group is the side, the name of the sequence, or `"timestamp"`, which
        comes last. The depth is 0 for a scalar, 1 for a list and 2 for a list
        of lists.
        """
        for side in _SIDES:
            for feature in getattr(self, side):
                yield feature, side, _depth(feature)
        for sequence in self.sequences:
            for feature in sequence.features:
                yield feature, sequence.name, 1 + _depth(feature)
        if self.timestamp is not None:
            yield self.timestamp, "timestamp", 0

    def carriers(self):
        """Returns the categoricals that carry an `ItemTable`."""
        return [
            feature
            for feature in self._features.values()
            if getattr(feature, "table", None) is not None
        ]

    def replace_features(self, function):
        """Returns a schema whose features went through a function.

        It is called on each feature of the sides, the sequences and the item
        tables, and on the timestamp.
        """

        def replace(features):
            return tuple(replace_one(feature) for feature in features)

        def replace_one(feature):
            if isinstance(feature, Sequence):
                return dataclasses.replace(
                    feature, features=replace(feature.features)
                )
            if getattr(feature, "table", None) is not None:
                table = dataclasses.replace(
                    feature.table, features=replace(feature.table.features)
                )
                feature = dataclasses.replace(feature, table=table)
            return function(feature)

        return dataclasses.replace(
            self,
            user=replace(self.user),
            context=replace(self.context),
            item=replace(self.item),
            sequences=replace(self.sequences),
            timestamp=self.timestamp and function(self.timestamp),
        )

    @functools.cached_property
    def encoded(self):
        """The encoded inputs, as a tuple of `Encoded`.

        In the order user, context, lengths and counts of the sequences, item,
        features of the sequences. The features of a table follow the column
        that they are joined to.
        """
        encoded = []
        for side in ("user", "context"):
            for feature in getattr(self, side):
                encoded += self._encoded(feature, "user", side)
        for sequence in self.sequences:
            for kind in ("length", "count"):
                key = f"{sequence.name}.{kind}"
                encoded.append(
                    Encoded(
                        key, kind, "user", "sequence", sequence=sequence.name
                    )
                )
        for feature in self.item:
            encoded += self._encoded(feature, "item", "item")
        for sequence in self.sequences:
            for feature in sequence.features:
                encoded += self._encoded(
                    feature, "user", "sequence", sequence.name
                )
        return tuple(encoded)

    @functools.cached_property
    def embeddings(self):
        """The embedding tables by name, as `EmbeddingSpec`."""
        specs = {}
        for encoded in self.encoded:
            name = encoded.embedding
            if name is None or name in specs:
                continue
            feature = self._features[name]
            if encoded.kind == "gap":
                rows, dim = len(GAP_BOUNDARIES) + 3, feature.embedding_dim
            else:
                if feature.num_values is None:
                    self.require_adapted()
                rows = feature.num_values + 2
                dim = feature.embedding_dim
                dim = dim or _default_embedding_dim(feature.num_values)
            specs[name] = EmbeddingSpec(name, rows, dim)
        return specs

    def inputs(self):
        """Makes the inputs of the two halves of a model.

        Returns:
            Two dicts of `keras.Input` by encoded key: those of the user side
            and those of the item side.
        """
        import keras

        self.require_adapted()
        inputs = {"user": {}, "item": {}}
        for encoded in self.encoded:
            inputs[encoded.side][encoded.key] = keras.Input(
                encoded.shape, dtype=encoded.dtype, name=encoded.key
            )
        return inputs["user"], inputs["item"]

    # --- Learning ---

    @property
    def is_adapted(self):
        return not self._unlearned()

    def require_adapted(self):
        """Raises a `ValueError` if `adapt` still has something to learn."""
        unlearned = self._unlearned()
        if unlearned:
            raise ValueError(
                "`schema` must be adapted to the training data first: "
                "schema = schema.adapt(train). Received: a schema that still "
                f"has to learn {', '.join(unlearned)}"
            )

    def adapt(self, data):
        """Learns vocabularies and normalization from the training data.

        Nothing else in the library learns from data outside of `fit`. What is
        given (`mean`, `std`, `values`, `unit`) is kept.

        Args:
            data: `pandas.DataFrame`, or the path of a Parquet file, of a folder
                of them, a glob, or a list of those. Parquet is streamed.

        Returns:
            A new `Schema`.
        """
        from keras_unirec import _learning

        return _learning.adapt(self, data)

    # --- Proposing and printing ---

    @classmethod
    def infer(cls, df, request_id=None):
        """Proposes a schema for a data frame, to be read and corrected.

        Columns of 0 and 1 that are named like outcomes (`click`, `is_like`,
        `label`) become labels. Lists become sequences, together where their
        lengths agree. Strings and integers become categoricals; floats, and
        integers of more than 1,000 values or named like an amount (`*_count`,
        `price`), become numbers unless their name ends in `id`; a column named
        like a time becomes the timestamp. Names decide the
        side: `user*` is the user; `item*`, `video*`, `movie*`, ... the item;
        the rest is context; what varies inside a request belongs to the item.
        A history shares with the column that its name ends in
        (`viewed_item_ids` with `item_id`). A warning names the decisions to
        look at; `summary()` prints all. A column that is an outcome, such as
        the seconds watched, cannot be told from its values: remove those by
        hand. `repr` is Python to edit, and `dataclasses.replace` changes one
        part.

        Args:
            df: `pandas.DataFrame`.
            request_id: string. Column whose equal values make one request.
                Defaults to `None`: a column of a name like `request_id`, if
                there is one.

        Returns:
            A `Schema` that is not adapted.
        """
        from keras_unirec import _infer

        return _infer.infer(df, request_id)

    def summary(self):
        """Returns a table of the columns and what becomes of them."""
        embeddings = self.embeddings if not self._unlearned() else {}
        table = [("input", "group", "kind", "vocabulary", "embedding")]
        for encoded in self.encoded:
            group = encoded.sequence or encoded.group
            kind, vocabulary, embedding = encoded.kind, "", ""
            feature = self._features.get(encoded.feature)
            if encoded.multi:
                kind += f" x {encoded.multi}"
            if isinstance(feature, Categorical):
                root = self._features[encoded.embedding]
                vocabulary = root.vocabulary
                if root.num_values is not None:
                    vocabulary += f" {root.num_values:,}"
                if root.name != feature.name:
                    vocabulary += f" (shares {root.name})"
            elif isinstance(feature, Numerical) and feature.mean is not None:
                vocabulary = f"mean {feature.mean:.4g}, std {feature.std:.4g}"
            elif isinstance(feature, Timestamp) and feature.unit:
                vocabulary = f"unit {feature.unit}"
            if encoded.embedding in embeddings:
                spec = embeddings[encoded.embedding]
                embedding = f"{spec.rows:,} x {spec.dim}"
            table.append((encoded.key, group, kind, vocabulary, embedding))
        widths = [max(len(row[i]) for row in table) for i in range(5)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
            for row in table
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        time = self.timestamp
        facts = [
            ("labels", ", ".join(self.label_names) or None),
            ("request_id", self.request_id),
            ("group_id", self.group_id),
            ("timestamp", time and f"{time.name} ({time.unit or 'datetime'})"),
            ("still to learn", ", ".join(self._unlearned()) or None),
        ]
        lines += [f"{name}: {fact}" for name, fact in facts if fact]
        return "\n".join(line.rstrip() for line in lines)

    # --- JSON ---

    def to_json(self):
        """Returns the schema and what it learned as a string."""
        return json.dumps(self.get_config())

    @classmethod
    def from_json(cls, text):
        """Makes the schema that `to_json` wrote."""
        return cls.from_config(json.loads(text))

    # --- Private ---

    def _fields(self):
        return self.user, self.context, self.item, self.sequences

    def _unlearned(self):
        unlearned = []
        features = list(self._features.values())
        if self.timestamp is not None:
            features.append(self.timestamp)
        for feature in features:
            name = feature.name
            if isinstance(feature, Categorical) and not feature.share_with:
                if feature.vocabulary == "lookup" and feature.values is None:
                    unlearned.append(f"the values of `{name}`")
                elif feature.vocabulary == "hash" and feature.dtype is None:
                    unlearned.append(f"the dtype of `{name}`")
            elif isinstance(feature, Numerical) and feature.mean is None:
                unlearned.append(f"the mean and std of `{name}`")
            elif isinstance(feature, Timestamp) and feature.unit is None:
                unlearned.append(f"the unit of `{name}`")
        return unlearned

    def _encoded(self, feature, side, group, sequence=None, carrier=None):
        multi = getattr(feature, "max_length", None)
        if isinstance(feature, Numerical):
            kind, embedding = "number", None
        elif isinstance(feature, Timestamp):
            kind, embedding = "gap", feature.name
        else:
            kind, embedding = "id", feature.share_with or feature.name
        encoded = [
            Encoded(
                f"{carrier}.{feature.name}" if carrier else feature.name,
                kind,
                side,
                group,
                embedding,
                multi,
                feature.pooling if multi else None,
                sequence,
                feature.name,
            )
        ]
        table = self.table(feature) if carrier is None else None
        for joined in table.features if table is not None else ():
            encoded += self._encoded(
                joined, side, group, sequence, carrier=feature.name
            )
        return encoded

    def _check_names(self):
        features = {}

        def add(feature, where):
            if feature.name in features:
                raise ValueError(
                    f"`{feature.name}` must be the name of one feature: "
                    "features, features of sequences and features of item "
                    f"tables share one namespace. Received: it in "
                    f"{features[feature.name][1]} and in {where}"
                )
            features[feature.name] = (feature, where)

        for feature, group, _ in self.feature_columns():
            where = f"`{group}`"
            if group == "timestamp":
                continue
            add(feature, where)
            if getattr(feature, "table", None) is not None:
                for joined in feature.table.features:
                    add(joined, f"the `ItemTable` of `{feature.name}`")
        object.__setattr__(
            self, "_features", {name: f for name, (f, _) in features.items()}
        )
        reserved = {label: "`labels`" for label in self.label_names}
        if len(reserved) < len(self.labels):
            raise ValueError(
                "`labels` must have different names. "
                f"Received: {list(self.label_names)}"
            )
        if self.timestamp is not None:
            reserved[self.timestamp.name] = "`timestamp`"
            if self.timestamp.name in self.label_names:
                raise ValueError(
                    f"`timestamp` must not be a label. "
                    f"Received: {self.timestamp.name!r} in both"
                )
        for name, where in reserved.items():
            if name in features:
                raise ValueError(
                    f"{where} must not name a feature. Received: {name!r} in "
                    f"{where} and in {features[name][1]}"
                )
        scalars = [
            f.name for f, _, depth in self.feature_columns() if not depth
        ]
        for argument in ("request_id", "group_id"):
            name = getattr(self, argument)
            if name in self.label_names:
                raise ValueError(
                    f"`{argument}` must not be a label. "
                    f"Received: {argument}={name!r}"
                )
            feature = features.get(name, (None, None))[0]
            if isinstance(feature, Numerical) or (
                feature is not None and name not in scalars
            ):
                raise ValueError(
                    f"`{argument}` must name a column of ids, one in each "
                    f"row. Received: {argument}={name!r}, which is {feature}"
                )
        sequences = [sequence.name for sequence in self.sequences]
        if len(set(sequences)) < len(sequences):
            raise ValueError(
                f"`sequences` must have different names. Received: {sequences}"
            )

    def _check_keys(self):
        # Keys of the model's inputs, then names of the exported arguments.
        _config.check_unique(
            [encoded.key for encoded in self.encoded], "inputs"
        )
        raw = [feature.name for feature, _, _ in self.feature_columns()]
        raw += [f"{sequence.name}_length" for sequence in self.sequences]
        raw += [
            f"{feature.name}_length"
            for feature, _, _ in self.feature_columns()
            if getattr(feature, "max_length", None) is not None
        ]
        _config.check_unique(raw, "arguments of the exported model")
        # Layers allow more characters than the arguments of an export.
        for names, also in (
            (raw, ""),
            (self._features, ".-"),
            (self.label_names, ".-"),
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

    def _check_sharing(self):
        for feature in self._features.values():
            target = getattr(feature, "share_with", None)
            if target is None:
                continue
            where = f"`share_with` of `Categorical({feature.name!r})`"
            root = self._features.get(target)
            if not isinstance(root, Categorical):
                known = [
                    f.name
                    for f in self._features.values()
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
            defaults = {"vocabulary": "identity"}
            for argument in (
                "num_values",
                "embedding_dim",
                "vocabulary",
                "dtype",
            ):
                value = getattr(feature, argument)
                shared = getattr(root, argument)
                if value != defaults.get(argument) and value != shared:
                    raise ValueError(
                        f"`{argument}` of `Categorical({feature.name!r})` must "
                        f"be that of share_with={target!r}, {shared!r}, or be "
                        f"left out. Received: {argument}={value!r}"
                    )

    def _check_tables(self):
        for carrier in self.carriers():
            table = carrier.table
            columns = [(table.key, carrier)]
            columns += [(f.name, f) for f in table.features]
            for name, feature in columns:
                if isinstance(feature, Categorical):
                    where = f"Column `{name}` of the `ItemTable`"
                    self._check_ids(where, table, name, feature)

    def _check_ids(self, where, table, name, feature):
        root = self._features[feature.share_with or feature.name]
        column, keys = table.data[name], table.data[table.key]
        dtype = "int64" if root.vocabulary == "identity" else root.dtype
        kinds = {"int64": "int", "string": "string", None: column.kind}
        if column.kind != kinds[dtype] and len(column.values):
            raise ValueError(
                f"{where} must hold values of dtype {dtype!r}, those of "
                f"`Categorical({root.name!r})`. "
                f"Received: {column.value(0)!r}"
            )
        bucket = "bucket" in (feature.unknown, root.unknown)
        if root.vocabulary != "identity" or bucket:
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

    def _check_timestamps(self):
        if self.timestamp is not None:
            return
        for sequence in self.sequences:
            for feature in sequence.features:
                if isinstance(feature, Timestamp):
                    raise ValueError(
                        "`timestamp` must name the column with the time of the "
                        f"request: `Sequence({sequence.name!r})` has the "
                        f"timestamp `{feature.name}`, of which the model sees "
                        "the time to the request. Received: timestamp=None"
                    )


def _default_embedding_dim(num_values):
    return int(min(64, max(4, 4 * round(num_values ** (1 / 3) / 2))))


def _depth(feature):
    return int(getattr(feature, "max_length", None) is not None)
