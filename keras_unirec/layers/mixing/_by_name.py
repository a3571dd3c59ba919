"""The token mixers, by name: one signature, `(..., tokens, dim)` to itself."""

import inspect

import keras

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
    "identity": keras.layers.Activation,
}


def check_mixer(mixer):
    if mixer is None or isinstance(mixer, keras.layers.Layer):
        return
    if not isinstance(mixer, str) or mixer not in MIXERS:
        raise ValueError(
            f"`mixer` must be one of {(*MIXERS, None)}, or a layer (an "
            "instance, not a class). "
            f"Received: mixer={mixer!r}"
        )


def resolve_mixer(mixer, dtype, num_heads=None, **options):
    """A new layer for a name, a layer as it is, None for None.

    Args:
        mixer: A key of `MIXERS`, a layer, or None.
        dtype: Dtype policy of a new layer.
        num_heads: Optional int, for the mixers by attention.
        **options: Arguments of the mixer. None stands for its default.

    Raises:
        ValueError: If there is no such mixer, or it has no such argument.
    """
    check_mixer(mixer)
    options = {k: value for k, value in options.items() if value is not None}
    if not isinstance(mixer, str):
        cls, legal = None, ()
    else:
        cls = MIXERS[mixer]
        legal = _arguments(cls)
    for name in options:
        if name not in legal:
            able = [key for key in MIXERS if name in _arguments(MIXERS[key])]
            raise ValueError(
                f"`{name}` is an argument of the mixers {able}. A mixer that "
                "is a layer has its arguments already. Received: "
                f"mixer={mixer!r}, {name}={options[name]!r}"
            )
    if cls is None:
        return mixer
    if mixer == "identity":
        options["activation"] = "linear"
    elif num_heads is not None and mixer.endswith("_attention"):
        options["num_heads"] = num_heads
    return cls(**options, dtype=dtype, name="mixer")


def build_mixer(mixer, input_shape):
    """Builds a mixer whose output is added to its input."""
    check_tokens(input_shape)
    check_same_shape(
        mixer,
        input_shape,
        "mixer",
        " `QueryBoosting` can revert `HeadMixing` of another number of heads.",
    )


def mixer_with(argument):
    """Name of the first mixer class that has an argument, or None."""
    for cls in MIXERS.values():
        if argument in _arguments(cls):
            return cls.__name__
    return None


def _arguments(cls):
    """Names of all arguments, those of the bases too."""
    return {
        name
        for base in cls.__mro__
        if base.__module__.startswith("keras_unirec")
        for name in inspect.signature(base.__init__).parameters
    } - {"self", "kwargs"}


def mixer_from_config(config):
    """Replaces the config of the mixer by the layer, in a copy."""
    return {
        **config,
        "mixer": keras.saving.deserialize_keras_object(config.get("mixer")),
    }
