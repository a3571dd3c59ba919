"""Time of every token mixer, forward and backward, beside its products.

    python benchmarks/mixers.py --out benchmarks/results/mixers.json

A mixer adds its output to its input, as in a block. `samples` is the part of
its matrix products that grows with the batch, `step` what UniMixing needs once
a step, whatever the batch: the logits and Sinkhorn-Knopp, both 2 per
multiply-accumulate and three times forward. All mixers are timed in turns in
one process; the matmul is one large product.
"""

import argparse
import json
import os
import statistics

# Before TensorFlow: it sets the allocator.
from train_step import THREADS
from train_step import make_large_matmul
from train_step import seconds

# isort: split
import numpy as np
import tensorflow as tf

from keras_unirec import layers


def make_mixers(args):
    """By name: the layer, and its multiply-accumulates a sample and a step."""
    tokens, dim = args.tokens, args.dim
    width = tokens * dim
    pairs = 2 * tokens * width
    mixers = {
        "head_mixing": (layers.HeadMixing(), 0, 0),
        "self_attention": (
            layers.TokenSelfAttention(4),
            4 * width * dim + pairs,
            0,
        ),
        "heterogeneous_attention": (
            layers.HeterogeneousAttention(4),
            3 * width * dim + pairs,
            0,
        ),
        "fm": (layers.FMMixing(), pairs, 0),
    }
    for size in args.block_sizes:
        n = width // size
        local, mixing = n * size**2, n**2
        sample = width * (size + n)
        step = 2 * 19 * (local + mixing)
        rank = max(1, n // 8)
        mixers[f"uni_mixing, B={size}"] = (
            layers.UniMixing(size),
            sample,
            step,
        )
        mixers[f"uni_mixing_lite, B={size}"] = (
            layers.UniMixingLite(size, 4, rank),
            sample,
            step + 4 * local + rank * mixing,
        )
    return mixers


def make_step(mixer, tokens, jit):
    mixer.build(tokens.shape)

    @tf.function(jit_compile=jit)
    def step(tokens, weights):
        with tf.GradientTape() as tape:
            tape.watch(tokens)
            outputs = tokens + mixer(tokens)
        variables = [w.value for w in mixer.trainable_weights]
        return tape.gradient(outputs, [tokens, *variables], weights)

    return step


def measure(args, jit):
    rng = np.random.default_rng(0)
    shape = (args.batch, 1, args.tokens, args.dim)
    tokens = tf.constant(rng.normal(size=shape), "float32")
    weights = tf.constant(rng.normal(size=shape), "float32")
    mixers = make_mixers(args)
    steps = {
        name: make_step(mixer, tokens, jit)
        for name, (mixer, _, _) in mixers.items()
    }
    large_matmul = make_large_matmul(args.matmul, jit=False)
    times = {name: [] for name in steps}
    matmuls = []
    for i in range(args.steps + 2):
        for name, step in steps.items():
            elapsed = seconds(step, tokens, weights)
            if i >= 2:
                times[name].append(elapsed)
        matmuls.append(seconds(large_matmul))
    rate = 2 * args.matmul**3 / min(matmuls)
    rows = []
    for name, (mixer, sample, step) in mixers.items():
        flop = 6 * (args.batch * sample + step)
        median = statistics.median(times[name])
        rows.append(
            {
                "mixer": name,
                "parameters": sum(
                    int(np.prod(w.shape)) for w in mixer.trainable_weights
                ),
                "milliseconds": 1e3 * median,
                "quartiles": [
                    1e3 * t for t in statistics.quantiles(times[name], n=4)
                ][::2],
                "gflop_samples": 6 * args.batch * sample / 1e9,
                "gflop_step": 6 * step / 1e9,
                "milliseconds_of_flop": 1e3 * flop / rate,
            }
        )
        print(
            f"jit={jit!s:5} {name:26} {1e3 * median:7.1f} ms, products "
            f"{rows[-1]['milliseconds_of_flop']:6.1f} ms "
            f"({rows[-1]['gflop_samples']:.2f} + "
            f"{rows[-1]['gflop_step']:.2f} GFLOP)",
            flush=True,
        )
    return {
        "jit": jit,
        "large_matmul_gflop_per_second": rate / 1e9,
        "mixers": rows,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument(
        "--block-sizes", type=int, nargs="+", default=[4, 16, 64, 256]
    )
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--matmul", type=int, default=4096)
    parser.add_argument("--out")
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    results = [measure(args, jit) for jit in (False, True)]
    if args.out:
        shapes = {key: getattr(args, key) for key in ("batch", "tokens", "dim")}
        report = {"shapes": shapes, "threads": THREADS, "results": results}
        os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
        with open(args.out, "w") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
