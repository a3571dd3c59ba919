import keras
from keras import ops

from keras_unirec.layers._checks import check_choice


@keras.saving.register_keras_serializable(package="keras_unirec")
class EmbeddingPooling(keras.layers.Layer):
    """Pools the values of a multi-valued feature into one vector.

    Padding (id 0) takes no part; no value at all pools to zeros.

    Args:
        pooling: `"mean"` or `"sum"`. Defaults to `"mean"`.

    Call arguments:
        embeddings: Tensor of shape `(..., num_values, dim)`.
        ids: Integer tensor of shape `(..., num_values)`, 0 on padding.

    Output shape:
        `(..., dim)`

    Example:
    ```python
    ids = np.array([[3, 7, 0]])
    pooling = keras_unirec.layers.EmbeddingPooling()
    pooling(np.ones((1, 3, 4)), ids).shape  # (1, 4)
    ```
    """

    def __init__(self, pooling="mean", **kwargs):
        super().__init__(**kwargs)
        check_choice(("mean", "sum"), pooling=pooling)
        self.pooling = pooling

    def call(self, embeddings, ids):
        real = ops.cast(ops.not_equal(ids, 0), embeddings.dtype)
        total = ops.einsum("...ld,...l->...d", embeddings, real)
        if self.pooling == "sum":
            return total
        count = ops.sum(real, axis=-1, keepdims=True)
        return total / ops.maximum(count, 1)

    def compute_output_shape(self, embeddings_shape, ids_shape=None):
        return (*embeddings_shape[:-2], embeddings_shape[-1])

    def get_config(self):
        return {**super().get_config(), "pooling": self.pooling}
