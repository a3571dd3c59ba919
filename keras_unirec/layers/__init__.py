from keras_unirec.layers.embedding import BesideCandidates as BesideCandidates
from keras_unirec.layers.embedding import EmbeddingPooling as EmbeddingPooling
from keras_unirec.layers.embedding import FeatureEmbedding as FeatureEmbedding
from keras_unirec.layers.embedding import HistoryMerge as HistoryMerge
from keras_unirec.layers.embedding import LengthMask as LengthMask
from keras_unirec.layers.embedding import (
    NewestFirstPosition as NewestFirstPosition,
)
from keras_unirec.layers.embedding import RowEmbedding as RowEmbedding
from keras_unirec.layers.embedding import TimeGapBucket as TimeGapBucket
from keras_unirec.layers.embedding import concatenate as concatenate
from keras_unirec.layers.feature_tokenizer import (
    FeatureTokenizer as FeatureTokenizer,
)
from keras_unirec.layers.feed_forward import OutputFusion as OutputFusion
from keras_unirec.layers.feed_forward import PerTokenFFN as PerTokenFFN
from keras_unirec.layers.feed_forward import SwiGLU as SwiGLU
from keras_unirec.layers.history import HeadCrossAttention as HeadCrossAttention
from keras_unirec.layers.history import HeadKeyValue as HeadKeyValue
from keras_unirec.layers.history import HistoryEncoder as HistoryEncoder
from keras_unirec.layers.history import HistoryKeyValue as HistoryKeyValue
from keras_unirec.layers.history import HistoryMap as HistoryMap
from keras_unirec.layers.history import HistoryMean as HistoryMean
from keras_unirec.layers.history import TokenMerge as TokenMerge
from keras_unirec.layers.history import TransformerEncoder as TransformerEncoder
from keras_unirec.layers.mixing import (
    DecoupledHeadMixing as DecoupledHeadMixing,
)
from keras_unirec.layers.mixing import FMMixing as FMMixing
from keras_unirec.layers.mixing import HeadMixing as HeadMixing
from keras_unirec.layers.mixing import (
    HeterogeneousAttention as HeterogeneousAttention,
)
from keras_unirec.layers.mixing import QueryMixer as QueryMixer
from keras_unirec.layers.mixing import SiameseNorm as SiameseNorm
from keras_unirec.layers.mixing import TokenSelfAttention as TokenSelfAttention
from keras_unirec.layers.mixing import UniMixerBlock as UniMixerBlock
from keras_unirec.layers.mixing import UniMixing as UniMixing
from keras_unirec.layers.mixing import UniMixingLite as UniMixingLite
from keras_unirec.layers.query import QueryBoosting as QueryBoosting
from keras_unirec.layers.query import QueryDecoding as QueryDecoding
from keras_unirec.layers.query import QueryGeneration as QueryGeneration
