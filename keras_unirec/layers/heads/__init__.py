"""From the tokens of a candidate to the outputs."""

from keras_unirec.layers.heads.concatenated_readout import (
    ConcatenatedReadout as ConcatenatedReadout,
)
from keras_unirec.layers.heads.mean_readout import MeanReadout as MeanReadout
from keras_unirec.layers.heads.tower import Tower as Tower
