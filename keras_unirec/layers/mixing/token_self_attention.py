import keras
from keras import ops

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class TokenSelfAttention(keras.layers.Layer):
    """Multi-head self-attention between the tokens of one sample.

    It stands where `HeadMixing` does in the ablation that replaces it. The four
    projections are `D x D`, without biases. With `context`, other tokens are
    read too: the heads of the items read those of the user and not the other
    way round, which is attention under the mask of eq. 10 of MixFormer. Every
    candidate projects the context again to keys and values.

    Args:
        num_heads: int or None. Number of attention heads; it divides the token
            width. Defaults to `None`: what the model says, or 4.

    Call arguments:
        inputs: Tensor of shape `(..., num_tokens, dim)`.
        context: Optional tensor of shape `(..., num_others, dim)`, with the
            leading axes of `inputs` or 1 in their place: more tokens to read.

    Output shape:
        That of `inputs`.

    Example:
    ```python
    attention = keras_unirec.layers.TokenSelfAttention(num_heads=4)
    attention(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)
    """

    def __init__(self, num_heads=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, num_heads=num_heads)
        self.num_heads = num_heads
        self.supports_masking = True

    def build(self, inputs_shape, context_shape=None):
        _, dim = check_tokens(inputs_shape)
        num_heads = self.num_heads or 4
        if dim % num_heads:
            raise ValueError(
                "`num_heads` must divide the width of a token. "
                f"Received: num_heads={num_heads}, dim={dim}"
            )
        self.attention = keras.layers.MultiHeadAttention(
            num_heads,
            dim // num_heads,
            use_bias=False,
            # Candidates do not see each other.
            attention_axes=len(inputs_shape) - 2,
            kernel_initializer=glorot(dim, dim),
            dtype=self.dtype_policy,
            name="attention",
        )
        self.attention.build(inputs_shape, inputs_shape)

    def call(self, inputs, context=None):
        tokens = inputs
        if context is not None:
            if len(context.shape) != len(inputs.shape):
                raise ValueError(
                    "`context` must have as many axes as the tokens. Received: "
                    f"{tuple(context.shape)} for {tuple(inputs.shape)}"
                )
            leading = ops.shape(inputs)[:-2]
            context = ops.broadcast_to(context, (*leading, *context.shape[-2:]))
            tokens = ops.concatenate([context, inputs], axis=-2)
        return self.attention(inputs, tokens)

    def compute_mask(self, inputs, context=None, mask=None):
        return None

    def compute_output_shape(self, inputs_shape, context_shape=None):
        return tuple(inputs_shape)

    def get_config(self):
        config = super().get_config()
        config["num_heads"] = self.num_heads
        return config
