"""The residual connection of a sublayer, with the norms of the ablations."""

import keras

NORMS = ("pre_rms", "post_layer", None)


def check_norm(norm, argument="norm"):
    if norm not in NORMS:
        raise ValueError(
            f"`{argument}` must be one of {NORMS}. Received: {argument}={norm}"
        )


def build_norm(norm, shape, dtype, name):
    """Returns the built normalization that `residual` takes."""
    if norm is None:
        return None
    if norm == "pre_rms":
        layer = keras.layers.RMSNormalization(dtype=dtype, name=name)
    else:
        layer = keras.layers.LayerNormalization(dtype=dtype, name=name)
    layer.build(shape)
    return layer


def residual(inputs, sublayer, norm, norm_layer):
    """`f(RMS(x)) + x`, `LN(f(x) + x)`, or, without norm, `f(x) + x`."""
    if norm == "pre_rms":
        return sublayer(norm_layer(inputs)) + inputs
    outputs = sublayer(inputs) + inputs
    return outputs if norm is None else norm_layer(outputs)
