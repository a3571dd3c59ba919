import keras
from keras import ops

from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class HistoryKeyValue(keras.layers.Layer):
    """Projects the events of a history to keys and values, by head.

    `K = H W_K` and `V = H W_V`, without biases. Its kernels are those that
    `QueryDecoding` moves to the queries where it absorbs keys and values, so
    that both forms have the same weights in the same place.

    Args:
        num_heads: int. Number of attention heads.
        head_dim: int. Width of the keys and values of a head.

    Input shape:
        `(requests, length, event_dim)`

    Output shape:
        Tuple of the keys and the values, each
        `(requests, num_heads, length, head_dim)`.

    Example:
    ```python
    key_value = keras_unirec.layers.HistoryKeyValue(num_heads=4, head_dim=8)
    keys, values = key_value(np.ones((2, 50, 16)))
    keys.shape  # (2, 4, 50, 8)
    ```

    Reference: [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 8.
    """

    def __init__(self, num_heads, head_dim, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("num_heads", num_heads), ("head_dim", head_dim)):
            if value < 1:
                raise ValueError(
                    f"`{name}` must be positive. Received: {name}={value}"
                )
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.supports_masking = True

    def build(self, input_shape):
        event_dim = input_shape[-1]
        width = self.num_heads * self.head_dim
        self.key_kernel = self.add_weight(
            name="key_kernel",
            shape=(event_dim, width),
            initializer=glorot(event_dim, width),
        )
        self.value_kernel = self.add_weight(
            name="value_kernel",
            shape=(event_dim, width),
            initializer=glorot(event_dim, width),
        )

    def call(self, inputs):
        return (
            self._by_head(ops.matmul(inputs, self.key_kernel)),
            self._by_head(ops.matmul(inputs, self.value_kernel)),
        )

    def _by_head(self, projected):
        requests, length, _ = ops.shape(projected)
        projected = ops.reshape(
            projected, (requests, length, self.num_heads, self.head_dim)
        )
        return ops.transpose(projected, (0, 2, 1, 3))

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        requests, length, _ = input_shape
        shape = (requests, self.num_heads, length, self.head_dim)
        return shape, shape

    def get_config(self):
        config = super().get_config()
        config["num_heads"] = self.num_heads
        config["head_dim"] = self.head_dim
        return config
