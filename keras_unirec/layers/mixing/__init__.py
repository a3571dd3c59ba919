from keras_unirec.layers.mixing.decoupled_head_mixing import (
    DecoupledHeadMixing as DecoupledHeadMixing,
)
from keras_unirec.layers.mixing.fm_mixing import FMMixing as FMMixing
from keras_unirec.layers.mixing.head_mixing import HeadMixing as HeadMixing
from keras_unirec.layers.mixing.heterogeneous_attention import (
    HeterogeneousAttention as HeterogeneousAttention,
)
from keras_unirec.layers.mixing.query_boosting import (
    QueryBoosting as QueryBoosting,
)
from keras_unirec.layers.mixing.query_mixer import QueryMixer as QueryMixer
from keras_unirec.layers.mixing.token_self_attention import (
    TokenSelfAttention as TokenSelfAttention,
)
from keras_unirec.layers.mixing.uni_mixer_block import (
    UniMixerBlock as UniMixerBlock,
)
from keras_unirec.layers.mixing.uni_mixing import UniMixing as UniMixing
from keras_unirec.layers.mixing.uni_mixing_lite import (
    UniMixingLite as UniMixingLite,
)
