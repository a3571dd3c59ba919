"""From encoded columns to embedding vectors: the only layers near names."""

from keras_unirec.layers.embedding.beside_candidates import (
    BesideCandidates as BesideCandidates,
)
from keras_unirec.layers.embedding.embedding_pooling import (
    EmbeddingPooling as EmbeddingPooling,
)
from keras_unirec.layers.embedding.feature_embedding import (
    FeatureEmbedding as FeatureEmbedding,
)
from keras_unirec.layers.embedding.feature_embedding import (
    concatenate as concatenate,
)
from keras_unirec.layers.embedding.history_merge import (
    HistoryMerge as HistoryMerge,
)
from keras_unirec.layers.embedding.length_mask import LengthMask as LengthMask
from keras_unirec.layers.embedding.newest_first_position import (
    NewestFirstPosition as NewestFirstPosition,
)
from keras_unirec.layers.embedding.row_embedding import (
    RowEmbedding as RowEmbedding,
)
from keras_unirec.layers.embedding.time_gap_bucket import (
    TimeGapBucket as TimeGapBucket,
)
