import keras
from keras import ops

from keras_unirec.layers._checks import check_positive_integers

_OLDEST = 2**30  # Seconds: 34 years, the age of an event without a time.


@keras.saving.register_keras_serializable(package="keras_unirec")
class HistoryMerge(keras.layers.Layer):
    """Joins several histories into one, oldest event first.

    Without `gaps` the histories stand one after the other, each with its own
    padding. With `gaps` the events are ordered by time; an event without a
    time counts as the oldest. With `max_length` the most recent events are
    kept (without `gaps`: the last of the joined history). With either of the
    two the result is right-padded, whatever the histories were.

    Args:
        max_length: int or None. Number of events to keep. Defaults to `None`:
            all.

    Call arguments:
        histories: List of tensors `(num_requests, num_events_i, dim)`.
        masks: List of bool tensors `(num_requests, num_events_i)`.
        gaps: Optional list of integer tensors `(num_requests, num_events_i)`,
            seconds from the event to the request, negative where missing.

    Output shape:
        `(num_requests, num_events, dim)` and its mask
        `(num_requests, num_events)`.

    Example:
    ```python
    merge = keras_unirec.layers.HistoryMerge()
    history, mask = merge(
        [np.ones((2, 3, 8)), np.ones((2, 4, 8))],
        [np.ones((2, 3), "bool"), np.ones((2, 4), "bool")],
    )
    history.shape  # (2, 7, 8)
    ```
    """

    def __init__(self, max_length=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, max_length=max_length)
        self.max_length = max_length

    def call(self, histories, masks, gaps=None):
        history = ops.concatenate(histories, axis=1)
        mask = ops.concatenate(masks, axis=1)
        if gaps is None and self.max_length is None:
            return history, mask
        if gaps is None:
            age = ops.zeros_like(mask, dtype="int32")
        else:
            age = ops.concatenate(gaps, axis=1)
            age = ops.where(age < 0, _OLDEST, age)
        # Padding goes last; equal times keep the order that they had.
        rank = ops.where(mask, _OLDEST - age, _OLDEST + 1)
        order = ops.argsort(rank, axis=1)
        if self.max_length is not None:
            num_events = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
            first = ops.maximum(num_events - self.max_length, 0)
            kept = self.max_length
            if mask.shape[1] is None:
                kept = ops.minimum(kept, ops.shape(mask)[1])
            else:  # On JAX `arange` needs a number.
                kept = min(kept, mask.shape[1])
            index = first + ops.arange(kept, dtype="int32")[None, :]
            order = ops.take_along_axis(order, index, axis=1)
        mask = ops.take_along_axis(mask, order, axis=1)
        return ops.take_along_axis(history, order[:, :, None], axis=1), mask

    def compute_output_spec(self, histories, masks, gaps=None):
        lengths = [history.shape[1] for history in histories]
        length = None if None in lengths else sum(lengths)
        if length is not None and self.max_length is not None:
            length = min(length, self.max_length)
        requests, _, dim = histories[0].shape
        return (
            keras.KerasTensor((requests, length, dim), histories[0].dtype),
            keras.KerasTensor((requests, length), "bool"),
        )

    def get_config(self):
        return {**super().get_config(), "max_length": self.max_length}
