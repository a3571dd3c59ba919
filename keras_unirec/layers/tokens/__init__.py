"""From columns to the tokens and queries of a candidate."""

from keras_unirec.layers.tokens.beside_candidates import (
    BesideCandidates as BesideCandidates,
)
from keras_unirec.layers.tokens.feature_tokenizer import (
    FeatureTokenizer as FeatureTokenizer,
)
from keras_unirec.layers.tokens.projected_tokenizer import (
    ProjectedTokenizer as ProjectedTokenizer,
)
from keras_unirec.layers.tokens.query_generation import (
    QueryGeneration as QueryGeneration,
)
