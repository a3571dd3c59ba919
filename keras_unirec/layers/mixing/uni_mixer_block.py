import keras
from keras import ops

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_same_shape
from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers.feed_forward._by_name import make_feed_forward
from keras_unirec.layers.mixing._by_name import build_mixer
from keras_unirec.layers.mixing._by_name import make_mixer


@keras.saving.register_keras_serializable(package="keras_unirec")
class UniMixerBlock(_parts.Composite):
    """Mixes the tokens, then transforms each: `pSwiGLU(RMS(U + Mix(U)))`.

    There is no residual around the network: what the block returns is added
    to the residual streams of `SiameseNorm`.

    Args:
        mixer: As in `QueryMixer`; `None` leaves `pSwiGLU(U)`. Defaults to
            `"uni_mixing"`.
        feed_forward: `"swiglu"` (no biases), `"gelu"` (two matrices with
            biases), or a layer. Defaults to `"swiglu"`.

    Input shape:
        `(..., num_tokens, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    block = keras_unirec.layers.UniMixerBlock(mixer="uni_mixing_lite")
    block(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [UniMixer, 2026](https://arxiv.org/abs/2604.00590), eq. 16-19.
    """

    parts = ("mixer", "feed_forward")

    def __init__(self, mixer="uni_mixing", feed_forward="swiglu", **kwargs):
        super().__init__(**kwargs)
        self.mixer = make_mixer(mixer, self.dtype_policy)
        self.feed_forward = make_feed_forward(feed_forward, self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape):
        check_tokens(input_shape)
        if self.mixer is not None:
            build_mixer(self.mixer, input_shape)
            self.mixer_norm = keras.layers.RMSNormalization(
                dtype=self.dtype_policy, name="mixer_norm"
            )
            self.mixer_norm.build(input_shape)
        check_same_shape(self.feed_forward, input_shape, "feed_forward")

    def call(self, inputs):
        tokens = inputs
        if self.mixer is not None:
            # A part may have a dtype policy of its own.
            mixed = ops.cast(self.mixer(tokens), tokens.dtype)
            tokens = self.mixer_norm(tokens + mixed)
        return ops.cast(self.feed_forward(tokens), inputs.dtype)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)
