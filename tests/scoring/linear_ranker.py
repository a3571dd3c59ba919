import keras
import numpy as np
from keras import ops


class LinearRanker(keras.Model):
    """A model that uses the schema's keys, small enough to check by hand."""

    def __init__(self, schema, output_activation=None):
        super().__init__()
        self.schema = schema
        self.output_activation = output_activation

    def build(self, input_shape):
        pass

    def call(self, inputs):
        assert not any(key.startswith("__") for key in inputs)
        video = ops.cast(inputs["video_id"], "float32")  # (R, C)
        hour = inputs["hour"][:, None]
        count = inputs["watched.count"][:, None]
        logits = {
            "is_click": 0.1 * video - 1.5 + 0.4 * hour,
            "is_like": 0.5 * count - 0.05 * video,
        }
        if self.output_activation == "sigmoid":
            return {name: ops.sigmoid(z) for name, z in logits.items()}
        return logits


def expected_logits(frame, schema):
    hour = schema.numerical("hour")
    hour = (frame["hour"] - hour.mean) / hour.std
    video = frame["video_id"] + 2
    count = np.log1p(frame["hist_video_id"].map(len))
    return {
        "is_click": 0.1 * video - 1.5 + 0.4 * hour,
        "is_like": 0.5 * count - 0.05 * video,
    }
