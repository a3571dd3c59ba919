from keras_unirec.layers.history.head_cross_attention import (
    HeadCrossAttention as HeadCrossAttention,
)
from keras_unirec.layers.history.history_encoder import (
    HistoryEncoder as HistoryEncoder,
)
from keras_unirec.layers.history.history_map import HistoryMap as HistoryMap
