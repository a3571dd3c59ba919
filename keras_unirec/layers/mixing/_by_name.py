"""What stands for a token mixer in the config of a layer."""

import keras

from keras_unirec.layers.mixing.head_mixing import HeadMixing


def resolve_mixer(mixer, dtype):
    """The layer that `"head_mixing"` names; a layer or None as it is."""
    if not isinstance(mixer, str):
        return mixer
    if mixer != "head_mixing":
        raise ValueError(
            '`mixer` must be "head_mixing", a layer or None. '
            f"Received: mixer={mixer}"
        )
    return HeadMixing(dtype=dtype, name="mixer")


def mixer_from_config(config):
    """Replaces the config of the mixer by the layer, in a copy."""
    return {
        **config,
        "mixer": keras.saving.deserialize_keras_object(config.get("mixer")),
    }
