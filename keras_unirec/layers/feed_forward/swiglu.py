import keras
from keras import ops

from keras_unirec.layers._glorot import glorot
from keras_unirec.layers._per_head import per_head


@keras.saving.register_keras_serializable(package="keras_unirec")
class SwiGLU(keras.layers.Layer):
    """Gated feed-forward network `(SiLU(x W_g) * (x W_u)) W_d`, no biases.

    With `num_heads`, every head has its own weights: the kernels are stacked
    to `(num_heads, dim, hidden_dim)`, and each head's slice is initialized as
    the matrix it is.

    Args:
        hidden_dim: int. Width between the two projections.
        num_heads: Optional int. Number of heads, the second last axis of the
            input. By default one network is shared by all positions.

    Input shape:
        `(..., dim)`, or `(..., num_heads, dim)` with `num_heads`.

    Output shape:
        The input shape.

    Example:
    ```python
    feed_forward = keras_unirec.layers.SwiGLU(128, num_heads=16)
    feed_forward(np.ones((2, 3, 16, 32))).shape  # (2, 3, 16, 32)
    ```

    Reference: [Shazeer, 2020](https://arxiv.org/abs/2002.05202)
    """

    def __init__(self, hidden_dim, num_heads=None, **kwargs):
        super().__init__(**kwargs)
        if hidden_dim < 1:
            raise ValueError(
                "`hidden_dim` must be positive. "
                f"Received: hidden_dim={hidden_dim}"
            )
        if num_heads is not None and num_heads < 1:
            raise ValueError(
                "`num_heads` must be None or positive. "
                f"Received: num_heads={num_heads}"
            )
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.supports_masking = True

    def build(self, input_shape):
        dim = input_shape[-1]
        heads = ()
        if self.num_heads is not None:
            if input_shape[-2] != self.num_heads:
                raise ValueError(
                    "`num_heads` must equal the second last axis of the input. "
                    f"Received: num_heads={self.num_heads}, "
                    f"input_shape={tuple(input_shape)}"
                )
            heads = (self.num_heads,)
        self.gate_kernel = self.add_weight(
            name="gate_kernel",
            shape=(*heads, dim, self.hidden_dim),
            initializer=glorot(dim, self.hidden_dim),
        )
        self.up_kernel = self.add_weight(
            name="up_kernel",
            shape=(*heads, dim, self.hidden_dim),
            initializer=glorot(dim, self.hidden_dim),
        )
        self.down_kernel = self.add_weight(
            name="down_kernel",
            shape=(*heads, self.hidden_dim, dim),
            initializer=glorot(self.hidden_dim, dim),
        )

    def call(self, inputs):
        gate = self._project(inputs, self.gate_kernel)
        up = self._project(inputs, self.up_kernel)
        return self._project(ops.silu(gate) * up, self.down_kernel)

    def _project(self, inputs, kernel):
        if self.num_heads is None:
            return ops.matmul(inputs, kernel)
        return per_head(inputs, kernel)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["hidden_dim"] = self.hidden_dim
        config["num_heads"] = self.num_heads
        return config
