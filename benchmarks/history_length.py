"""Cost of a training step of the blocks of a model against the history.

    python benchmarks/history_length.py --out benchmarks/results/history_length
    python benchmarks/history_length.py --model hyformer --out ...
    python benchmarks/history_length.py --model hyformer --recent 100 --out ...

Writes a JSON file and a plot. The model is fixed. Time and memory should be
lines in the length, and no tensor have `(requests * candidates, length,
width)` elements: the largest one is read off the traced step, whose shapes are
all static. Each length is a process of its own, for the peak of its memory.
`--recent L` is HyFormer with the LONGER encoder on L events; without it, with
the SwiGLU encoder.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys

import numpy as np

SHAPES = {
    "mixformer": {
        "batch": 16,
        "candidates": 4,
        "heads": 8,
        "dim": 64,
        "layers": 2,
        "event_dim": 64,
        "event_hidden": 64,
        "hidden": 320,
        "lengths": (128, 256, 512, 1024, 2048, 4096, 8192),
    },
    "hyformer": {
        "batch": 32,
        "candidates": 1,
        "queries": 3,
        "features": 13,
        "heads": 4,
        "dim": 256,
        "layers": 4,
        "event_dim": 64,
        "event_hidden": 128,
        "hidden": 384,
        "lengths": (375, 750, 1500, 3000, 6000),
    },
}


def measure(args):
    import train_step

    train_step.tf.config.threading.set_intra_op_parallelism_threads(
        train_step.THREADS
    )
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    events = args.batch * args.length * args.event_dim
    return {
        "length": args.length,
        "seconds": {
            "median": statistics.median(times),
            "min": min(times),
            "max": max(times),
        },
        "peak_gib": peak / 2**20,
        "peak_gib_of_the_step": (peak - start) / 2**20,
        "largest_tensor": largest,
        "events": events,
        "events_for_every_candidate": events * args.candidates,
    }


def plot(results, fixed, price, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lengths = [r["length"] for r in results]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4))
    times = [r["seconds"]["median"] for r in results]
    left.plot(lengths, times, "o-", label="measured")
    fit = [fixed + price * t for t in lengths]
    left.plot(lengths, fit, ":", label="fixed cost + price x events")
    left.set_ylabel("seconds per training step")
    middle.plot(lengths, [r["peak_gib_of_the_step"] for r in results], "o-")
    middle.set_ylabel("GiB of memory that steps take at their peak")
    for key, label in (
        ("largest_tensor", "largest tensor of the step"),
        ("events_for_every_candidate", "events x candidates"),
    ):
        right.plot(
            lengths, [r[key] * 4 / 2**20 for r in results], "o-", label=label
        )
    right.set_ylabel("MiB")
    for axis in (left, middle, right):
        axis.set_xlabel("events per history")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.grid(alpha=0.3)
    left.legend()
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SHAPES, default="mixformer")
    parser.add_argument("--recent", type=int, default=0)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--length", type=int, help="one length, as JSON")
    parser.add_argument("--out", help="path without extension")
    args = parser.parse_args()
    shapes = {**SHAPES[args.model], "recent": args.recent}
    vars(args).update(shapes)
    if args.length is not None:
        print(json.dumps(measure(args)))
        return

    results = []
    for length in args.lengths:
        output = subprocess.run(
            [sys.executable, *sys.argv, "--length", str(length)],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        result = json.loads(output.splitlines()[-1])
        results.append(result)
        print(
            f"T={length:5}  {result['seconds']['median']:.3f} s  "
            f"{result['seconds']['median'] / length * 1e6:6.1f} us/event  "
            f"peak {result['peak_gib']:.2f} GiB, "
            f"{result['peak_gib_of_the_step']:.2f} of the step  "
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
            "model": args.model,
            "shapes": shapes,
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
