import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unirec")
class BesideCandidates(keras.layers.Layer):
    """Puts what is known of a request beside each of its candidates.

    Call arguments:
        request: Tensor of shape `(num_requests, request_dim)`.
        candidates: Tensor of shape
            `(num_requests, num_candidates, candidate_dim)`.

    Output shape:
        `(num_requests, num_candidates, request_dim + candidate_dim)`

    Example:
    ```python
    layer = keras_unirec.layers.BesideCandidates()
    layer(np.ones((2, 4)), np.ones((2, 3, 5))).shape  # (2, 3, 9)
    ```
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, request, candidates):
        shape = (*ops.shape(candidates)[:2], request.shape[-1])
        request = ops.broadcast_to(request[:, None, :], shape)
        return ops.concatenate([request, candidates], axis=-1)

    def compute_mask(self, request, candidates, mask=None):
        return None

    def compute_output_shape(self, request_shape, candidates_shape):
        return (
            *candidates_shape[:-1],
            request_shape[-1] + candidates_shape[-1],
        )

    def get_config(self):
        # Keras writes a config by itself only where `dtype` is a string.
        return super().get_config()
