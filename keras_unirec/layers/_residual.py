"""The residual connection of a sublayer, with the norms of the ablations."""

import keras

NORMS = ("pre_rms", "post_layer", None)


def check_norm(norm, argument="norm"):
    if norm not in NORMS:
        raise ValueError(
            f"`{argument}` must be one of {NORMS}. Received: {argument}={norm}"
        )


def check_norms_of(norms_of, cls):
    if norms_of is not None and not isinstance(norms_of, cls):
        raise ValueError(
            f"`norms_of` must be a `{cls.__name__}`. "
            f"Received: norms_of={norms_of!r}"
        )


def with_norms_of(config):
    """Replaces the config of `norms_of` by the layer, in a copy."""
    norms_of = keras.saving.deserialize_keras_object(config.get("norms_of"))
    return {**config, "norms_of": norms_of}


def build_norm(norm, shape, dtype, name, norms_of=None):
    """Returns the built normalization that `residual` takes.

    Args:
        norm: One of `NORMS`.
        shape: tuple. Its last axis is normalized.
        dtype: Dtype policy.
        name: str.
        norms_of: Optional layer whose normalization of that name is shared.
    """
    if norm is None:
        return None
    if norms_of is not None:
        for layer in norms_of._flatten_layers(recursive=False):
            if layer.name == name and norms_of.norm == norm:
                return layer
        raise ValueError(
            f"`norms_of` must be built and have a `{name}` of the same kind, "
            f"{norm!r}. Received: {norms_of.name!r}, norm={norms_of.norm!r}"
        )
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
