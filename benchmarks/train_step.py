"""Time and utilization of one training step of MixFormer blocks.

    python benchmarks/train_step.py --out benchmarks/results/train_step.json

A step is forward, backward (to the weights and to both inputs, where a model
has its embeddings) and the optimizer. Utilization is the matrix products of
the step over its time, divided by the rate of one large matrix product, timed
in the same process between the steps.
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

    def __init__(self, num_layers, head_hidden, event_hidden):
        super().__init__()
        self.blocks = [
            (
                layers.QueryMixer(head_hidden, name=f"query_mixer_{i}"),
                layers.HistoryEncoder(event_hidden, name=f"encoder_{i}"),
                layers.HeadCrossAttention(name=f"attention_{i}"),
                layers.OutputFusion(head_hidden, name=f"output_fusion_{i}"),
            )
            for i in range(num_layers)
        ]
        self.head = keras.layers.Dense(1, name="head")

    def call(self, tokens, history, mask):
        for mixer, encoder, attention, fusion in self.blocks:
            read = attention(mixer(tokens), encoder(history), mask=mask)
            tokens = fusion(read)
        return self.head(keras.ops.mean(tokens, axis=-2))[..., 0]


def forward_macs(args):
    """Multiply-accumulates of one sample's forward pass, without padding."""
    width = args.heads * args.dim
    network = 3 * args.heads * args.dim * args.head_hidden
    encoder = 3 * args.length * width * args.event_hidden
    key_value = 2 * args.heads * args.dim**2  # Absorbed: once, not per event.
    attention = 2 * args.length * width
    block = 2 * network + encoder + key_value + attention
    return args.layers * block + args.dim


def make_batch(args):
    rng = np.random.default_rng(0)
    batch, width = args.batch, args.heads * args.dim
    tokens = rng.normal(size=(batch, 1, args.heads, args.dim))
    history = rng.normal(size=(batch, args.length, width))
    lengths = rng.integers(args.length // 2, args.length + 1, size=(batch, 1))
    mask = np.arange(args.length) < lengths
    labels = rng.integers(0, 2, size=(batch, 1))
    return (
        tf.constant(tokens, "float32"),
        tf.constant(history, "float32"),
        tf.constant(mask),
        tf.constant(labels, "float32"),
    )


def make_step(model, optimizer, jit):
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


def seconds(function, *inputs):
    start = time.perf_counter()
    function(*inputs)
    return time.perf_counter() - start


def measure(args, jit):
    keras.utils.set_random_seed(0)
    model = MixFormerBlocks(args.layers, args.head_hidden, args.event_hidden)
    batch = make_batch(args)
    model(*(x[:1] for x in batch[:3]))
    optimizer = keras.optimizers.RMSprop(1e-3)
    optimizer.build(model.trainable_weights)
    step = make_step(model, optimizer, jit)

    matrix = tf.random.normal((args.matmul, args.matmul))
    large_matmul = tf.function(lambda: tf.matmul(matrix, matrix))
    compile_seconds = seconds(step, *batch)
    for _ in range(2):
        step(*batch)
        large_matmul()
    steps, matmuls = [], []
    for i in range(args.steps):
        steps.append(seconds(step, *batch))
        if i % 4 == 0:
            matmuls.append(seconds(large_matmul))

    flop = 3 * 2 * args.batch * forward_macs(args)
    rate = 2 * args.matmul**3 / statistics.median(matmuls)
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
