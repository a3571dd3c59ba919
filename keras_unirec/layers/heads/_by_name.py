"""What reads the tokens of a candidate, and the towers, by name."""

from keras_unirec.layers.heads.concatenated_readout import ConcatenatedReadout
from keras_unirec.layers.heads.mean_readout import MeanReadout
from keras_unirec.layers.heads.tower import Tower

READOUTS = {"mean": MeanReadout, "concatenate": ConcatenatedReadout}
TOWERS = {"mlp": Tower}
