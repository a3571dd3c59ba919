import keras
from keras import ops

from keras_unirec.layers._residual import check_norm
from keras_unirec.layers.feed_forward.swiglu import SwiGLU


@keras.saving.register_keras_serializable(package="keras_unirec")
class HistoryEncoder(keras.layers.Layer):
    """Refines every event of a history on its own.

    `h_t = SwiGLU(Norm(s_t)) + s_t`, with one network for all events. Every
    layer of a model has its own encoder and starts from the same `s_t`.

    Args:
        hidden_dim: int. Hidden width of the network.
        norm: `"pre_rms"` for `f(RMS(x)) + x`, `"post_layer"` for
            `LayerNorm(f(x) + x)`, or `None` for `f(x)` alone, without residual:
            eq. 7 of HyFormer as written. Defaults to `"pre_rms"`.

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

    def __init__(self, hidden_dim, norm="pre_rms", **kwargs):
        super().__init__(**kwargs)
        check_norm(norm)
        self.hidden_dim = hidden_dim
        self.norm = norm
        self.supports_masking = True

    def build(self, input_shape):
        # The scale of the RMS norm is in the kernel of the network: events are
        # the largest tensor of a model, and every pass over them counts.
        self.swiglu = SwiGLU(
            self.hidden_dim,
            input_scale=self.norm == "pre_rms",
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.swiglu.build(input_shape)
        if self.norm == "post_layer":
            self.layer_norm = keras.layers.LayerNormalization(
                dtype=self.dtype_policy, name="feed_forward_norm"
            )
            self.layer_norm.build(input_shape)

    def call(self, inputs):
        if self.norm is None:
            return self.swiglu(inputs)
        if self.norm == "post_layer":
            return self.layer_norm(self.swiglu(inputs) + inputs)
        normalized = ops.rms_normalization(inputs, epsilon=1e-6)
        return self.swiglu(normalized) + inputs

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["hidden_dim"] = self.hidden_dim
        config["norm"] = self.norm
        return config
