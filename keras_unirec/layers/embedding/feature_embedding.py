import keras
from keras import ops

from keras_unirec.layers.embedding._columns import Columns
from keras_unirec.layers.embedding._columns import History
from keras_unirec.layers.embedding._columns import column
from keras_unirec.layers.embedding._columns import concatenate
from keras_unirec.layers.embedding.embedding_pooling import EmbeddingPooling
from keras_unirec.layers.embedding.length_mask import LengthMask
from keras_unirec.layers.embedding.row_embedding import RowEmbedding
from keras_unirec.layers.embedding.time_gap_bucket import TimeGapBucket
from keras_unirec.schema import GAP_BOUNDARIES
from keras_unirec.schema import Schema
from keras_unirec.schema.names import ascii_name


class FeatureEmbedding:
    """Applies the embedding tables of a schema to the encoded columns.

    This is the one place of a model that knows feature names. It holds the
    layers and calls them on the inputs of the two halves; it is no layer
    itself, so each table is a layer of the model under its own name
    (`"<table>_embedding"`), and its weight has the path
    `"<table>_embedding/embeddings"`.

    A categorical feature becomes a row of its table (pooled where it has
    several values), a number stays one number, or becomes `embedding_dim`
    numbers through a dense layer with `tanh`, and a time gap becomes the row
    of its logarithmic bucket.

    Args:
        schema: `keras_unirec.Schema`, adapted.
        dtype: Dtype policy of the layers. Defaults to the global policy.

    Example:
    ```python
    embed = FeatureEmbedding(schema)
    user_inputs, item_inputs = schema.inputs()
    context = embed.context(user_inputs)  # Columns (R, width)
    items = embed.items(item_inputs)  # Columns (R, C, width)
    watched = embed.histories(user_inputs)["watched"]  # History
    ```
    """

    def __init__(self, schema, dtype=None):
        if not isinstance(schema, Schema):
            raise ValueError(
                "`schema` must be a `keras_unirec.Schema`. "
                f"Received: schema={schema!r}"
            )
        self.schema = schema
        self.dtype = keras.dtype_policies.get(
            dtype or keras.config.dtype_policy()
        )
        self.tables = {
            name: RowEmbedding(
                spec.rows,
                spec.dim,
                dtype=self.dtype,
                name=f"{layer_name(name)}_embedding",
            )
            for name, spec in schema.embeddings.items()
        }
        self._mask = LengthMask(name="length_mask")

    def context(self, user_inputs, history_lengths=True):
        """Embeds the user and context columns and the history counts.

        Args:
            user_inputs: dict of encoded user inputs.
            history_lengths: bool. Whether the numbers of events are columns.

        Returns:
            `Columns` of embeddings `(R, dim)`.
        """
        return Columns(
            self._column(feature, user_inputs)
            for feature in self.schema.encoded
            if feature.side == "user"
            and (
                feature.group != "sequence"
                or (feature.kind == "count" and history_lengths)
            )
        )

    def items(self, item_inputs):
        """Embeds the item columns.

        Args:
            item_inputs: dict of encoded item inputs.

        Returns:
            `Columns` of embeddings `(R, C, dim)`.
        """
        columns = Columns(
            (
                self._column(feature, item_inputs)
                for feature in self.schema.encoded
                if feature.side == "item"
            ),
            aligned=lambda name: self._aligned(columns, name),
        )
        return columns

    def histories(self, user_inputs):
        """Embeds the events of the histories: `s_t` of MixFormer 3.2.

        Args:
            user_inputs: dict of encoded user inputs.

        Returns:
            dict of `History` by name.
        """
        return {
            sequence.name: self._history(user_inputs, sequence)
            for sequence in self.schema.sequences
        }

    def _column(self, feature, inputs):
        return column(
            feature.key,
            feature.group,
            feature.kind,
            self._embed(feature, inputs[feature.key]),
        )

    def _events(self, name):
        """The encoded columns that an event of a history is made of."""
        return [
            feature
            for feature in self.schema.encoded
            if feature.sequence == name
            and feature.kind in ("id", "number", "gap")
        ]

    def _history(self, user_inputs, sequence):
        features = self._events(sequence.name)
        values = {f.key: user_inputs[f.key] for f in features}
        events = concatenate(self._embed(f, values[f.key]) for f in features)
        length = user_inputs[f"{sequence.name}.length"]
        gaps = [values[f.key] for f in features if f.kind == "gap"]
        return History(
            name=sequence.name,
            events=events,
            mask=self._mask(events, length),
            gaps=gaps[0] if gaps else None,
            ids={f.key: values[f.key] for f in features if f.kind == "id"},
            max_length=sequence.max_length,
        )

    def _aligned(self, items, name):
        """See `Columns.aligned`."""
        by_key = {each.key: each for each in items}
        twins = {
            (feature.kind, feature.embedding or feature.feature): by_key[
                feature.key
            ]
            for feature in reversed(self.schema.encoded)
            if feature.key in by_key
        }
        parts = []
        for feature in self._events(name):
            twin = twins.get(
                (feature.kind, feature.embedding or feature.feature)
            )
            width = self.width(feature)
            if twin is None or twin.width != width:
                some = items.tensor[..., :1]
                parts.append(ops.repeat(ops.zeros_like(some), width, axis=-1))
            else:
                parts.append(twin.embedding)
        return concatenate(parts)

    def width(self, feature):
        """int. Width of the embedding of an encoded column."""
        if feature.kind in ("number", "count"):
            return self._number_dim(feature) or 1
        return self.schema.embeddings[feature.embedding].dim

    def _embed(self, feature, values):
        name = layer_name(feature.key)
        if feature.kind in ("number", "count"):
            values = ops.cast(
                ops.expand_dims(values, axis=-1), self.dtype.compute_dtype
            )
            dim = self._number_dim(feature)
            if dim is None:
                return values
            return keras.layers.Dense(
                dim,
                activation="tanh",
                dtype=self.dtype,
                name=f"{name}_number",
            )(values)
        table = self.tables[feature.embedding]
        if feature.kind == "gap":
            bucket = TimeGapBucket(GAP_BOUNDARIES, name=f"{name}_bucket")
            return table(bucket(values))
        embeddings = table(values)
        if feature.multi is None:
            return embeddings
        pooling = EmbeddingPooling(
            feature.pooling, dtype=self.dtype, name=f"{name}_pooling"
        )
        return pooling(embeddings, values)

    def _number_dim(self, feature):
        if feature.kind == "count":
            return None
        return self.schema.numerical(feature.feature).embedding_dim


def layer_name(key):
    """The name of a layer for a column: what TensorFlow's scopes allow."""
    name = ascii_name(key, also=".-")
    return name if name[0].isalnum() else f"column{name}"
