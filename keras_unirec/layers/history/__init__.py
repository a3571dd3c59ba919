from keras_unirec.layers.history.head_cross_attention import (
    HeadCrossAttention as HeadCrossAttention,
)
from keras_unirec.layers.history.head_key_value import (
    HeadKeyValue as HeadKeyValue,
)
from keras_unirec.layers.history.history_encoder import (
    HistoryEncoder as HistoryEncoder,
)
from keras_unirec.layers.history.history_key_value import (
    HistoryKeyValue as HistoryKeyValue,
)
from keras_unirec.layers.history.history_map import HistoryMap as HistoryMap
from keras_unirec.layers.history.history_mean import HistoryMean as HistoryMean
from keras_unirec.layers.history.token_merge import TokenMerge as TokenMerge
from keras_unirec.layers.history.transformer_encoder import (
    TransformerEncoder as TransformerEncoder,
)
