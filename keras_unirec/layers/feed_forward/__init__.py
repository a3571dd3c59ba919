from keras_unirec.layers.feed_forward.output_fusion import (
    OutputFusion as OutputFusion,
)
from keras_unirec.layers.feed_forward.swiglu import SwiGLU as SwiGLU
