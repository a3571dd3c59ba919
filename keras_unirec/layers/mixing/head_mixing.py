import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unirec")
class HeadMixing(keras.layers.Layer):
    """Exchanges sub-vectors between the tokens, without parameters.

    Each of the `N` tokens is cut into `N` pieces of width `D / N`; token `i` of
    the output is the concatenation of piece `i` of every input token. The
    operation is its own inverse.

    Input shape:
        `(..., num_tokens, dim)`, where `num_tokens` divides `dim`.

    Output shape:
        The input shape.

    Example:
    ```python
    mixing = keras_unirec.layers.HeadMixing()
    mixing(np.ones((2, 4, 32))).shape  # (2, 4, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 3.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        check_width(*input_shape[-2:])

    def call(self, inputs):
        num_tokens, dim = inputs.shape[-2:]
        batch = ops.shape(inputs)[:-2]
        pieces = ops.reshape(
            inputs, (*batch, num_tokens, num_tokens, dim // num_tokens)
        )
        return ops.reshape(
            ops.swapaxes(pieces, -2, -3), (*batch, num_tokens, dim)
        )

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        # Keras writes a config by itself only where `dtype` is a string.
        return super().get_config()


def check_width(num_tokens, dim, argument="num_tokens"):
    """Raises unless a token can be cut into `num_tokens` pieces.

    Args:
        num_tokens, dim: ints.
        argument: What the caller calls the number of tokens.
    """
    if dim % num_tokens == 0:
        return
    below = dim // num_tokens * num_tokens
    widths = [width for width in (below, below + num_tokens) if width]
    counts = [n for n in range(1, dim + 1) if dim % n == 0]
    smaller = max(n for n in counts if n < num_tokens)
    larger = min((n for n in counts if n > num_tokens), default=None)
    counts = [n for n in (smaller, larger) if n]
    raise ValueError(
        "The width of a token must be divisible by the number of "
        f"tokens. Nearest legal widths for {num_tokens} tokens: "
        f"{widths}; nearest legal numbers of tokens for width {dim}: "
        f"{counts}. Received: {argument}={num_tokens}, dim={dim}"
    )
