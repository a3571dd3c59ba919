import keras

from keras_unirec.layers._residual import build_norm
from keras_unirec.layers._residual import check_norm
from keras_unirec.layers._residual import check_norms
from keras_unirec.layers._residual import residual
from keras_unirec.layers._residual import with_norms
from keras_unirec.layers.feed_forward.swiglu import SwiGLU


@keras.saving.register_keras_serializable(package="keras_unirec")
class OutputFusion(keras.layers.Layer):
    """Fuses what a head knew with what it read from the history.

    `o_i = SwiGLU_i(Norm(z_i)) + z_i`, where the weights of `SwiGLU_i` belong to
    head `i`.

    Args:
        hidden_dim: int. Hidden width of every feed-forward network.
        per_head: bool. `False` shares one network between the heads. Defaults
            to `True`.
        norm: `"pre_rms"` for `f(RMS(x)) + x`, `"post_layer"` for
            `LayerNorm(f(x) + x)`, or `None`. Defaults to `"pre_rms"`.
        norms: Optional dict, the `norms` of another `OutputFusion`, to share
            them. Defaults to `None`: its own.

    Input shape:
        `(..., num_heads, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    fusion = keras_unirec.layers.OutputFusion(hidden_dim=64)
    fusion(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 9.
    """

    def __init__(
        self,
        hidden_dim,
        per_head=True,
        norm="pre_rms",
        norms=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_norm(norm)
        check_norms(norms, norm, ("feed_forward_norm",))
        self.hidden_dim = hidden_dim
        self.per_head = per_head
        self.norm = norm
        self._shared_norms = norms
        self.supports_masking = True

    def build(self, input_shape):
        self.swiglu = SwiGLU(
            self.hidden_dim,
            num_heads=input_shape[-2] if self.per_head else None,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.swiglu.build(input_shape)
        self.swiglu_norm = build_norm(
            self.norm,
            input_shape,
            self.dtype_policy,
            "feed_forward_norm",
            self._shared_norms,
        )

    @property
    def norms(self):
        """dict of the normalization by name, once the layer is built."""
        norm = getattr(self, "swiglu_norm", None)
        return {"feed_forward_norm": norm} if norm else {}

    def call(self, inputs):
        return residual(inputs, self.swiglu, self.norm, self.swiglu_norm)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["hidden_dim"] = self.hidden_dim
        config["per_head"] = self.per_head
        config["norm"] = self.norm
        config["norms"] = keras.saving.serialize_keras_object(
            self._shared_norms
        )
        return config

    @classmethod
    def from_config(cls, config):
        return super().from_config(with_norms(config))
