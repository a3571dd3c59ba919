import keras
from keras import ops

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_ratio
from keras_unirec.layers.feed_forward.swiglu import SwiGLU
from keras_unirec.layers.residual._by_name import make_residual
from keras_unirec.layers.residual.pre_norm import PreNorm


@keras.saving.register_keras_serializable(package="keras_unirec")
class HistoryEncoder(_parts.Composite):
    """Refines every event of a history on its own.

    `h_t = SwiGLU(Norm(s_t)) + s_t`, with one network for all events. Every
    layer of a model has its own encoder; in MixFormer all start from the same
    `s_t`.

    Args:
        hidden_dim: int or None. Hidden width of the network. Defaults to
            `None`: `ratio` times the width of an event.
        ratio: float or None. Defaults to `None`: D over the width of an event
            in MixFormer, else 2.
        residual: `"pre_rms"` for `f(RMS(x)) + x`, `"post_layer"` for
            `LayerNorm(f(x) + x)`, `"none"` for `f(x)` alone, without residual:
            the network of eq. 7 of HyFormer; or another residual scheme.
            Defaults to `None`: that of `MixFormer`, elsewhere `"pre_rms"`.

    Input shape:
        `(requests, length, event_dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    encoder = keras_unirec.layers.HistoryEncoder(hidden_dim=32)
    encoder(np.ones((2, 50, 32))).shape  # (2, 50, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 5;
    [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 7.
    """

    parts = ("residual",)
    # What stands for arguments that are None.
    resolved = {"residual": PreNorm()}

    def __init__(self, hidden_dim=None, ratio=None, residual=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, hidden_dim=hidden_dim)
        check_ratio(optional=True, ratio=ratio)
        self.hidden_dim = hidden_dim
        self.ratio = ratio
        self.residual = make_residual(
            residual, self.dtype_policy, optional=True
        )
        self.supports_masking = True

    def build(self, input_shape):
        self._scheme = self.residual or PreNorm(dtype=self.dtype_policy)
        # The scale of the RMS norm is in the kernel of the network: events are
        # the largest tensor of a model, and every pass over them counts.
        self._scales = type(self._scheme) is PreNorm and (
            self._scheme.norm == "rms" and not self._scheme.final_norm
        )
        self.swiglu = SwiGLU(
            self.hidden_dim,
            self.ratio or 2,
            input_scale=self._scales,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.swiglu.build(input_shape)
        if not self._scales:
            self._scheme.build_steps(input_shape, ["feed_forward"])

    def call(self, inputs):
        if self._scales:
            normalized = ops.rms_normalization(inputs, epsilon=1e-6)
            return self.swiglu(normalized) + inputs
        return self._scheme.apply(inputs, self.swiglu, names=["feed_forward"])

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["hidden_dim"] = self.hidden_dim
        config["ratio"] = self.ratio
        return config
