"""Training on request batches against the same rows pointwise.

    python benchmarks/request_batches.py \
        --out benchmarks/results/request_batches.json

The same rows, once as requests of several candidates (`requests=True`, in
buckets, padded), once as requests of one candidate: matrix products of an
epoch (`profile`, forward and backward, padded candidates included) and its
time in `fit` with the input pipeline, in turns, in one process. A batch has
the same number of rows either way. Then the FLOPs at the widths of the paper,
which reports 36 % fewer for UI-MixFormer with request-level batching.
"""

import argparse
import json
import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import serving  # noqa: E402
import tensorflow as tf  # noqa: E402
from accuracy import written  # noqa: E402

import keras_unirec as ku  # noqa: E402
from keras_unirec import layers  # noqa: E402

LENGTH = 128
BATCH_ROWS = 280
# Mean candidates of a request -> how many requests have, and how many.
CANDIDATES = {2: (2,), 3.5: (2, 3, 4, 5), 10: (10,)}
MODELS = {
    "mixformer": (ku.applications.MixFormer, {}),
    "ui_mixformer": (ku.applications.UIMixFormer, {"num_item_heads": 8}),
}


def make_frame(rows, counts, seed=0):
    """Whole requests of about so many rows, whose sizes are drawn."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice(counts, round(rows / np.mean(counts)))
    frame = serving.make_frame(len(sizes), max(counts), LENGTH, seed)
    slot = frame.groupby("request").cumcount()
    return frame[slot < sizes[frame["request"]]].reset_index(drop=True)


def epoch_seconds(model, data):
    start = time.perf_counter()
    model.fit(data, verbose=0)
    return time.perf_counter() - start


def measure(mean, counts, args):
    frame = make_frame(args.rows, counts)
    schema = serving.make_schema(LENGTH, "request").adapt(frame)
    ways = {
        "pointwise": ku.data.from_pandas(
            frame, schema, batch_size=BATCH_ROWS, shuffle=True
        ),
        "requests": ku.data.from_pandas(
            frame,
            schema,
            batch_size=round(BATCH_ROWS / mean),
            shuffle=True,
            requests=True,
        ),
    }
    padded = requests = 0
    for _, _, weights in ways["requests"]:
        requests += int((weights.numpy().max(axis=1) > 0).sum())
        padded += weights.shape[0] * weights.shape[1]
    result = {
        "mean_candidates": mean,
        "rows": len(frame),
        "requests": requests,
        "padded_share": 1 - len(frame) / padded,
    }
    for name, (cls, more) in MODELS.items():
        keras.utils.set_random_seed(0)
        model = cls(schema, **serving.PARTS, **more)
        model.compile(recipe="paper")
        one = ku.analysis.profile(model, training=True)
        flops = {
            "pointwise": len(frame) * one.flops,
            "requests": requests * one.user_flops + padded * one.item_flops,
        }
        times = {way: [] for way in ways}
        for i in range(args.epochs + 1):
            for way, data in ways.items():
                taken = epoch_seconds(model, data)
                if i:  # The first traces.
                    times[way].append(taken)
        p50 = {way: np.median(t) for way, t in times.items()}
        result[name] = {
            "gflops": {way: n / 1e9 for way, n in flops.items()},
            "fewer_flops": 1 - flops["requests"] / flops["pointwise"],
            "seconds": {way: serving.spread(t) for way, t in times.items()},
            "less_time": 1 - p50["requests"] / p50["pointwise"],
        }
        print(
            f"{name}: {mean} candidates a request, "
            f"{100 * result['padded_share']:.0f} % padding: "
            f"{100 * result[name]['fewer_flops']:.0f} % fewer FLOPs, "
            f"{100 * result[name]['less_time']:.0f} % less time",
            flush=True,
        )
    return result


def padding(batch_size=256, num_requests=20_000):
    """Share of padded candidates with and without buckets.

    Requests of 1 to 50 candidates, 8 on average, most of them small.
    """
    rng = np.random.default_rng(0)
    sizes = np.minimum(rng.geometric(0.12, num_requests), 50)
    request = np.repeat(np.arange(num_requests), sizes)
    frame = pd.DataFrame(
        {
            "request": request,
            "item": rng.integers(0, 9, len(request)),
            "click": rng.integers(0, 2, len(request)),
        }
    )
    schema = ku.Schema(
        item=[ku.Categorical("item", 9)],
        labels=[ku.Label("click")],
        request_id="request",
    ).adapt(frame)
    shares = {}
    for buckets in ("auto", None):
        data = ku.data.from_pandas(
            frame,
            schema,
            batch_size,
            shuffle=True,
            requests=True,
            candidate_buckets=buckets,
        )
        padded = sum(w.shape[0] * w.shape[1] for _, _, w in data)
        shares[str(buckets)] = 1 - len(frame) / padded
    return {
        "mean_candidates": len(frame) / num_requests,
        "batch_size": batch_size,
        "padded_share": shares,
    }


def paper_size():
    """Forward FLOPs of a sample at the medium widths, T = 512."""
    results = []
    for width in (768, 384):
        encoder = {"encoder": layers.HistoryEncoder(width)}
        pointwise = ku.analysis.profile("mixformer_medium", **encoder).flops
        decoupled = ku.analysis.profile("ui_mixformer_medium", **encoder)
        for mean in (1.5, 1.7, *CANDIDATES):
            sample = decoupled.user_flops / mean + decoupled.item_flops
            results.append(
                {
                    **written(encoder),
                    "mean_candidates": mean,
                    "gflops_of_512": 512 * sample / 1e9,
                    "fewer_flops": 1 - sample / pointwise,
                }
            )
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_600)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out")
    args = parser.parse_args()
    results = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "tensorflow": tf.__version__,
        "parts": written(serving.PARTS),
        "history_length": LENGTH,
        "batch_rows": BATCH_ROWS,
        "training": [measure(*item, args) for item in CANDIDATES.items()],
        "padding": padding(),
        "medium": paper_size(),
    }
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)
            file.write("\n")
    else:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
