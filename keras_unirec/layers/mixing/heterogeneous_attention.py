import keras
from keras import ops

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class HeterogeneousAttention(keras.layers.Layer):
    """Self-attention between tokens, each with projections of its own.

    `softmax(Q K^T / sqrt(d)) V` with `q_t = x_t W^Q_t`, `k_t = x_t W^K_t` and
    `v_t = x_t W^V_t`: the `D x D` matrices belong to token `t`. There is no
    projection of the output: the network of each token follows.

    Args:
        num_heads: int or None. Number of attention heads; it divides the token
            width. Defaults to `None`: what the model says, or 4.

    Input shape:
        `(..., num_tokens, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    attention = keras_unirec.layers.HeterogeneousAttention(num_heads=4)
    attention(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [UniMixer, 2026](https://arxiv.org/abs/2604.00590), table 1;
    [HiFormer, 2023](https://arxiv.org/abs/2311.05884)
    """

    def __init__(self, num_heads=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, num_heads=num_heads)
        self.num_heads = num_heads
        self.supports_masking = True

    def build(self, input_shape):
        num_tokens, dim = check_tokens(input_shape)
        self.input_spec = keras.layers.InputSpec(axes={-2: num_tokens, -1: dim})
        num_heads = self.num_heads or 4
        if dim % num_heads:
            raise ValueError(
                "`num_heads` must divide the width of a token. "
                f"Received: num_heads={num_heads}, dim={dim}"
            )
        self.query_kernel, self.key_kernel, self.value_kernel = (
            self.add_weight(
                name=f"{name}_kernel",
                shape=(num_tokens, dim, dim),
                initializer=glorot(dim, dim),
            )
            for name in ("query", "key", "value")
        )

    def call(self, inputs):
        num_tokens, dim = inputs.shape[-2:]
        num_heads = self.num_heads or 4
        head_dim = dim // num_heads
        x = ops.reshape(inputs, (-1, num_tokens, dim))
        x = ops.transpose(x, (1, 0, 2))  # (tokens, samples, dim)

        def project(kernel):
            y = ops.matmul(x, kernel)
            y = ops.reshape(y, (num_tokens, -1, num_heads, head_dim))
            return ops.transpose(y, (1, 2, 0, 3))  # (samples, heads, tokens, .)

        query = project(self.query_kernel) * head_dim**-0.5
        scores = ops.matmul(
            query, ops.swapaxes(project(self.key_kernel), -1, -2)
        )
        weights = ops.softmax(ops.cast(scores, "float32"), axis=-1)
        outputs = ops.matmul(
            ops.cast(weights, inputs.dtype), project(self.value_kernel)
        )
        outputs = ops.transpose(outputs, (0, 2, 1, 3))
        return ops.reshape(outputs, ops.shape(inputs))

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["num_heads"] = self.num_heads
        return config
