from keras_unirec.layers.feed_forward.output_fusion import (
    OutputFusion as OutputFusion,
)
from keras_unirec.layers.feed_forward.per_token_ffn import (
    PerTokenFFN as PerTokenFFN,
)
from keras_unirec.layers.feed_forward.swiglu import SwiGLU as SwiGLU
