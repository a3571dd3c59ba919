"""Trains on one or two logical devices and writes weights and history.

Run by `ranking_model_test.py`, in a process of its own: a process may create
one `MirroredStrategy`.
"""

import contextlib
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_unirec as ku
from tests.small_log import small_batch
from tests.small_log import small_schema


def main(mode, folder, name):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    scope = contextlib.nullcontext()
    if mode != "1":
        scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
    schema = small_schema()
    inputs, labels, weights = small_batch(schema, requests=24)
    weights[:5, 1:] = 0  # The halves of a batch differ in weight.
    data = tf.data.Dataset.from_tensor_slices((inputs, labels, weights))
    with scope:
        keras.utils.set_random_seed(0)
        quick = {"num_iterations": 3} if "unimixer" in name else {}
        model = ku.applications.load(name, schema, **quick)
        optimizer = ku.optimizers.TwoGroupOptimizer(
            keras.optimizers.SGD(0.1), ku.optimizers.RowAdagrad(0.1)
        )
        model.compile(optimizer, jit_compile=mode == "2-jit")
    history = model.fit(data.batch(8), epochs=2, verbose=0).history
    results = {w.path: w.numpy() for w in model.weights}
    results |= {f"history/{key}": value for key, value in history.items()}
    np.savez(f"{folder}/{name}_{mode}.npz", **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
