"""Rows per second of the input pipeline: pandas and Parquet, to batches.

    python benchmarks/input_pipeline.py --out benchmarks/input_pipeline.json

One history of about 50 integer ids, one user and one item column, a label;
batches of 1024. An epoch is timed after a first one that warms up; making
the dataset (checking, and encoding for pandas) is timed apart.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402

import keras_unirec as ku  # noqa: E402


def make_frame(rows, length, seed=0):
    """A frame of random ids whose histories are Arrow lists."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(length // 2, length + length // 2 + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("int32")
    history = pa.ListArray.from_arrays(
        offsets, rng.integers(0, 100_000, offsets[-1])
    )
    return pd.DataFrame(
        {
            "user_id": rng.integers(0, 50_000, rows),
            "item_id": rng.integers(0, 100_000, rows),
            "history": pd.arrays.ArrowExtensionArray(history),
            "label": rng.integers(0, 2, rows),
        }
    )


def make_schema(length):
    return ku.Schema(
        user=[ku.Categorical("user_id", 50_000)],
        item=[ku.Categorical("item_id", 100_000)],
        sequences=[
            ku.Sequence(
                "events",
                length + length // 2,
                [ku.Categorical("history", share_with="item_id")],
            )
        ],
        labels=[ku.Label("label")],
    )


def measure(make, rows, epochs):
    """Seconds to make a dataset, and rows/s of its epochs but the first."""
    start = time.perf_counter()
    dataset = make()
    seconds = time.perf_counter() - start
    rates = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        for _ in dataset:
            pass
        rates.append(rows / (time.perf_counter() - start))
    return {
        "rows_per_second": round(statistics.median(rates[1:])),
        "epochs": [round(rate) for rate in rates[1:]],
        "make_dataset_seconds": round(seconds, 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", help="JSON file to write")
    args = parser.parse_args()

    frame = make_frame(args.rows, args.length)
    schema = make_schema(args.length)
    results = {
        "rows": args.rows,
        "history_length": args.length,
        "batch_size": args.batch_size,
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.parquet"
        frame.to_parquet(path, row_group_size=50_000)
        for shuffle in (False, True):
            options = {"batch_size": args.batch_size, "shuffle": shuffle}
            readers = {
                "pandas": lambda: ku.data.from_pandas(frame, schema, **options),
                "parquet": lambda: ku.data.from_parquet(
                    path, schema, **options
                ),
            }
            for name, make in readers.items():
                name += ", shuffled" if shuffle else ""
                results[name] = measure(make, args.rows, args.epochs)
                print(
                    f"{name:20s} {results[name]['rows_per_second']:>10,} "
                    "rows/s",
                    flush=True,
                )
    if args.out:
        text = json.dumps(results, indent=2) + "\n"
        pathlib.Path(args.out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
