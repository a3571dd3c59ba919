import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unirec")
class HistoryMean(keras.layers.Layer):
    """The mean of the real events of a history; zeros where there are none.

    `keras.layers.GlobalAveragePooling1D` divides by zero there.

    Call arguments:
        history: Tensor of shape `(requests, length, event_dim)`.
        mask: Bool tensor of shape `(requests, length)`.

    Output shape:
        `(requests, event_dim)`

    Example:
    ```python
    mean = keras_unirec.layers.HistoryMean()
    mean(np.ones((2, 5, 8)), mask=np.ones((2, 5), "bool")).shape  # (2, 8)
    ```
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, history, mask):
        mask = ops.cast(mask, "float32")
        share = mask / ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0)
        share = ops.cast(share, history.dtype)
        return ops.einsum("rt,rte->re", share, history)

    def compute_mask(self, history, mask=None):
        return None

    def compute_output_shape(self, history_shape):
        return (history_shape[0], history_shape[-1])

    def get_config(self):
        # Keras writes a config by itself only where `dtype` is a string.
        return super().get_config()
