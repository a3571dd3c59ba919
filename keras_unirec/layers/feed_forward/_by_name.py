"""The feed-forward networks of tokens, by name."""

from keras_unirec.layers.feed_forward.per_token_ffn import PerTokenFFN
from keras_unirec.layers.feed_forward.swiglu import SwiGLU

FEED_FORWARDS = ("swiglu", "gelu")


def check_feed_forward(feed_forward, optional=False):
    legal = (*FEED_FORWARDS, None) if optional else FEED_FORWARDS
    if feed_forward not in legal:
        raise ValueError(
            f"`feed_forward` must be one of {legal}. "
            f"Received: feed_forward={feed_forward!r}"
        )


def build_feed_forward(feed_forward, hidden_dim, shape, dtype):
    """A built network for each token of `shape`, `(..., tokens, dim)`."""
    if feed_forward == "swiglu":
        layer = SwiGLU(
            hidden_dim, num_heads=shape[-2], dtype=dtype, name="feed_forward"
        )
    else:
        layer = PerTokenFFN(hidden_dim, dtype=dtype, name="feed_forward")
    layer.build(shape)
    return layer
