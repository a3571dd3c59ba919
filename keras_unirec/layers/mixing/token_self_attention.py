import keras

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class TokenSelfAttention(keras.layers.Layer):
    """Multi-head self-attention between the tokens of one sample.

    It stands where `HeadMixing` does in the ablation that replaces it. The four
    projections are `D x D`, without biases.

    Args:
        num_heads: int. Number of attention heads; it divides the token width.
            Defaults to `4`.

    Input shape:
        `(..., num_tokens, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    attention = keras_unirec.layers.TokenSelfAttention(num_heads=4)
    attention(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)
    """

    def __init__(self, num_heads=4, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(num_heads=num_heads)
        self.num_heads = num_heads
        self.supports_masking = True

    def build(self, input_shape):
        _, dim = check_tokens(input_shape)
        if dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the width of a token. "
                f"Received: num_heads={self.num_heads}, dim={dim}"
            )
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads,
            dim // self.num_heads,
            use_bias=False,
            # Candidates do not see each other.
            attention_axes=len(input_shape) - 2,
            kernel_initializer=glorot(dim, dim),
            dtype=self.dtype_policy,
            name="attention",
        )
        self.attention.build(input_shape, input_shape)

    def call(self, inputs):
        return self.attention(inputs, inputs)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["num_heads"] = self.num_heads
        return config
