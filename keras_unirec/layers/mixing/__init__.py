from keras_unirec.layers.mixing.head_mixing import HeadMixing as HeadMixing
from keras_unirec.layers.mixing.query_mixer import QueryMixer as QueryMixer
from keras_unirec.layers.mixing.token_self_attention import (
    TokenSelfAttention as TokenSelfAttention,
)
