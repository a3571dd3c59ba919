"""What reads histories, by name."""

from keras_unirec.layers.readers.decoding_reader import DecodingReader
from keras_unirec.layers.readers.din import DIN
from keras_unirec.layers.readers.head_cross_attention import HeadCrossAttention
from keras_unirec.layers.readers.mean_reader import MeanReader
from keras_unirec.layers.readers.query_decoding import QueryDecoding
from keras_unirec.layers.readers.target_attention import TargetAttention

# Layers that let tokens of a candidate read the events of one history.
READERS = {
    "head_cross_attention": HeadCrossAttention,
    "query_decoding": QueryDecoding,
}
# What a model that crosses features makes of all histories before.
HISTORY_READERS = {
    "mean": MeanReader,
    "decoding": DecodingReader,
    "din": DIN,
    "target_attention": TargetAttention,
}
