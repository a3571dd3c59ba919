import functools
import inspect

import keras

from keras_unirec.layers._residual import build_norm
from keras_unirec.layers._residual import check_norm
from keras_unirec.layers._residual import check_norms
from keras_unirec.layers._residual import residual
from keras_unirec.layers._residual import with_norms
from keras_unirec.layers.feed_forward._by_name import build_feed_forward
from keras_unirec.layers.feed_forward._by_name import check_feed_forward
from keras_unirec.layers.mixing._by_name import build_mixer
from keras_unirec.layers.mixing._by_name import mixer_from_config
from keras_unirec.layers.mixing._by_name import resolve_mixer


@keras.saving.register_keras_serializable(package="keras_unirec")
class QueryMixer(keras.layers.Layer):
    """Mixes the tokens, then refines each with its own feed-forward network.

    `P = Mixer(Norm(X)) + X` and `q_i = FFN_i(Norm(p_i)) + p_i`, where the
    weights of `FFN_i` belong to token `i`. The defaults are the Query Mixer of
    MixFormer; `feed_forward="gelu"` with `norm="post_layer"` is the block of
    RankMixer.

    Args:
        hidden_dim: int. Hidden width of every feed-forward network.
        mixer: `"head_mixing"`, `"self_attention"`,
            `"heterogeneous_attention"`, `"fm"`, `"uni_mixing"`,
            `"uni_mixing_lite"`, `"identity"`, a layer that maps
            `(..., num_tokens, dim)` to the same shape, or `None`, which
            removes the first sublayer, so that `P = X`. Defaults to
            `"head_mixing"`.
        feed_forward: `"swiglu"`, `"gelu"` (two matrices with biases), or
            `None`, which removes the second sublayer. Defaults to `"swiglu"`.
        norm: `"pre_rms"` for `f(RMS(x)) + x`, `"post_layer"` for
            `LayerNorm(f(x) + x)`, or `None`. Defaults to `"pre_rms"`.
        norms: Optional dict, the `norms` of another `QueryMixer`, to share
            them: the two work on tokens of the same stream, each with networks
            of its own. Defaults to `None`: its own.

    Call arguments:
        inputs: Tensor of shape `(..., num_tokens, dim)`.
        context: Optional tensor of shape `(..., num_others, dim)`: tokens that
            are mixed into these and do not change, for a mixer that takes
            them (`DecoupledHeadMixing`, `TokenSelfAttention`).

    Output shape:
        That of `inputs`.

    Example:
    ```python
    mixer = keras_unirec.layers.QueryMixer(hidden_dim=64)
    mixer(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 3-4;
    [RankMixer, 2025](https://arxiv.org/abs/2507.15551)
    """

    def __init__(
        self,
        hidden_dim,
        mixer="head_mixing",
        feed_forward="swiglu",
        norm="pre_rms",
        norms=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_norm(norm)
        check_norms(norms, norm, ("mixer_norm", "feed_forward_norm"))
        check_feed_forward(feed_forward, optional=True)
        self.hidden_dim = hidden_dim
        self.mixer = resolve_mixer(mixer, self.dtype_policy)
        self.feed_forward = feed_forward
        self.norm = norm
        self._shared_norms = norms
        self.supports_masking = True

    def build(self, inputs_shape, context_shape=None):
        if self.mixer is not None:
            build_mixer(self.mixer, inputs_shape)
            self.mixer_norm = build_norm(
                self.norm,
                inputs_shape,
                self.dtype_policy,
                "mixer_norm",
                self._shared_norms,
            )
        if self.feed_forward is not None:
            self.network = build_feed_forward(
                self.feed_forward,
                self.hidden_dim,
                inputs_shape,
                self.dtype_policy,
            )
            self.network_norm = build_norm(
                self.norm,
                inputs_shape,
                self.dtype_policy,
                "feed_forward_norm",
                self._shared_norms,
            )

    @property
    def norms(self):
        """dict of the normalizations by name, once the layer is built."""
        norms = {
            "mixer_norm": getattr(self, "mixer_norm", None),
            "feed_forward_norm": getattr(self, "network_norm", None),
        }
        return {name: layer for name, layer in norms.items() if layer}

    def call(self, inputs, context=None):
        tokens = inputs
        if self.mixer is not None:
            mixer = self.mixer
            if context is not None and not _takes_context(mixer):
                raise ValueError(
                    "`context` is for a mixer whose call has it, "
                    "`DecoupledHeadMixing` or `TokenSelfAttention`. "
                    f"Received: mixer={type(mixer).__name__}"
                )
            if context is not None:
                if self.norm == "pre_rms":
                    context = self.mixer_norm(context)
                mixer = functools.partial(mixer, context=context)
            tokens = residual(tokens, mixer, self.norm, self.mixer_norm)
        if self.feed_forward is not None:
            tokens = residual(
                tokens, self.network, self.norm, self.network_norm
            )
        return tokens

    def compute_mask(self, inputs, context=None, mask=None):
        return None

    def compute_output_shape(self, inputs_shape, context_shape=None):
        return tuple(inputs_shape)

    def get_config(self):
        config = super().get_config()
        config["hidden_dim"] = self.hidden_dim
        config["mixer"] = keras.saving.serialize_keras_object(self.mixer)
        config["feed_forward"] = self.feed_forward
        config["norm"] = self.norm
        config["norms"] = keras.saving.serialize_keras_object(
            self._shared_norms
        )
        return config

    @classmethod
    def from_config(cls, config):
        return super().from_config(with_norms(mixer_from_config(config)))


def _takes_context(mixer):
    return "context" in inspect.signature(mixer.call).parameters
