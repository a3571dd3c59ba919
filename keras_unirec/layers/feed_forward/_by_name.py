"""The feed-forward networks of tokens, by name."""

import functools

from keras_unirec.layers import _parts
from keras_unirec.layers.feed_forward.per_token_ffn import PerTokenFFN
from keras_unirec.layers.feed_forward.swiglu import SwiGLU

FEED_FORWARDS = {
    "swiglu": functools.partial(SwiGLU, per_token=True),
    "gelu": PerTokenFFN,
}


def make_feed_forward(feed_forward, dtype, optional=False):
    return _parts.make(
        "feed_forward",
        feed_forward,
        FEED_FORWARDS,
        dtype,
        optional,
        shared=False,
    )


def is_per_token(network):
    """Whether each token has a network of its own."""
    if isinstance(network, PerTokenFFN):
        return not network.shared
    return getattr(network, "per_token", False)
