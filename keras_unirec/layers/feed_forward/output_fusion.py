import keras

from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_same_shape
from keras_unirec.layers.feed_forward._by_name import make_feed_forward
from keras_unirec.layers.residual._by_name import make_residual


@keras.saving.register_keras_serializable(package="keras_unirec")
class OutputFusion(_parts.Composite):
    """Fuses what a head knew with what it read from the history.

    `o_i = SwiGLU_i(Norm(z_i)) + z_i`, where the weights of `SwiGLU_i` belong to
    head `i`.

    Args:
        feed_forward: `"swiglu"`, `"gelu"` (two matrices with biases), or a
            layer that keeps the shape of its input; `SwiGLU()`, not per token,
            shares one network between the heads. Defaults to `"swiglu"`.
        residual: `"pre_rms"` for `f(RMS(x)) + x`, `"post_layer"` for
            `LayerNorm(f(x) + x)`, or another residual scheme. Defaults to
            `"pre_rms"`.

    Input shape:
        `(..., num_heads, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    network = keras_unirec.layers.SwiGLU(64, per_token=True)
    fusion = keras_unirec.layers.OutputFusion(network)
    fusion(np.ones((2, 3, 8, 32))).shape  # (2, 3, 8, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 9.
    """

    parts = ("feed_forward", "residual")

    def __init__(self, feed_forward="swiglu", residual="pre_rms", **kwargs):
        super().__init__(**kwargs)
        self.feed_forward = make_feed_forward(feed_forward, self.dtype_policy)
        self.residual = make_residual(residual, self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape):
        check_same_shape(self.feed_forward, input_shape, "feed_forward")
        self.residual.build_steps(input_shape, ["feed_forward"])

    def call(self, inputs):
        return self.residual.apply(
            inputs, self.feed_forward, names=["feed_forward"]
        )

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)
