import keras
from keras import ops

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_ratio
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers._checks import hidden_width
from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class PerTokenFFN(keras.layers.Layer):
    """Feed-forward network `GELU(x_t W_t + b_t) V_t + c_t`, one per token.

    GELU is the tanh approximation. With `shared=True` one network serves all
    tokens.

    Args:
        hidden_dim: int or None. Width between the two projections. Defaults to
            `None`: `ratio` times the width of the input.
        ratio: float or None. Defaults to `None`: 4.
        shared: bool. One network for all positions. Defaults to `False`.

    Input shape:
        `(..., num_tokens, dim)`, or `(..., dim)` with `shared`.

    Output shape:
        The input shape.

    Example:
    ```python
    feed_forward = keras_unirec.layers.PerTokenFFN(128)
    feed_forward(np.ones((2, 3, 16, 32))).shape  # (2, 3, 16, 32)
    ```

    Reference: [RankMixer, 2025](https://arxiv.org/abs/2507.15551)
    """

    def __init__(self, hidden_dim=None, ratio=None, shared=False, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, hidden_dim=hidden_dim)
        check_ratio(optional=True, ratio=ratio)
        check_bools(shared=shared)
        self.hidden_dim = hidden_dim
        self.ratio = ratio
        self.shared = shared
        self.supports_masking = True

    def build(self, input_shape):
        dim = input_shape[-1]
        hidden_dim = hidden_width(self.hidden_dim, self.ratio or 4, dim)
        if not self.shared:
            check_tokens(input_shape)
        tokens = () if self.shared else (input_shape[-2],)
        # A bias stands beside every position of its token.
        spread = () if self.shared else (1,)

        def add(name, fan_in, fan_out):
            return (
                self.add_weight(
                    name=f"{name}_kernel",
                    shape=(*tokens, fan_in, fan_out),
                    initializer=glorot(fan_in, fan_out),
                ),
                self.add_weight(
                    name=f"{name}_bias",
                    shape=(*tokens, *spread, fan_out),
                    initializer="zeros",
                ),
            )

        self.up_kernel, self.up_bias = add("up", dim, hidden_dim)
        self.down_kernel, self.down_bias = add("down", hidden_dim, dim)

    def call(self, inputs):
        if self.shared:
            return self._network(inputs)
        # (tokens, positions, dim): one batch of plain matrix products.
        x = ops.reshape(inputs, (-1, *inputs.shape[-2:]))
        x = self._network(ops.transpose(x, (1, 0, 2)))
        return ops.reshape(ops.transpose(x, (1, 0, 2)), ops.shape(inputs))

    def _network(self, x):
        x = ops.matmul(x, self.up_kernel) + self.up_bias
        x = ops.gelu(x, approximate=True)
        return ops.matmul(x, self.down_kernel) + self.down_bias

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["hidden_dim"] = self.hidden_dim
        config["ratio"] = self.ratio
        config["shared"] = self.shared
        return config
