from keras_unirec.layers.feature_tokenizer import (
    FeatureTokenizer as FeatureTokenizer,
)
from keras_unirec.layers.feed_forward import OutputFusion as OutputFusion
from keras_unirec.layers.feed_forward import SwiGLU as SwiGLU
from keras_unirec.layers.history import HeadCrossAttention as HeadCrossAttention
from keras_unirec.layers.history import HistoryEncoder as HistoryEncoder
from keras_unirec.layers.history import HistoryMap as HistoryMap
from keras_unirec.layers.mixing import HeadMixing as HeadMixing
from keras_unirec.layers.mixing import QueryMixer as QueryMixer
from keras_unirec.layers.mixing import TokenSelfAttention as TokenSelfAttention
