"""The residual schemes, by name."""

import functools

from keras_unirec.layers import _parts
from keras_unirec.layers.residual.no_norm import NoNorm
from keras_unirec.layers.residual.post_norm import PostNorm
from keras_unirec.layers.residual.pre_norm import PreNorm
from keras_unirec.layers.residual.siamese_norm import SiameseNorm

RESIDUALS = {
    "pre_rms": PreNorm,
    "post_layer": PostNorm,
    "post_rms": functools.partial(PostNorm, "rms"),
    "no_norm": NoNorm,
    "none": functools.partial(NoNorm, residual=False),
    "siamese": SiameseNorm,
}


def make_residual(residual, dtype, optional=False):
    return _parts.make(
        "residual",
        residual,
        RESIDUALS,
        dtype,
        optional,
        shared=False,
        needs=("start", "step", "finish", "build_steps"),
    )
