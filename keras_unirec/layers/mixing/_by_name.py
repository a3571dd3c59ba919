"""The token mixers, by name: one signature, `(..., tokens, dim)` to itself."""

import functools
import inspect

import keras

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_same_shape
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers.mixing.fm_mixing import FMMixing
from keras_unirec.layers.mixing.head_mixing import HeadMixing
from keras_unirec.layers.mixing.heterogeneous_attention import (
    HeterogeneousAttention,
)
from keras_unirec.layers.mixing.token_self_attention import TokenSelfAttention
from keras_unirec.layers.mixing.uni_mixing import UniMixing
from keras_unirec.layers.mixing.uni_mixing_lite import UniMixingLite

MIXERS = {
    "head_mixing": HeadMixing,
    "self_attention": TokenSelfAttention,
    "heterogeneous_attention": HeterogeneousAttention,
    "fm": FMMixing,
    "uni_mixing": UniMixing,
    "uni_mixing_lite": UniMixingLite,
    # `Identity` has a config only where its dtype is a string.
    "identity": functools.partial(keras.layers.Activation, "linear"),
}


def make_mixer(mixer, dtype):
    return _parts.make("mixer", mixer, MIXERS, dtype, True, shared=False)


def build_mixer(mixer, input_shape):
    """Builds a mixer whose output is added to its input."""
    check_tokens(input_shape)
    check_same_shape(
        mixer,
        input_shape,
        "mixer",
        " `QueryBoosting` can revert `HeadMixing` of another number of heads.",
    )


def takes_context(mixer):
    """Whether a mixer can read other tokens that do not change."""
    return (
        mixer is not None
        and "context" in inspect.signature(mixer.call).parameters
    )
