import keras

from keras_unirec.layers._checks import built_shape
from keras_unirec.layers._residual import build_norm
from keras_unirec.layers._residual import check_norm
from keras_unirec.layers._residual import residual
from keras_unirec.layers.feed_forward._by_name import build_feed_forward
from keras_unirec.layers.feed_forward._by_name import check_feed_forward
from keras_unirec.layers.mixing._by_name import mixer_from_config
from keras_unirec.layers.mixing._by_name import resolve_mixer


@keras.saving.register_keras_serializable(package="keras_unirec")
class QueryBoosting(keras.layers.Layer):
    """Mixes decoded queries and feature tokens, refines each, adds them.

    `Q_boost = Q + PerTokenFFN(Mixer(Norm(Q)))`, where `Q` is the
    concatenation of the decoded queries and the non-sequential tokens: one
    residual around both steps, unlike `QueryMixer`, which has one around
    each. Without norm (the default) `Norm` is the identity.

    Args:
        hidden_dim: int. Hidden width of every feed-forward network.
        mixer: As in `QueryMixer`; `None` for no exchange between tokens.
            `HeadMixing(num_heads=H)` makes H tokens of width
            `num_tokens * dim / H`, to which the networks belong, and is
            reverted after them. Defaults to `"head_mixing"`.
        feed_forward: `"gelu"` (two matrices with biases) or `"swiglu"`.
            Defaults to `"gelu"`.
        norm: `None`, `"pre_rms"`, or `"post_layer"` for
            `LayerNorm(PerTokenFFN(Mixer(Q)) + Q)`. Defaults to `None`.

    Input shape:
        `(..., num_tokens, dim)`, queries first. Head mixing needs `num_tokens`
        to divide `dim`.

    Output shape:
        The input shape.

    Example:
    ```python
    boosting = keras_unirec.layers.QueryBoosting(hidden_dim=64)
    boosting(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 10-15.
    """

    def __init__(
        self,
        hidden_dim,
        mixer="head_mixing",
        feed_forward="gelu",
        norm=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_norm(norm)
        check_feed_forward(feed_forward)
        self.hidden_dim = hidden_dim
        self.mixer = resolve_mixer(mixer, self.dtype_policy)
        self.feed_forward = feed_forward
        self.norm = norm
        self.supports_masking = True

    def build(self, input_shape):
        mixed_shape = input_shape
        self._reverts = False
        if self.mixer is not None:
            mixed_shape = built_shape(self.mixer, input_shape, "mixer")
            self._reverts = mixed_shape != tuple(input_shape)
            if self._reverts and not hasattr(self.mixer, "revert"):
                raise ValueError(
                    "`mixer` must keep the shape of the tokens, or have a "
                    "method `revert`, as `HeadMixing` does. Received: "
                    f"mixer={self.mixer.name}, which turns "
                    f"{tuple(input_shape)} into {mixed_shape}"
                )
        self.network = build_feed_forward(
            self.feed_forward, self.hidden_dim, mixed_shape, self.dtype_policy
        )
        self.token_norm = build_norm(
            self.norm, input_shape, self.dtype_policy, "token_norm"
        )

    def call(self, inputs):
        def boost(tokens):
            if self.mixer is not None:
                tokens = self.mixer(tokens)
            tokens = self.network(tokens)
            if self._reverts:
                tokens = self.mixer.revert(tokens, inputs.shape[-2])
            return tokens

        return residual(inputs, boost, self.norm, self.token_norm)

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
        return super().from_config(mixer_from_config(config))
