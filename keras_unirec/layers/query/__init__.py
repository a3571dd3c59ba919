from keras_unirec.layers.query.query_boosting import (
    QueryBoosting as QueryBoosting,
)
from keras_unirec.layers.query.query_decoding import (
    QueryDecoding as QueryDecoding,
)
from keras_unirec.layers.query.query_generation import (
    QueryGeneration as QueryGeneration,
)
