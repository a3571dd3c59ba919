"""The parts of the models: layers on tokens, histories and columns."""

from keras_unirec.layers._parts import Shared as Shared
from keras_unirec.layers.embedding import Column as Column
from keras_unirec.layers.embedding import Columns as Columns
from keras_unirec.layers.embedding import EmbeddingPooling as EmbeddingPooling
from keras_unirec.layers.embedding import FeatureEmbedding as FeatureEmbedding
from keras_unirec.layers.embedding import History as History
from keras_unirec.layers.embedding import HistoryMerge as HistoryMerge
from keras_unirec.layers.embedding import LengthMask as LengthMask
from keras_unirec.layers.embedding import (
    NewestFirstPosition as NewestFirstPosition,
)
from keras_unirec.layers.embedding import RowEmbedding as RowEmbedding
from keras_unirec.layers.embedding import TimeGapBucket as TimeGapBucket
from keras_unirec.layers.embedding import concatenate as concatenate
from keras_unirec.layers.feed_forward import OutputFusion as OutputFusion
from keras_unirec.layers.feed_forward import PerTokenFFN as PerTokenFFN
from keras_unirec.layers.feed_forward import SwiGLU as SwiGLU
from keras_unirec.layers.heads import ConcatenatedReadout as ConcatenatedReadout
from keras_unirec.layers.heads import MeanReadout as MeanReadout
from keras_unirec.layers.heads import Tower as Tower
from keras_unirec.layers.history import Events as Events
from keras_unirec.layers.history import HistoryEncoder as HistoryEncoder
from keras_unirec.layers.history import HistoryMean as HistoryMean
from keras_unirec.layers.history import Longer as Longer
from keras_unirec.layers.history import TokenMerge as TokenMerge
from keras_unirec.layers.history import TransformerEncoder as TransformerEncoder
from keras_unirec.layers.interaction import DCN as DCN
from keras_unirec.layers.interaction import OneTransBlock as OneTransBlock
from keras_unirec.layers.mixing import (
    DecoupledHeadMixing as DecoupledHeadMixing,
)
from keras_unirec.layers.mixing import FMMixing as FMMixing
from keras_unirec.layers.mixing import HeadMixing as HeadMixing
from keras_unirec.layers.mixing import (
    HeterogeneousAttention as HeterogeneousAttention,
)
from keras_unirec.layers.mixing import QueryBoosting as QueryBoosting
from keras_unirec.layers.mixing import QueryMixer as QueryMixer
from keras_unirec.layers.mixing import TokenSelfAttention as TokenSelfAttention
from keras_unirec.layers.mixing import UniMixerBlock as UniMixerBlock
from keras_unirec.layers.mixing import UniMixing as UniMixing
from keras_unirec.layers.mixing import UniMixingLite as UniMixingLite
from keras_unirec.layers.readers import DIN as DIN
from keras_unirec.layers.readers import DecodingReader as DecodingReader
from keras_unirec.layers.readers import HeadCrossAttention as HeadCrossAttention
from keras_unirec.layers.readers import HeadKeyValue as HeadKeyValue
from keras_unirec.layers.readers import HistoryMap as HistoryMap
from keras_unirec.layers.readers import HistoryReader as HistoryReader
from keras_unirec.layers.readers import LocalActivation as LocalActivation
from keras_unirec.layers.readers import MeanReader as MeanReader
from keras_unirec.layers.readers import QueryDecoding as QueryDecoding
from keras_unirec.layers.readers import TargetAttention as TargetAttention
from keras_unirec.layers.residual import NoNorm as NoNorm
from keras_unirec.layers.residual import PostNorm as PostNorm
from keras_unirec.layers.residual import PreNorm as PreNorm
from keras_unirec.layers.residual import ResidualScheme as ResidualScheme
from keras_unirec.layers.residual import SiameseNorm as SiameseNorm
from keras_unirec.layers.tokens import BesideCandidates as BesideCandidates
from keras_unirec.layers.tokens import FeatureTokenizer as FeatureTokenizer
from keras_unirec.layers.tokens import ProjectedTokenizer as ProjectedTokenizer
from keras_unirec.layers.tokens import QueryGeneration as QueryGeneration
