import keras
from keras import ops

from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class SwiGLU(keras.layers.Layer):
    """Gated feed-forward network `(SiLU(x W_g) * (x W_u)) W_d`, no biases.

    With `num_heads`, every head has its own weights: the kernels are stacked to
    `(num_heads, dim, ...)`. Each matrix is initialized as such, whatever it is
    stacked with.

    Args:
        hidden_dim: int. Width between the two projections.
        num_heads: Optional int. Number of heads, the second last axis of the
            input. By default one network is shared by all positions.
        input_scale: bool. Learns a scale of each input feature, from 1: the
            `gamma` of a normalization in front. It multiplies the kernel
            instead of the input, one pass less over many positions. Defaults
            to `False`.

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

    def __init__(self, hidden_dim, num_heads=None, input_scale=False, **kwargs):
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
        self.input_scale = input_scale
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
        if self.input_scale:
            self.scale = self.add_weight(
                name="scale", shape=(dim,), initializer="ones"
            )
        # Not halves of one kernel: cutting it, or what it gives, is a copy,
        # and the gradient would copy the halves back.
        self.gate_kernel, self.up_kernel = (
            self.add_weight(
                name=f"{name}_kernel",
                shape=(*heads, dim, self.hidden_dim),
                initializer=glorot(dim, self.hidden_dim),
            )
            for name in ("gate", "up")
        )
        self.down_kernel = self.add_weight(
            name="down_kernel",
            shape=(*heads, self.hidden_dim, dim),
            initializer=glorot(self.hidden_dim, dim),
        )

    def call(self, inputs):
        if self.num_heads is None:
            return self._network(inputs)
        # (heads, positions, dim): one batch of plain matrix products.
        x = ops.reshape(inputs, (-1, *inputs.shape[-2:]))
        x = ops.transpose(x, (1, 0, 2))
        x = self._network(x)
        return ops.reshape(ops.transpose(x, (1, 0, 2)), ops.shape(inputs))

    def _network(self, x):
        gate_kernel, up_kernel = self.gate_kernel, self.up_kernel
        if self.input_scale:
            scale = ops.expand_dims(self.scale, -1)
            gate_kernel, up_kernel = gate_kernel * scale, up_kernel * scale
        gate, up = ops.matmul(x, gate_kernel), ops.matmul(x, up_kernel)
        return ops.matmul(ops.silu(gate) * up, self.down_kernel)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["hidden_dim"] = self.hidden_dim
        config["num_heads"] = self.num_heads
        config["input_scale"] = self.input_scale
        return config
