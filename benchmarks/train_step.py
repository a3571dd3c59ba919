"""Time and utilization of one training step of MixFormer blocks.

    python benchmarks/train_step.py --out benchmarks/results/train_step.json

A step is forward, backward (to the weights and to both inputs, where a model
has its embeddings) and the optimizer. Utilization is the matrix products of
the step over its time, divided by the rate of one large matrix product: the
best time of several, with XLA and without, in the same process, in turns with
the steps.
"""

import argparse
import json
import os
import platform
import statistics
import time

THREADS = 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow hands every large tensor back to the system and gets the next one
# as fresh pages, which costs more than most element-wise operations on it. Its
# pooling allocator keeps them; it is read at import.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from keras_unirec import layers  # noqa: E402

REFERENCE_SECONDS = 1.16  # A public PyTorch implementation, same shapes.


class MixFormerBlocks(keras.Model):
    """Two inputs to one logit, through blocks as in eq. 3-9."""

    def __init__(self, args):
        super().__init__()
        history_map = None
        if args.event_dim != args.heads * args.dim:
            history_map = layers.HistoryMap(args.heads, args.dim)
        self.blocks = [
            (
                layers.QueryMixer(args.head_hidden),
                layers.HistoryEncoder(args.event_hidden),
                layers.HeadCrossAttention(history_map),
                layers.OutputFusion(args.head_hidden),
            )
            for _ in range(args.layers)
        ]
        self.head = keras.layers.Dense(1)

    def call(self, tokens, history, mask):
        for mixer, encoder, attention, fusion in self.blocks:
            read = attention(mixer(tokens), encoder(history), mask=mask)
            tokens = fusion(read)
        return self.head(keras.ops.mean(tokens, axis=-2))[..., 0]


def forward_macs(args):
    """Multiply-accumulates of one sample's forward pass, without padding.

    One candidate and literal events, whose slices are the heads: keys and
    values are absorbed, so that their kernels run once and not per event.
    """
    width = args.heads * args.dim
    network = 3 * args.heads * args.dim * args.head_hidden
    encoder = 3 * args.length * width * args.event_hidden
    key_value = 2 * args.heads * args.dim**2
    attention = 2 * args.length * width
    block = 2 * network + encoder + key_value + attention
    return args.layers * block + args.dim


def make_batch(args, candidates=1):
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(args.batch, candidates, args.heads, args.dim))
    history = rng.normal(size=(args.batch, args.length, args.event_dim))
    lengths = rng.integers(
        args.length // 2, args.length + 1, size=(args.batch, 1)
    )
    mask = np.arange(args.length) < lengths
    labels = rng.integers(0, 2, size=(args.batch, candidates))
    return (
        tf.constant(tokens, "float32"),
        tf.constant(history, "float32"),
        tf.constant(mask),
        tf.constant(labels, "float32"),
    )


def make_step(args, batch, jit):
    """Returns the compiled step of a fresh model."""
    keras.utils.set_random_seed(0)
    model = MixFormerBlocks(args)
    model(*(x[:1] for x in batch[:3]))
    optimizer = keras.optimizers.RMSprop(1e-3)
    optimizer.build(model.trainable_weights)
    loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function(jit_compile=jit)
    def step(tokens, history, mask, labels):
        with tf.GradientTape() as tape:
            tape.watch((tokens, history))
            loss = loss_fn(labels, model(tokens, history, mask))
        weights = model.trainable_weights
        gradients = tape.gradient(
            loss, [tokens, history, *(w.value for w in weights)]
        )
        optimizer.apply(gradients[2:], weights)
        return loss, gradients[:2]

    return step


def make_large_matmul(size, jit):
    matrix = tf.random.normal((size, size))

    @tf.function(jit_compile=bool(jit))
    def large_matmul():
        return tf.matmul(matrix, matrix)

    return large_matmul


def seconds(function, *inputs):
    start = time.perf_counter()
    function(*inputs)
    return time.perf_counter() - start


def measure(args, jit):
    batch = make_batch(args)
    step = make_step(args, batch, jit)

    large_matmuls = [make_large_matmul(args.matmul, jit) for jit in (0, 1)]
    compile_seconds = seconds(step, *batch)
    for _ in range(2):
        step(*batch)
        for large_matmul in large_matmuls:
            large_matmul()
    steps, matmuls = [], []
    # In turns: both see the same machine, whatever else it does.
    for i in range(args.steps):
        steps.append(seconds(step, *batch))
        if i % 4 == 0:
            matmuls.extend(seconds(function) for function in large_matmuls)

    flop = 3 * 2 * args.batch * forward_macs(args)
    rate = 2 * args.matmul**3 / min(matmuls)
    median = statistics.median(steps)
    return {
        "jit": jit,
        "seconds": {
            "median": median,
            "min": min(steps),
            "max": max(steps),
            "quartiles": statistics.quantiles(steps, n=4)[::2],
            "steps": len(steps),
        },
        "first_call_seconds": compile_seconds,
        "gflop": flop / 1e9,
        "gflop_per_second": flop / median / 1e9,
        "large_matmul_gflop_per_second": rate / 1e9,
        "utilization": flop / median / rate,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["mixformer"], default="mixformer")
    parser.add_argument("--jit", action=argparse.BooleanOptionalAction)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--event-hidden", type=int, default=128)
    parser.add_argument("--head-hidden", type=int, default=128)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--matmul", type=int, default=4096)
    parser.add_argument("--out")
    args = parser.parse_args()
    args.event_dim = args.heads * args.dim
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)

    results = []
    for jit in (False, True) if args.jit is None else (args.jit,):
        result = measure(args, jit)
        results.append(result)
        print(
            f"jit={jit!s:5}  median {result['seconds']['median']:.3f} s  "
            f"(min {result['seconds']['min']:.3f}, "
            f"max {result['seconds']['max']:.3f})  "
            f"{result['gflop']:.1f} GFLOP at "
            f"{result['gflop_per_second']:.0f} GFLOP/s, large matmul "
            f"{result['large_matmul_gflop_per_second']:.0f}: "
            f"utilization {result['utilization']:.0%}",
            flush=True,
        )
    if args.out:
        report = {
            "model": args.model,
            "shapes": {
                name: getattr(args, name)
                for name in (
                    "batch heads dim layers length event_hidden head_hidden"
                ).split()
            },
            "reference_seconds": REFERENCE_SECONDS,
            "threads": THREADS,
            "processor": platform.processor() or platform.machine(),
            "versions": {
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
            },
            "results": results,
        }
        os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
        with open(args.out, "w") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
