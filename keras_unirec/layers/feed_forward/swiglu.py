import keras
from keras import ops

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_ratio
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers._checks import hidden_width
from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class SwiGLU(keras.layers.Layer):
    """Gated feed-forward network `(SiLU(x W_g) * (x W_u)) W_d`, no biases.

    With `per_token`, every token, or head, has its own weights: the kernels are
    stacked to `(num_tokens, dim, ...)`. Each matrix is initialized as such,
    whatever it is stacked with.

    Args:
        hidden_dim: int or None. Width between the two projections. Defaults to
            `None`: `ratio` times the width of the input.
        ratio: float or None. Defaults to `None`: 4.
        per_token: bool. Whether each position of the second last axis has a
            network of its own. Defaults to `False`: one serves all.
        input_scale: bool. Learns a scale of each input feature, from 1: the
            `gamma` of a normalization in front. It multiplies the kernel
            instead of the input, one pass less over many positions. Defaults
            to `False`.

    Input shape:
        `(..., dim)`, or `(..., num_tokens, dim)` with `per_token`.

    Output shape:
        The input shape.

    Example:
    ```python
    feed_forward = keras_unirec.layers.SwiGLU(128, per_token=True)
    feed_forward(np.ones((2, 3, 16, 32))).shape  # (2, 3, 16, 32)
    ```

    Reference: [Shazeer, 2020](https://arxiv.org/abs/2002.05202)
    """

    def __init__(
        self,
        hidden_dim=None,
        ratio=None,
        per_token=False,
        input_scale=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, hidden_dim=hidden_dim)
        check_ratio(optional=True, ratio=ratio)
        check_bools(per_token=per_token, input_scale=input_scale)
        self.hidden_dim = hidden_dim
        self.ratio = ratio
        self.per_token = per_token
        self.input_scale = input_scale
        self.supports_masking = True

    def build(self, input_shape):
        dim = input_shape[-1]
        hidden_dim = hidden_width(self.hidden_dim, self.ratio or 4, dim)
        heads = ()
        if self.per_token:
            num_tokens, _ = check_tokens(input_shape)
            self.input_spec = keras.layers.InputSpec(
                axes={-2: num_tokens, -1: dim}
            )
            heads = (num_tokens,)
        if self.input_scale:
            self.scale = self.add_weight(
                name="scale", shape=(dim,), initializer="ones"
            )
        # Not halves of one kernel: cutting it, or what it gives, is a copy,
        # and the gradient would copy the halves back.
        self.gate_kernel, self.up_kernel = (
            self.add_weight(
                name=f"{name}_kernel",
                shape=(*heads, dim, hidden_dim),
                initializer=glorot(dim, hidden_dim),
            )
            for name in ("gate", "up")
        )
        self.down_kernel = self.add_weight(
            name="down_kernel",
            shape=(*heads, hidden_dim, dim),
            initializer=glorot(hidden_dim, dim),
        )

    def call(self, inputs):
        if not self.per_token:
            return self._network(inputs)
        # (tokens, positions, dim): one batch of plain matrix products.
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
        config["ratio"] = self.ratio
        config["per_token"] = self.per_token
        config["input_scale"] = self.input_scale
        return config
