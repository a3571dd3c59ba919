"""Test AUC and logloss of a model on KuaiRand, over several seeds.

    python benchmarks/accuracy.py --data KuaiRand-Pure --model mixformer_tiny \
        --seeds 0,1,2 --out benchmarks/results/accuracy_mixformer_tiny.json

Protocol: one pass over the training days but the last two, which are for
early stopping inside that pass; then the test days, once. Inputs are what is
known before an impression: columns of the user, the context and the video,
and the four histories. No hand-made rates.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On a CPU: TensorFlow keeps the memory of large tensors, read at import.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")

import keras  # noqa: E402
import numpy as np  # noqa: E402

import keras_unirec as ku  # noqa: E402
from keras_unirec import layers  # noqa: E402
from keras_unirec.layers import _parts  # noqa: E402


def main():
    arguments = parse()
    result = measure(arguments, load(arguments), arguments.model, arguments.set)
    print(json.dumps(result, indent=2))
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")


def load(arguments):
    """Reads the log; returns the schema and the three sets of rows."""
    train, test, schema = ku.data.kuairand(
        arguments.data,
        labels=(arguments.label,),
        train_files=arguments.train,
        test_files=arguments.test,
    )
    days = np.unique(train["date"])
    held_out = train["date"].isin(days[-2:])
    return schema, train[~held_out], train[held_out], test


def measure(arguments, log, model, overrides):
    """Trains a model with every seed; returns its sizes and metrics."""
    schema, fit_rows, stop_rows, test = log
    runs = []
    for seed in arguments.seeds:
        keras.utils.clear_session()
        result, trained = run(arguments, log, model, overrides, seed)
        runs.append(result)
    sizes = ku.analysis.profile(trained)
    return {
        "model": model,
        "overrides": written(overrides),
        "data": "KuaiRand-Pure",
        "label": arguments.label,
        "rows": {
            "fit": len(fit_rows),
            "early_stopping": len(stop_rows),
            "test": len(test),
        },
        "batch_size": arguments.batch_size,
        "dense_parameters": sizes.dense_parameters,
        "embedding_parameters": sizes.embedding_parameters,
        "auc": summary(runs, "auc"),
        "logloss": summary(runs, "logloss"),
        "early_stopping_auc": summary(runs, "early_stopping_auc"),
        "seconds_per_epoch": summary(runs, "seconds_per_epoch")["mean"],
    }


def run(arguments, log, model, overrides, seed):
    """Trains with one seed; returns the metrics and the model."""
    schema, fit_rows, stop_rows, test = log
    keras.utils.set_random_seed(seed)
    size = arguments.batch_size
    data = ku.data.from_pandas(
        fit_rows, schema, batch_size=size, shuffle=True, seed=seed
    )
    stop = ku.data.from_pandas(stop_rows, schema, batch_size=4 * size)
    model = ku.applications.load(model, schema, **overrides)
    model.compile(jit_compile=arguments.jit)
    monitor = "val_auc"
    # Parts of one pass: a second pass memorizes ids.
    steps = len(data) // arguments.checks
    start = time.perf_counter()
    history = model.fit(
        data.repeat(),
        steps_per_epoch=steps,
        epochs=arguments.checks,
        validation_data=stop,
        callbacks=[
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            keras.callbacks.EarlyStopping(
                monitor, mode="max", patience=3, restore_best_weights=True
            ),
        ],
        verbose=arguments.verbose,
    )
    seconds = time.perf_counter() - start
    report = ku.evaluate(model, test)[arguments.label]
    result = {
        "auc": report["auc"],
        "logloss": report["logloss"],
        "early_stopping_auc": max(history.history[monitor]),
        "seconds_per_epoch": seconds,
    }
    print(f"seed {seed}: {result}", flush=True)
    return result, model


def written(overrides):
    """Arguments of a model as JSON: a part as the line that makes it."""
    return {
        name: _parts.written(value).replace("keras_unirec.layers", "layers")
        if isinstance(value, (keras.layers.Layer, layers.Shared))
        else value
        for name, value in overrides.items()
    }


def summary(runs, name):
    values = [float(run[name]) for run in runs]
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "seeds": values,
    }


def parser(description):
    """The options of every benchmark that trains on the log."""
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("--data", required=True, help="folder of KuaiRand")
    parser.add_argument("--train", nargs="+", default=["train.parquet"])
    parser.add_argument("--test", nargs="+", default=["val.parquet"])
    parser.add_argument("--label", default="is_click")
    parser.add_argument(
        "--seeds",
        default="0,1,2",
        type=lambda text: [int(seed) for seed in text.split(",")],
    )
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--checks", type=int, default=8)
    parser.add_argument("--jit", action="store_true")
    parser.add_argument("--verbose", type=int, default=2)
    parser.add_argument("--out", help="JSON file to write")
    return parser


def parse():
    options = parser(__doc__)
    options.add_argument("--model", default="mixformer_tiny")
    options.add_argument(
        "--set",
        type=lambda text: eval(f"dict({text})", {"layers": layers}),
        default={},
        help="arguments as in Python: 'mixer=layers.UniMixing(8), dim=64'",
    )
    return options.parse_args()


if __name__ == "__main__":
    main()
