"""What crosses the features of a candidate, by name."""

from keras_unirec.layers.interaction.dcn import DCN
from keras_unirec.layers.interaction.one_trans_block import OneTransBlock

INTERACTIONS = {"dcn_v2": DCN}
BLOCKS = {"one_trans": OneTransBlock}
