"""What crosses the features of a candidate, as one vector or as tokens."""

from keras_unirec.layers.interaction.dcn import DCN as DCN
from keras_unirec.layers.interaction.one_trans_block import (
    OneTransBlock as OneTransBlock,
)
