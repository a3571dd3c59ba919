import keras
import numpy as np
from keras import ops

from keras_unirec.layers._checks import is_integer


@keras.saving.register_keras_serializable(package="keras_unirec")
class TimeGapBucket(keras.layers.Layer):
    """Turns time gaps in seconds into ids of logarithmic buckets.

    A gap `g` gets the id `2 + #{boundaries <= g}`; a missing gap (negative)
    gets 1. Integer boundaries make the bucket exact on every backend.

    Args:
        boundaries: Increasing list of integers, in seconds.

    Input shape:
        Integer gaps of any shape, in seconds, negative where missing.

    Output shape:
        The same shape, `int32` in `[1, len(boundaries) + 2]`.

    Example:
    ```python
    bucket = keras_unirec.layers.TimeGapBucket([1, 60, 3600])
    bucket(np.array([0, 90, -1]))  # [2, 4, 1]
    ```
    """

    def __init__(self, boundaries, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if (
            not isinstance(boundaries, (list, tuple))
            or not boundaries
            or not all(is_integer(b) and 0 <= b < 2**31 for b in boundaries)
            or list(boundaries) != sorted(set(boundaries))
        ):
            raise ValueError(
                "`boundaries` must increase: a non-empty list of integers, "
                f"from 0 to 2**31 - 1. Received: boundaries={boundaries!r}"
            )
        self.boundaries = list(boundaries)

    def call(self, inputs):
        bucket = ops.digitize(inputs, np.array(self.boundaries, "int32"))
        return ops.where(inputs < 0, 1, ops.cast(bucket, "int32") + 2)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, dtype="int32")

    def get_config(self):
        config = super().get_config()
        config.pop("autocast", None)
        return {**config, "boundaries": self.boundaries}
