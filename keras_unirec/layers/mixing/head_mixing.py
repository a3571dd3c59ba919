import keras
from keras import ops

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers._checks import nearest_divisors


@keras.saving.register_keras_serializable(package="keras_unirec")
class HeadMixing(keras.layers.Layer):
    """Exchanges sub-vectors between the tokens, without parameters.

    Each of the `T` tokens is cut into `H` pieces of width `D / H`; token `h` of
    the output is the concatenation of piece `h` of every input token. With
    `H = T`, the default, the operation is its own inverse; otherwise its
    inverse is `HeadMixing(num_heads=T)`.

    Args:
        num_heads: int or None. H, the number of tokens of the output. Defaults
            to `None`: that of the input. Another number changes the shape of
            the tokens, so that a residual around the mixing is impossible:
            `QueryBoosting` reverts it after the networks of the tokens.

    Input shape:
        `(..., num_tokens, dim)`, where `num_heads` divides `dim`.

    Output shape:
        `(..., num_heads, num_tokens * dim / num_heads)`

    Example:
    ```python
    mixing = keras_unirec.layers.HeadMixing()
    mixing(np.ones((2, 4, 32))).shape  # (2, 4, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 3.
    """

    def __init__(self, num_heads=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, num_heads=num_heads)
        self.num_heads = num_heads
        self.supports_masking = True

    def build(self, input_shape):
        num_tokens, dim = check_tokens(input_shape)
        if self.num_heads is None:
            check_width(num_tokens, dim)
        else:
            check_width(self.num_heads, dim, "num_heads", "heads")

    def call(self, inputs):
        return exchange(inputs, self.num_heads or inputs.shape[-2])

    def revert(self, outputs, num_tokens):
        """The inputs, `num_tokens` each, from what `call` returned."""
        return exchange(outputs, num_tokens)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        *batch, num_tokens, dim = input_shape
        num_heads = self.num_heads or num_tokens
        return (*batch, num_heads, num_tokens * dim // num_heads)

    def get_config(self):
        config = super().get_config()
        config["num_heads"] = self.num_heads
        return config


def exchange(inputs, num_heads):
    """Piece `h` of every token becomes token `h`.

    Args:
        inputs: Tensor of shape `(..., num_tokens, dim)`.
        num_heads: int. Pieces of a token; it divides `dim`.

    Returns:
        Tensor of shape `(..., num_heads, num_tokens * dim / num_heads)`.
    """
    num_tokens, dim = inputs.shape[-2:]
    batch = ops.shape(inputs)[:-2]
    width = dim // num_heads
    pieces = ops.reshape(inputs, (*batch, num_tokens, num_heads, width))
    return ops.reshape(
        ops.swapaxes(pieces, -2, -3), (*batch, num_heads, num_tokens * width)
    )


def check_width(num_tokens, dim, argument="num_tokens", what="tokens"):
    """Raises unless a token can be cut into `num_tokens` pieces.

    Args:
        num_tokens, dim: ints.
        argument: What the caller calls the number of tokens.
        what: What it numbers.
    """
    if dim % num_tokens == 0:
        return
    below = dim // num_tokens * num_tokens
    widths = [width for width in (below, below + num_tokens) if width]
    counts = nearest_divisors(dim, num_tokens)
    raise ValueError(
        "The width of a token must be divisible by the number of "
        f"{what}. Nearest legal widths for {num_tokens} {what}: "
        f"{widths}; nearest legal numbers of {what} for width {dim}: "
        f"{counts}. Received: {argument}={num_tokens}, dim={dim}"
    )
