import keras
from keras import ops

from keras_unirec.layers import _checks
from keras_unirec.layers._checks import check_positive_integers


@keras.saving.register_keras_serializable(package="keras_unirec")
class NewestFirstPosition(keras.layers.Layer):
    """Adds a learned embedding of the position, counted from the newest event.

    The newest event has position 0 however long the history is, so more
    padding, or a longer history, does not move it. Positions from
    `max_length` on share the last row.

    Args:
        max_length: int or None. Number of positions. Defaults to `None`: what
            the model says, the most events that there can be.
        initializer: Initializer of the table. Defaults to a normal
            distribution of standard deviation `0.05`.

    Call arguments:
        history: Tensor of shape `(num_requests, num_events, dim)`.
        mask: Bool tensor of shape `(num_requests, num_events)`, right-padded.

    Output shape:
        That of `history`.

    Example:
    ```python
    layer = keras_unirec.layers.NewestFirstPosition(max_length=5)
    layer(np.ones((2, 3, 8)), mask=np.ones((2, 3), "bool")).shape  # (2, 3, 8)
    ```
    """

    def __init__(self, max_length=None, initializer=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, max_length=max_length)
        self.max_length = max_length
        self.initializer = _checks.initializer(
            "initializer", initializer, keras.initializers.RandomNormal(0, 0.05)
        )
        self.supports_masking = True

    def build(self, history_shape):
        if self.max_length is None:
            raise ValueError(
                "`max_length` must be given where no model says it. "
                "Received: max_length=None"
            )
        self.positions = self.add_weight(
            shape=(self.max_length, history_shape[-1]),
            initializer=self.initializer,
            name="positions",
        )

    def call(self, history, mask):
        mask = ops.cast(mask, "int32")
        newer = ops.sum(mask, axis=1, keepdims=True) - ops.cumsum(mask, axis=1)
        index = ops.clip(newer, 0, self.max_length - 1)
        return history + ops.take(self.positions, index, axis=0)

    def compute_mask(self, history, mask=None):
        return None

    def compute_output_shape(self, history_shape):
        return history_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "initializer": keras.initializers.serialize(self.initializer),
        }
