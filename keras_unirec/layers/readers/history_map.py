import keras
from keras import ops

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class HistoryMap(keras.layers.Layer):
    """Maps narrow events to one vector per head, linearly and without bias.

    `h_t^i = M_i h_t`, where `h_t` has width `E` and `M_i` is head `i`'s slice
    of the kernel of shape `(E, num_heads, dim)`. All layers of a model share
    one map. `HeadCrossAttention` can apply it to the queries and to the
    aggregate instead of to every event.

    Args:
        num_heads: int. Number of heads `N`.
        dim: int. Width `D` of a head.

    Input shape:
        `(requests, length, event_dim)`

    Output shape:
        `(requests, length, num_heads, dim)`

    Example:
    ```python
    history_map = keras_unirec.layers.HistoryMap(num_heads=16, dim=32)
    history_map(np.ones((2, 50, 32))).shape  # (2, 50, 16, 32)
    ```
    """

    def __init__(self, num_heads, dim, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(num_heads=num_heads, dim=dim)
        self.num_heads = num_heads
        self.dim = dim
        self.supports_masking = True

    def build(self, input_shape):
        event_dim = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(event_dim, self.num_heads, self.dim),
            initializer=glorot(event_dim, self.dim),
        )

    def call(self, inputs):
        event_dim = inputs.shape[-1]
        # One matrix product: an einsum would batch it over the requests.
        kernel = ops.reshape(self.kernel, (event_dim, -1))
        mapped = ops.matmul(inputs, kernel)
        return ops.reshape(
            mapped, (*ops.shape(inputs)[:-1], self.num_heads, self.dim)
        )

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_heads, self.dim)

    def get_config(self):
        config = super().get_config()
        config["num_heads"] = self.num_heads
        config["dim"] = self.dim
        return config
