import keras

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import built_shape
from keras_unirec.layers._checks import check_same_shape
from keras_unirec.layers.feed_forward._by_name import make_feed_forward
from keras_unirec.layers.mixing._by_name import make_mixer
from keras_unirec.layers.residual._by_name import make_residual


@keras.saving.register_keras_serializable(package="keras_unirec")
class QueryBoosting(_parts.Composite):
    """Mixes decoded queries and feature tokens, refines each, adds them.

    `Q_boost = Q + PerTokenFFN(Mixer(Norm(Q)))`, where `Q` is the
    concatenation of the decoded queries and the non-sequential tokens: one
    residual around both steps, unlike `QueryMixer`, which has one around
    each. Without norm (the default) `Norm` is the identity.

    Args:
        mixer: As in `QueryMixer`; `None` for no exchange between tokens.
            `HeadMixing(num_heads=H)` makes H tokens of width
            `num_tokens * dim / H`, to which the networks belong, and is
            reverted after them. Defaults to `"head_mixing"`.
        feed_forward: `"gelu"` (two matrices with biases), `"swiglu"`, or a
            layer. Defaults to `"gelu"`.
        residual: `"no_norm"`, `"pre_rms"`, `"post_layer"` for
            `LayerNorm(PerTokenFFN(Mixer(Q)) + Q)`, or another residual scheme.
            Defaults to `"no_norm"`.

    Input shape:
        `(..., num_tokens, dim)`, queries first. Head mixing needs `num_tokens`
        to divide `dim`.

    Output shape:
        The input shape.

    Example:
    ```python
    boosting = keras_unirec.layers.QueryBoosting(feed_forward="swiglu")
    boosting(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 10-15.
    """

    parts = ("mixer", "feed_forward", "residual")

    def __init__(
        self,
        mixer="head_mixing",
        feed_forward="gelu",
        residual="no_norm",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.mixer = make_mixer(mixer, self.dtype_policy)
        self.feed_forward = make_feed_forward(feed_forward, self.dtype_policy)
        self.residual = make_residual(residual, self.dtype_policy)
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
        check_same_shape(self.feed_forward, mixed_shape, "feed_forward")
        self.residual.build_steps(input_shape, ["token"])

    def call(self, inputs):
        def boost(tokens):
            if self.mixer is not None:
                tokens = self.mixer(tokens)
            tokens = self.feed_forward(tokens)
            if self._reverts:
                tokens = self.mixer.revert(tokens, inputs.shape[-2])
            return tokens

        return self.residual.apply(inputs, boost, names=["token"])

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)
