import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unirec")
class MeanReadout(keras.layers.Layer):
    """The mean of the tokens of each candidate.

    Call arguments:
        tokens: Tensor `(R, C, num_tokens, dim)`.
        context: Optional tensor `(R, num_others, dim)`: tokens of the request,
            which count for each of its candidates.

    Output shape:
        `(R, C, dim)`

    Example:
    ```python
    readout = keras_unirec.layers.MeanReadout()
    readout(np.ones((2, 3, 8, 32))).shape  # (2, 3, 32)
    ```
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, tokens, context=None):
        mean = ops.mean(tokens, axis=-2)
        if context is None:
            return mean
        # Means of each side: a sum may exceed half precision.
        of_items, of_user = tokens.shape[-2], context.shape[-2]
        total = of_items + of_user
        of_request = ops.mean(context, axis=-2) * (of_user / total)
        return ops.expand_dims(of_request, axis=1) + mean * (of_items / total)

    def compute_mask(self, tokens, context=None, mask=None):
        return None

    def compute_output_shape(self, tokens_shape, context_shape=None):
        return (*tokens_shape[:-2], tokens_shape[-1])

    def get_config(self):
        # Keras writes a config by itself only where `dtype` is a string.
        return super().get_config()
