import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unirec")
class LengthMask(keras.layers.Layer):
    """The mask of right-padded histories: event t is real iff t < length.

    Call arguments:
        history: Tensor of shape `(num_requests, num_events, ...)`; only its
            second axis is used.
        length: Integer tensor of shape `(num_requests,)`.

    Output shape:
        `(num_requests, num_events)`, bool.

    Example:
    ```python
    mask = keras_unirec.layers.LengthMask()
    mask(np.zeros((2, 3)), np.array([1, 3]))  # [[1, 0, 0], [1, 1, 1]]
    ```
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, history, length):
        positions = ops.arange(ops.shape(history)[1], dtype="int32")
        return positions[None, :] < ops.cast(length, "int32")[:, None]

    def compute_output_spec(self, history, length):
        return keras.KerasTensor(history.shape[:2], dtype="bool")

    def get_config(self):
        config = super().get_config()
        config.pop("autocast", None)
        return config
