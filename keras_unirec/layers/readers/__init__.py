"""What lets candidates read histories."""

from keras_unirec.layers.readers.decoding_reader import (
    DecodingReader as DecodingReader,
)
from keras_unirec.layers.readers.din import DIN as DIN
from keras_unirec.layers.readers.head_cross_attention import (
    HeadCrossAttention as HeadCrossAttention,
)
from keras_unirec.layers.readers.head_key_value import (
    HeadKeyValue as HeadKeyValue,
)
from keras_unirec.layers.readers.history_map import HistoryMap as HistoryMap
from keras_unirec.layers.readers.history_reader import (
    HistoryReader as HistoryReader,
)
from keras_unirec.layers.readers.local_activation import (
    LocalActivation as LocalActivation,
)
from keras_unirec.layers.readers.mean_reader import MeanReader as MeanReader
from keras_unirec.layers.readers.query_decoding import (
    QueryDecoding as QueryDecoding,
)
from keras_unirec.layers.readers.target_attention import (
    TargetAttention as TargetAttention,
)
