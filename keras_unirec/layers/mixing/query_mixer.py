import keras

from keras_unirec.layers._residual import build_norm
from keras_unirec.layers._residual import check_norm
from keras_unirec.layers._residual import residual
from keras_unirec.layers.feed_forward.swiglu import SwiGLU
from keras_unirec.layers.mixing.head_mixing import HeadMixing


@keras.saving.register_keras_serializable(package="keras_unirec")
class QueryMixer(keras.layers.Layer):
    """Mixes the tokens, then refines each with its own feed-forward network.

    `P = Mixer(Norm(X)) + X` and `q_i = SwiGLU_i(Norm(p_i)) + p_i`, where the
    weights of `SwiGLU_i` belong to token `i`.

    Args:
        hidden_dim: int. Hidden width of every feed-forward network.
        mixer: `"head_mixing"`, a layer that maps `(..., num_tokens, dim)` to
            the same shape, or `None`, which removes the first sublayer, so
            that `P = X`. Defaults to `"head_mixing"`.
        feed_forward: bool. `False` removes the second sublayer. Defaults to
            `True`.
        norm: `"pre_rms"` for `f(RMS(x)) + x`, or `"post_layer"` for
            `LayerNorm(f(x) + x)`. Defaults to `"pre_rms"`.

    Input shape:
        `(..., num_tokens, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    mixer = keras_unirec.layers.QueryMixer(hidden_dim=64)
    mixer(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 3-4.
    """

    def __init__(
        self,
        hidden_dim,
        mixer="head_mixing",
        feed_forward=True,
        norm="pre_rms",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_norm(norm)
        if isinstance(mixer, str):
            if mixer != "head_mixing":
                raise ValueError(
                    '`mixer` must be "head_mixing", a layer or None. '
                    f"Received: mixer={mixer}"
                )
            mixer = HeadMixing(dtype=self.dtype_policy, name="mixer")
        self.hidden_dim = hidden_dim
        self.mixer = mixer
        self.feed_forward = feed_forward
        self.norm = norm
        self.supports_masking = True

    def build(self, input_shape):
        if self.mixer is not None:
            if not self.mixer.built:
                self.mixer.build(input_shape)
            self.mixer_norm = build_norm(
                self.norm, input_shape, self.dtype_policy, "mixer_norm"
            )
        if self.feed_forward:
            self.swiglu = SwiGLU(
                self.hidden_dim,
                num_heads=input_shape[-2],
                dtype=self.dtype_policy,
                name="feed_forward",
            )
            self.swiglu.build(input_shape)
            self.swiglu_norm = build_norm(
                self.norm, input_shape, self.dtype_policy, "feed_forward_norm"
            )

    def call(self, inputs):
        tokens = inputs
        if self.mixer is not None:
            tokens = residual(tokens, self.mixer, self.norm, self.mixer_norm)
        if self.feed_forward:
            tokens = residual(tokens, self.swiglu, self.norm, self.swiglu_norm)
        return tokens

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["hidden_dim"] = self.hidden_dim
        config["mixer"] = keras.saving.serialize_keras_object(self.mixer)
        config["feed_forward"] = self.feed_forward
        config["norm"] = self.norm
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["mixer"] = keras.saving.deserialize_keras_object(
            config.get("mixer")
        )
        return super().from_config(config)
