"""From encoded columns to embedding vectors: the only layers near names."""

from keras_unirec.layers.embedding._columns import Column as Column
from keras_unirec.layers.embedding._columns import Columns as Columns
from keras_unirec.layers.embedding._columns import History as History
from keras_unirec.layers.embedding._columns import concatenate as concatenate
from keras_unirec.layers.embedding.embedding_pooling import (
    EmbeddingPooling as EmbeddingPooling,
)
from keras_unirec.layers.embedding.feature_embedding import (
    FeatureEmbedding as FeatureEmbedding,
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
