"""The description of all columns of a data set."""

import dataclasses
import functools
import json

from keras_unirec.schema import _checks
from keras_unirec.schema import _inference
from keras_unirec.schema import _learning
from keras_unirec.schema import _summary
from keras_unirec.schema._arguments import check_name
from keras_unirec.schema._arguments import set_features
from keras_unirec.schema._config import Config
from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.encoded import embedding_specs
from keras_unirec.schema.encoded import encoded_inputs
from keras_unirec.schema.label import Label
from keras_unirec.schema.numerical import Numerical
from keras_unirec.schema.sequence import Sequence
from keras_unirec.schema.timestamp import Timestamp

_SIDES = ("user", "context", "item")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Schema(Config):
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
            set_features(self, side, (Categorical, Numerical))
        set_features(self, "sequences", (Sequence,))
        set_features(self, "labels", (Label,))
        for argument in ("request_id", "group_id"):
            if getattr(self, argument) is not None:
                check_name(getattr(self, argument), argument)
        if self.timestamp is not None and not isinstance(
            self.timestamp, Timestamp
        ):
            raise ValueError(
                "`timestamp` must be a `Timestamp`, which says the unit. "
                f"Received: timestamp={self.timestamp!r}"
            )
        if not any((self.user, self.context, self.item, self.sequences)):
            raise ValueError(
                "`Schema` must have at least one feature in `user`, "
                "`context`, `item` or `sequences`. Received: none"
            )
        features, places = _checks.unique_features(self)
        object.__setattr__(self, "_features", features)
        _checks.check(self, places)

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
                yield feature, side, feature.depth
        for sequence in self.sequences:
            for feature in sequence.features:
                yield feature, sequence.name, 1 + feature.depth
        if self.timestamp is not None:
            yield self.timestamp, "timestamp", 0

    def carriers(self):
        """Returns the categoricals that carry an `ItemTable`."""
        return [
            feature
            for feature in self._features.values()
            if feature.table is not None
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
            if feature.table is not None:
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
        return encoded_inputs(self)

    @functools.cached_property
    def embeddings(self):
        """The embedding tables by name, as `EmbeddingSpec`."""
        return embedding_specs(self)

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
    def unlearned(self):
        """What `adapt` still has to learn, a list of words for messages."""
        features = list(self._features.values())
        if self.timestamp is not None:
            features.append(self.timestamp)
        return [
            f"the {feature.unlearned} of `{feature.name}`"
            for feature in features
            if feature.unlearned is not None
        ]

    @property
    def is_adapted(self):
        return not self.unlearned

    def require_adapted(self):
        """Raises a `ValueError` if `adapt` still has something to learn."""
        unlearned = self.unlearned
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
        arguments, doubts = _inference.propose(df, request_id)
        schema = cls(**arguments)
        _inference.warn(doubts)
        return schema

    def summary(self):
        """Returns a table of the columns and what becomes of them."""
        return _summary.summary(self)

    # --- JSON ---

    def to_json(self):
        """Returns the schema and what it learned as a string."""
        return json.dumps(self.get_config())

    @classmethod
    def from_json(cls, text):
        """Makes the schema that `to_json` wrote."""
        return cls.from_config(json.loads(text))
