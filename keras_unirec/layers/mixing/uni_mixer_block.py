import keras

from keras_unirec.layers._checks import check_tokens
from keras_unirec.layers.feed_forward._by_name import build_feed_forward
from keras_unirec.layers.feed_forward._by_name import check_feed_forward
from keras_unirec.layers.mixing._by_name import build_mixer
from keras_unirec.layers.mixing._by_name import mixer_from_config
from keras_unirec.layers.mixing._by_name import resolve_mixer


@keras.saving.register_keras_serializable(package="keras_unirec")
class UniMixerBlock(keras.layers.Layer):
    """Mixes the tokens, then transforms each: `pSwiGLU(RMS(U + Mix(U)))`.

    There is no residual around the network: what the block returns is added
    to the residual streams of `SiameseNorm`.

    Args:
        hidden_dim: int. Hidden width of the network of every token.
        mixer: As in `QueryMixer`; `None` leaves `pSwiGLU(U)`. Defaults to
            `"uni_mixing"`.
        feed_forward: `"swiglu"` (no biases) or `"gelu"` (two matrices with
            biases). Defaults to `"swiglu"`.

    Input shape:
        `(..., num_tokens, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    block = keras_unirec.layers.UniMixerBlock(hidden_dim=64)
    block(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [UniMixer, 2026](https://arxiv.org/abs/2604.00590), eq. 16-19.
    """

    def __init__(
        self, hidden_dim, mixer="uni_mixing", feed_forward="swiglu", **kwargs
    ):
        super().__init__(**kwargs)
        check_feed_forward(feed_forward)
        self.hidden_dim = hidden_dim
        self.mixer = resolve_mixer(mixer, self.dtype_policy)
        self.feed_forward = feed_forward
        self.supports_masking = True

    def build(self, input_shape):
        check_tokens(input_shape)
        if self.mixer is not None:
            build_mixer(self.mixer, input_shape)
            self.mixer_norm = keras.layers.RMSNormalization(
                dtype=self.dtype_policy, name="mixer_norm"
            )
            self.mixer_norm.build(input_shape)
        self.network = build_feed_forward(
            self.feed_forward, self.hidden_dim, input_shape, self.dtype_policy
        )

    def call(self, inputs):
        tokens = inputs
        if self.mixer is not None:
            tokens = self.mixer_norm(tokens + self.mixer(tokens))
        return self.network(tokens)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["hidden_dim"] = self.hidden_dim
        config["mixer"] = keras.saving.serialize_keras_object(self.mixer)
        config["feed_forward"] = self.feed_forward
        return config

    @classmethod
    def from_config(cls, config):
        return super().from_config(mixer_from_config(config))
