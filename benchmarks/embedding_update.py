"""Time of one update of an embedding table: stock Adagrad against RowAdagrad.

A step reads 8,192 ids, computes gradients of their rows and applies them:

    python benchmarks/embedding_update.py --rows 1000000,5000000 --out FILE.json

The stock optimizer takes the square root of the whole accumulator and rewrites
the whole table at every step, so its time grows with the vocabulary. That of
RowAdagrad does not. Both read the rows with a gather on the variable itself.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf

from keras_unirec import layers
from keras_unirec import optimizers

OPTIMIZERS = {
    "adagrad": lambda: keras.optimizers.Adagrad(0.05),
    "row_adagrad": lambda: optimizers.RowAdagrad(0.05),
    "adam": lambda: keras.optimizers.Adam(0.001),
    "row_adam": lambda: optimizers.RowAdam(0.001),
}


def milliseconds(name, rows, dim, num_ids, steps, jit_compile):
    """Median and quartiles of the time of a step."""
    table = layers.RowEmbedding(rows, dim, embeddings_initializer="zeros")
    table.build((None,))
    optimizer = OPTIMIZERS[name]()
    optimizer.build(table.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step(ids, targets):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(table(ids) - targets))
        gradients = tape.gradient(loss, table.trainable_variables)
        optimizer.apply(gradients, table.trainable_variables)
        return loss

    rng = np.random.default_rng(0)
    targets = tf.constant(rng.normal(size=(num_ids, dim)), "float32")
    times = []
    for i in range(steps + 3):
        ids = tf.constant(rng.integers(0, rows, num_ids), "int32")
        start = time.perf_counter()
        step(ids, targets).numpy()
        if i >= 3:  # The first steps trace, compile and allocate.
            times.append(1e3 * (time.perf_counter() - start))
    low, median, high = np.percentile(times, [25, 50, 75])
    return {"median": median, "quartiles": [low, high]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="1000000,2000000,5000000")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--ids", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--optimizers", default="adagrad,row_adagrad")
    parser.add_argument("--out", help="JSON file to write")
    arguments = parser.parse_args()

    results = []
    for rows in map(int, arguments.rows.split(",")):
        for jit_compile in (False, True):
            row = {"rows": rows, "xla": jit_compile, "milliseconds": {}}
            for name in arguments.optimizers.split(","):
                row["milliseconds"][name] = milliseconds(
                    name,
                    rows,
                    arguments.dim,
                    arguments.ids,
                    arguments.steps,
                    jit_compile,
                )
            times = row["milliseconds"]
            for name in ("adagrad", "adam"):
                if name in times and f"row_{name}" in times:
                    ratio = (
                        times[name]["median"] / times[f"row_{name}"]["median"]
                    )
                    row[f"{name}_over_row_{name}"] = ratio
            results.append(row)
            print(
                f"{rows:>10,} x {arguments.dim}, "
                f"{'XLA' if jit_compile else 'no XLA'}: "
                + ", ".join(
                    f"{name} {t['median']:.2f} ms" for name, t in times.items()
                )
                + "".join(
                    f", {key} {value:.1f}"
                    for key, value in row.items()
                    if key.endswith(("row_adagrad", "row_adam"))
                ),
                flush=True,
            )
    report = {
        "dim": arguments.dim,
        "ids": arguments.ids,
        "steps": arguments.steps,
        "cpus": os.cpu_count(),
        "gpus": [
            tf.config.experimental.get_device_details(gpu).get("device_name")
            for gpu in tf.config.list_physical_devices("GPU")
        ],
        "tensorflow": tf.__version__,
        "results": results,
    }
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
