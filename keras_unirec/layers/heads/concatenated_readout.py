import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unirec")
class ConcatenatedReadout(keras.layers.Layer):
    """The tokens of each candidate, one behind the other.

    Call arguments:
        tokens: Tensor `(R, C, num_tokens, dim)`.
        context: Optional tensor `(R, num_others, dim)`: tokens of the request,
            which stand before those of each of its candidates.

    Output shape:
        `(R, C, (num_others + num_tokens) * dim)`

    Example:
    ```python
    readout = keras_unirec.layers.ConcatenatedReadout()
    readout(np.ones((2, 3, 8, 32))).shape  # (2, 3, 256)
    ```
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, tokens, context=None):
        num_tokens, dim = tokens.shape[-2:]
        batch = ops.shape(tokens)[:2]
        flat = ops.reshape(tokens, (*batch, num_tokens * dim))
        if context is None:
            return flat
        width = context.shape[-2] * dim
        of_request = ops.reshape(context, (batch[0], 1, width))
        of_request = ops.broadcast_to(of_request, (*batch, width))
        return ops.concatenate([of_request, flat], axis=-1)

    def compute_mask(self, tokens, context=None, mask=None):
        return None

    def compute_output_shape(self, tokens_shape, context_shape=None):
        others = 0 if context_shape is None else context_shape[-2]
        width = (others + tokens_shape[-2]) * tokens_shape[-1]
        return (*tokens_shape[:-2], width)

    def get_config(self):
        # Keras writes a config by itself only where `dtype` is a string.
        return super().get_config()
