"""The residual connection of a sublayer, with the norms of the ablations."""

import keras

NORMS = ("pre_rms", "post_layer", None)
_KINDS = {
    "pre_rms": keras.layers.RMSNormalization,
    "post_layer": keras.layers.LayerNormalization,
}


def check_norm(norm, argument="norm"):
    if norm not in NORMS:
        raise ValueError(
            f"`{argument}` must be one of {NORMS}. Received: {argument}={norm}"
        )


def check_norms(norms, norm, names):
    """What another layer's `norms` must be, to be shared.

    Args:
        norms: None, or dict of normalization layers by name.
        norm: One of `NORMS`.
        names: Names of the normalizations that the layer has.
    """
    if norms is None:
        return
    kind = _KINDS.get(norm, type(None))
    if (
        not isinstance(norms, dict)
        or not set(norms) <= set(names)
        or not all(isinstance(layer, kind) for layer in norms.values())
    ):
        raise ValueError(
            "`norms` must be those of a layer like this one, with the same "
            f"`norm`: a dict of `{kind.__name__}` layers by the names {names}. "
            f"Received: norm={norm!r}, norms={norms!r}"
        )


def with_norms(config):
    """Replaces the configs of `norms` by layers, in a copy."""
    norms = keras.saving.deserialize_keras_object(config.get("norms"))
    return {**config, "norms": norms}


def build_norm(norm, shape, dtype, name, norms=None):
    """Returns the built normalization that `residual` takes.

    Args:
        norm: One of `NORMS`.
        shape: tuple. Its last axis is normalized.
        dtype: Dtype policy.
        name: str.
        norms: None, or dict with the layer to share under this name.
    """
    if norm is None:
        return None
    layer = (norms or {}).get(name)
    if layer is None:
        layer = _KINDS[norm](dtype=dtype, name=name)
    if not layer.built:
        layer.build(shape)
    return layer


def residual(inputs, sublayer, norm, norm_layer):
    """`f(RMS(x)) + x`, `LN(f(x) + x)`, or, without norm, `f(x) + x`."""
    if norm == "pre_rms":
        return sublayer(norm_layer(inputs)) + inputs
    outputs = sublayer(inputs) + inputs
    return outputs if norm is None else norm_layer(outputs)
