"""From the embedded events of a history to what is read."""

from keras_unirec.layers.history.events import Events as Events
from keras_unirec.layers.history.history_encoder import (
    HistoryEncoder as HistoryEncoder,
)
from keras_unirec.layers.history.history_mean import HistoryMean as HistoryMean
from keras_unirec.layers.history.longer import Longer as Longer
from keras_unirec.layers.history.token_merge import TokenMerge as TokenMerge
from keras_unirec.layers.history.transformer_encoder import (
    TransformerEncoder as TransformerEncoder,
)
