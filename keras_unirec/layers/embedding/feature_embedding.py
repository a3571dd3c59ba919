import keras
from keras import ops

from keras_unirec.layers.embedding.embedding_pooling import EmbeddingPooling
from keras_unirec.layers.embedding.length_mask import LengthMask
from keras_unirec.layers.embedding.row_embedding import RowEmbedding
from keras_unirec.layers.embedding.time_gap_bucket import TimeGapBucket
from keras_unirec.schema import GAP_BOUNDARIES
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
    request = embed.request(user_inputs)  # {key: (R, dim)}
    candidates = embed.candidates(item_inputs)  # {key: (R, C, dim)}
    history, mask = embed.history(user_inputs, "watched")  # (R, T, dim)
    ```
    """

    def __init__(self, schema, dtype=None):
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

    def request(self, user_inputs):
        """Embeds the user and context columns and the history counts.

        Args:
            user_inputs: dict of encoded user inputs.

        Returns:
            dict `{key: tensor of shape (num_requests, dim)}`, in the order
            of the schema.
        """
        return {
            feature.key: self._embed(feature, user_inputs[feature.key])
            for feature in self.schema.encoded
            if feature.side == "user"
            and (feature.group != "sequence" or feature.kind == "count")
        }

    def candidates(self, item_inputs):
        """Embeds the item columns.

        Args:
            item_inputs: dict of encoded item inputs.

        Returns:
            dict `{key: tensor of shape (num_requests, num_candidates, dim)}`,
            in the order of the schema.
        """
        return {
            feature.key: self._embed(feature, item_inputs[feature.key])
            for feature in self.schema.encoded
            if feature.side == "item"
        }

    def history(self, user_inputs, sequence):
        """Embeds the events of one history: `s_t` of MixFormer 3.2.

        Args:
            user_inputs: dict of encoded user inputs.
            sequence: Name of the `Sequence`.

        Returns:
            The events, of shape `(num_requests, num_events, dim)`, and their
            bool mask, of shape `(num_requests, num_events)`.
        """
        events = [
            self._embed(feature, user_inputs[feature.key])
            for feature in self.schema.encoded
            if feature.sequence == sequence
            and feature.kind in ("id", "number", "gap")
        ]
        events = concatenate(events)
        length = user_inputs[f"{sequence}.length"]
        return events, self._mask(events, length)

    def gaps(self, user_inputs, sequence):
        """The time gaps of a history, in seconds; None if it has none."""
        for feature in self.schema.encoded:
            if feature.sequence == sequence and feature.kind == "gap":
                return user_inputs[feature.key]
        return None

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


def concatenate(tensors):
    """Concatenates along the last axis; one tensor stays as it is."""
    tensors = list(tensors)
    return tensors[0] if len(tensors) == 1 else ops.concatenate(tensors, -1)


def layer_name(key):
    """The name of a layer for a column: what TensorFlow's scopes allow."""
    name = ascii_name(key, also=".-")
    return name if name[0].isalnum() else f"column{name}"
