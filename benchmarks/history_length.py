"""Cost of a training step of MixFormer blocks against the length of histories.

    python benchmarks/history_length.py --out benchmarks/results/history_length

Writes a JSON file and a plot. The model is fixed: events of width `dim`, one
map for all layers, several candidates per request. Time should be a line in
the length, and no tensor have `(requests * candidates, length, width)`
elements: the largest one is read off the traced step, whose shapes are all
static.
"""

import argparse
import json
import os
import statistics

import numpy as np
import tensorflow as tf
import train_step

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)


def measure(args):
    batch = train_step.make_batch(args, args.candidates)
    step = train_step.make_step(args, batch, jit=False)
    graph = step.get_concrete_function(*batch).graph
    largest = max(
        tensor.shape.num_elements() or 0
        for operation in graph.get_operations()
        for tensor in operation.outputs
    )
    for _ in range(2):
        step(*batch)
    times = [train_step.seconds(step, *batch) for _ in range(args.steps)]
    events = args.batch * args.length * args.event_dim
    return {
        "length": args.length,
        "seconds": {
            "median": statistics.median(times),
            "min": min(times),
            "max": max(times),
        },
        "largest_tensor": largest,
        "events": events,
        "events_for_every_candidate": events * args.candidates,
    }


def plot(results, fixed, price, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lengths = [r["length"] for r in results]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    times = [r["seconds"]["median"] for r in results]
    left.plot(lengths, times, "o-", label="measured")
    fit = [fixed + price * t for t in lengths]
    left.plot(lengths, fit, ":", label="fixed cost + price x events")
    left.set_ylabel("seconds per training step")
    for key, label in (
        ("largest_tensor", "largest tensor of the step"),
        ("events_for_every_candidate", "events x candidates (never held)"),
    ):
        right.plot(
            lengths, [r[key] * 4 / 2**20 for r in results], "o-", label=label
        )
    right.set_ylabel("MiB")
    for axis in (left, right):
        axis.set_xlabel("events per history")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16, help="requests")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--out", help="path without extension")
    args = parser.parse_args()
    args.event_dim = args.event_hidden = args.dim
    args.head_hidden = 5 * args.dim
    shapes = dict(vars(args))
    tf.config.threading.set_intra_op_parallelism_threads(train_step.THREADS)

    results = []
    for args.length in LENGTHS:
        result = measure(args)
        results.append(result)
        print(
            f"T={args.length:5}  {result['seconds']['median']:.3f} s  "
            f"{result['seconds']['median'] / args.length * 1e6:6.1f} us/event  "
            f"largest tensor {result['largest_tensor'] * 4 / 2**20:.1f} MiB",
            flush=True,
        )
    # Cost that does not depend on the length, plus a price per event.
    lengths = [r["length"] for r in results]
    times = [r["seconds"]["median"] for r in results]
    price, fixed = np.polyfit(lengths, times, 1)
    r_squared = np.corrcoef(lengths, times)[0, 1] ** 2
    print(
        f"{fixed:.3f} s + {price * 1e6:.1f} us per event, R2 {r_squared:.4f}; "
        f"the last doubling of the length takes {times[-1] / times[-2]:.2f} "
        "times as long"
    )
    if args.out:
        os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
        report = {
            "shapes": {k: v for k, v in shapes.items() if k != "out"},
            "fixed_seconds": fixed,
            "seconds_per_event": price,
            "r_squared": r_squared,
            "results": results,
        }
        with open(f"{args.out}.json", "w") as file:
            json.dump(report, file, indent=2)
            file.write("\n")
        plot(results, fixed, price, f"{args.out}.png")


if __name__ == "__main__":
    main()
