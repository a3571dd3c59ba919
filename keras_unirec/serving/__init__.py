"""From a trained model to a SavedModel that takes raw columns."""

from keras_unirec.serving.export import export as export
from keras_unirec.serving.measure_latency import (
    measure_latency as measure_latency,
)
from keras_unirec.serving.raw_inputs import raw_inputs as raw_inputs
from keras_unirec.serving.signature_names import (
    signature_names as signature_names,
)
from keras_unirec.serving.warmup import write_warmup as write_warmup
