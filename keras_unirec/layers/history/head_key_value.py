import keras

from keras_unirec.layers.history.head_cross_attention import HeadCrossAttention


@keras.saving.register_keras_serializable(package="keras_unirec")
class HeadKeyValue(keras.layers.Layer):
    """The keys and values of a `HeadCrossAttention`, computed apart from it.

    `k_t^i = W_k^i h_t^i` and `v_t^i = W_v^i h_t^i` depend on the request alone:
    a model computes them once, in its user half, and gives them to the same
    layer in place of the history. The weights are those of the attention. The
    config of a plain Keras model does not keep what two of its layers share:
    build such a model from code, and load its weights, as the applications do.

    Args:
        cross_attention: `HeadCrossAttention`, built before this layer is
            called.

    Input shape:
        `(requests, length, event_dim)`

    Output shape:
        Tuple of the keys and the values, each
        `(requests, num_heads, length, dim)`.

    Example:
    ```python
    attention = keras_unirec.layers.HeadCrossAttention()
    attention.build((None, None, 4, 8), (None, None, 32))
    queries, history = np.ones((2, 3, 4, 8)), np.ones((2, 50, 32))
    key_value = keras_unirec.layers.HeadKeyValue(attention)(history)
    attention(queries, key_value).shape  # (2, 3, 4, 8)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 6-7.
    """

    def __init__(self, cross_attention, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(cross_attention, HeadCrossAttention):
            raise ValueError(
                "`cross_attention` must be a `HeadCrossAttention`. "
                f"Received: cross_attention={cross_attention!r}"
            )
        self.cross_attention = cross_attention
        self.supports_masking = True

    def build(self, input_shape):
        if not self.cross_attention.built:
            raise ValueError(
                "`cross_attention` must be built: its queries say how many "
                "heads there are. Received: "
                f"cross_attention={self.cross_attention.name!r}, not built"
            )

    def call(self, inputs):
        return self.cross_attention.key_value(inputs)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        num_heads, dim, _ = self.cross_attention.key_kernel.shape
        shape = (input_shape[0], num_heads, input_shape[1], dim)
        return shape, shape

    def get_config(self):
        config = super().get_config()
        config["cross_attention"] = keras.saving.serialize_keras_object(
            self.cross_attention
        )
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["cross_attention"] = keras.saving.deserialize_keras_object(
            config["cross_attention"]
        )
        return super().from_config(config)
