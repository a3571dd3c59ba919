"""What makes tokens and queries, by name."""

from keras_unirec.layers.tokens.feature_tokenizer import FeatureTokenizer
from keras_unirec.layers.tokens.projected_tokenizer import ProjectedTokenizer
from keras_unirec.layers.tokens.query_generation import QueryGeneration

TOKENIZERS = {"even": FeatureTokenizer, "projected": ProjectedTokenizer}
QUERIES = {"query_generation": QueryGeneration}
