"""Trains on one or two logical devices and writes weights and history.

Run by `ranking_model_test.py`, in a process of its own: a process may create
one `MirroredStrategy`, which all of its runs share.
"""

import contextlib
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_unirec as ku
from tests.applications.families import load
from tests.small_log import small_batch
from tests.small_log import small_schema


def main(folder, *runs):
    """Each run is `<mode>:<name of a model>`: modes are 1, 2 and 2-jit."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for run in runs:
        mode, name = run.split(":")
        scope = contextlib.nullcontext() if mode == "1" else strategy.scope()
        np.savez(f"{folder}/{name}_{mode}.npz", **train(scope, mode, name))


def train(scope, mode, name):
    schema = small_schema()
    inputs, labels, weights = small_batch(schema, requests=24)
    weights[:5, 1:] = 0  # The halves of a batch differ in weight.
    data = tf.data.Dataset.from_tensor_slices((inputs, labels, weights))
    with scope:
        keras.utils.set_random_seed(0)
        model = load(name, schema)
        optimizer = ku.optimizers.TwoGroupOptimizer(
            keras.optimizers.SGD(0.1), ku.optimizers.RowAdagrad(0.1)
        )
        model.compile(optimizer, jit_compile=mode == "2-jit")
    history = model.fit(data.batch(8), epochs=2, verbose=0).history
    results = {w.path: w.numpy() for w in model.weights}
    return {**results, **{f"history/{k}": v for k, v in history.items()}}


if __name__ == "__main__":
    main(*sys.argv[1:])
