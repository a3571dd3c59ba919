import functools

import keras

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_same_shape
from keras_unirec.layers.feed_forward._by_name import make_feed_forward
from keras_unirec.layers.mixing._by_name import build_mixer
from keras_unirec.layers.mixing._by_name import make_mixer
from keras_unirec.layers.mixing._by_name import takes_context
from keras_unirec.layers.residual._by_name import make_residual


@keras.saving.register_keras_serializable(package="keras_unirec")
class QueryMixer(_parts.Composite):
    """Mixes the tokens, then refines each with its own feed-forward network.

    `P = Mixer(Norm(X)) + X` and `q_i = FFN_i(Norm(p_i)) + p_i`, where the
    weights of `FFN_i` belong to token `i`.

    Args:
        mixer: `"head_mixing"`, `"self_attention"`,
            `"heterogeneous_attention"`, `"fm"`, `"uni_mixing"`,
            `"uni_mixing_lite"`, `"identity"`, a layer that maps
            `(..., num_tokens, dim)` to the same shape, or `None`, which
            removes the first sublayer, so that `P = X`. Defaults to
            `"head_mixing"`.
        feed_forward: `"swiglu"`, `"gelu"` (two matrices with biases), a layer,
            or `None`, which removes the second sublayer. Defaults to
            `"swiglu"`.
        residual: `"pre_rms"` for `f(RMS(x)) + x`, `"post_layer"` for
            `LayerNorm(f(x) + x)`, or another residual scheme; with `context`
            one of a single stream. Two layers that are given the same scheme,
            or mixer, share it. Defaults to `"pre_rms"`.

    Call arguments:
        inputs: Tensor of shape `(..., num_tokens, dim)`.
        context: Optional tensor of shape `(..., num_others, dim)`: tokens that
            are mixed into these and do not change, for a mixer that takes
            them (`DecoupledHeadMixing`, `TokenSelfAttention`).

    Output shape:
        That of `inputs`.

    Example:
    ```python
    network = keras_unirec.layers.SwiGLU(64, per_token=True)
    mixer = keras_unirec.layers.QueryMixer(feed_forward=network)
    mixer(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 3-4.
    """

    parts = ("mixer", "feed_forward", "residual")

    def __init__(
        self,
        mixer="head_mixing",
        feed_forward="swiglu",
        residual="pre_rms",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.mixer = make_mixer(mixer, self.dtype_policy)
        self.feed_forward = make_feed_forward(
            feed_forward, self.dtype_policy, optional=True
        )
        self.residual = make_residual(residual, self.dtype_policy)
        self.supports_masking = True

    def build(self, inputs_shape, context_shape=None):
        if self.mixer is not None:
            build_mixer(self.mixer, inputs_shape)
        if self.feed_forward is not None:
            check_same_shape(self.feed_forward, inputs_shape, "feed_forward")
        self.residual.build_steps(inputs_shape, self._sublayers())

    def _sublayers(self):
        sublayers = {"mixer": self.mixer, "feed_forward": self.feed_forward}
        return {k: layer for k, layer in sublayers.items() if layer is not None}

    def call(self, inputs, context=None):
        sublayers = self._sublayers()
        if context is not None and self.mixer is not None:
            sublayers["mixer"] = self._with(context)
        return self.residual.apply(
            inputs, *sublayers.values(), names=sublayers.keys()
        )

    def _with(self, context):
        """The mixer, which reads the context as it reads the tokens."""
        if not takes_context(self.mixer):
            raise ValueError(
                "`context` is for a mixer whose call has it, "
                "`DecoupledHeadMixing` or `TokenSelfAttention`. "
                f"Received: mixer={type(self.mixer).__name__}"
            )
        if self.residual.num_streams > 1:
            raise ValueError(
                "`context` needs a residual scheme of one stream: another "
                "side has gone through the steps of its own. Received: "
                f"residual={type(self.residual).__name__}"
            )
        streams = self.residual.start(context)
        return functools.partial(
            self.mixer, context=self.residual.read(streams, "mixer")
        )

    def compute_mask(self, inputs, context=None, mask=None):
        return None

    def compute_output_shape(self, inputs_shape, context_shape=None):
        return tuple(inputs_shape)
