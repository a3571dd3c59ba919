"""The residual connection of a sublayer, in the two forms of the ablation."""

import keras

NORMS = ("pre_rms", "post_layer")


def check_norm(norm):
    if norm not in NORMS:
        raise ValueError(
            f"`norm` must be one of {NORMS}. Received: norm={norm}"
        )


def build_norm(norm, shape, dtype, name):
    """Returns the built normalization that `residual` takes."""
    if norm == "pre_rms":
        layer = keras.layers.RMSNormalization(dtype=dtype, name=name)
    else:
        layer = keras.layers.LayerNormalization(dtype=dtype, name=name)
    layer.build(shape)
    return layer


def residual(inputs, sublayer, norm, norm_layer):
    """`f(RMS(x)) + x` for `"pre_rms"`, `LN(f(x) + x)` for `"post_layer"`."""
    if norm == "pre_rms":
        return sublayer(norm_layer(inputs)) + inputs
    return norm_layer(sublayer(inputs) + inputs)
