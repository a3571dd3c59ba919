"""How the sublayers of a model are joined."""

from keras_unirec.layers.residual.no_norm import NoNorm as NoNorm
from keras_unirec.layers.residual.post_norm import PostNorm as PostNorm
from keras_unirec.layers.residual.pre_norm import PreNorm as PreNorm
from keras_unirec.layers.residual.residual_scheme import (
    ResidualScheme as ResidualScheme,
)
from keras_unirec.layers.residual.siamese_norm import SiameseNorm as SiameseNorm
