"""Time and utilization of one training step of the blocks of a model.

    python benchmarks/train_step.py --out benchmarks/results/train_step.json
    python benchmarks/train_step.py --model hyformer
    python benchmarks/train_step.py --model rankmixer
    python benchmarks/train_step.py --model unimixer

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
from keras_unirec.layers.readers.query_decoding import decoding_macs  # noqa: E402


class Blocks(keras.Model):
    """Tokens (and a history) to one logit."""

    def __init__(self, args):
        super().__init__()
        self.blocks = [self.block(args) for _ in range(args.layers)]
        self.head = keras.layers.Dense(1)

    @staticmethod
    def step_macs(args):
        """What a step needs once, whatever the batch, forward."""
        return 0

    def logit(self, tokens):
        return self.head(keras.ops.mean(tokens, axis=-2))[..., 0]


class MixFormerBlocks(Blocks):
    """Eq. 3-9 of MixFormer."""

    reference_seconds = 1.16  # A public PyTorch implementation, same shapes.
    shapes = {
        "batch": 256,
        "heads": 16,
        "dim": 32,
        "layers": 2,
        "length": 100,
        "event_dim": 512,
        "event_hidden": 128,
        "hidden": 128,
    }

    def __init__(self, args):
        self.history_map = None
        if args.event_dim != args.heads * args.dim:
            self.history_map = layers.HistoryMap(args.heads, args.dim)
        super().__init__(args)

    def block(self, args):
        mixing, fusing = (
            layers.SwiGLU(args.hidden, per_token=True) for _ in range(2)
        )
        return (
            layers.QueryMixer(feed_forward=mixing),
            layers.HistoryEncoder(args.event_hidden),
            layers.HeadCrossAttention(self.history_map),
            layers.OutputFusion(fusing),
        )

    def call(self, tokens, history, mask):
        for mixer, encoder, attention, fusion in self.blocks:
            read = attention(mixer(tokens), encoder(history), mask=mask)
            tokens = fusion(read)
        return self.logit(tokens)

    @staticmethod
    def num_tokens(args):
        return args.heads

    @staticmethod
    def block_macs(args):
        """Literal events, whose slices are the heads, absorbed."""
        width = args.heads * args.dim
        network = 3 * args.heads * args.dim * args.hidden
        encoder = 3 * args.length * width * args.event_hidden
        key_value = 2 * args.heads * args.dim**2
        attention = 2 * args.length * width
        return 2 * network + encoder + key_value + attention


class HyFormerBlocks(Blocks):
    """Eq. 7-17 of HyFormer: queries first among the tokens."""

    reference_seconds = 1.49
    shapes = {
        "batch": 256,
        "queries": 6,
        "features": 10,
        "heads": 4,
        "dim": 256,
        "layers": 2,
        "length": 100,
        "event_dim": 256,
        "event_hidden": 512,
        "hidden": 1024,
        "recent": 0,
    }

    def __init__(self, args):
        super().__init__(args)
        self.num_queries = args.queries
        # The LONGER encoder for the most recent events, or SwiGLU for all.
        self.recent = args.recent and layers.HistoryMerge(args.recent)

    def block(self, args):
        return (
            layers.TransformerEncoder(args.heads, args.event_hidden)
            if args.recent
            else layers.HistoryEncoder(args.event_hidden),
            layers.QueryDecoding(args.heads),
            layers.QueryBoosting(feed_forward=layers.PerTokenFFN(args.hidden)),
        )

    def call(self, tokens, history, mask):
        queries = tokens[:, :, : self.num_queries]
        features = tokens[:, :, self.num_queries :]
        events, events_mask = history, mask
        if self.recent:
            events, events_mask = self.recent([history], [mask])
        for encoder, decoding, boosting in self.blocks:
            if self.recent:
                events = encoder(events, history, mask=mask)
            else:
                events = encoder(events)
            decoded = decoding(queries, events, mask=events_mask)
            tokens = keras.ops.concatenate([decoded, features], axis=-2)
            tokens = boosting(tokens)
            queries = tokens[:, :, : self.num_queries]
        return self.logit(tokens)

    @staticmethod
    def num_tokens(args):
        return args.queries + args.features

    @staticmethod
    def block_macs(args):
        event = args.event_dim
        encoded = args.recent or args.length
        decoding = min(
            decoding_macs(
                args.queries,
                encoded,
                args.heads,
                args.dim // args.heads,
                event,
            ).values()
        )
        decoding += 2 * args.queries * args.dim**2
        if args.recent:
            encoder = args.recent * 2 * event * (event + args.event_hidden)
            encoder += 2 * args.length * event * (event + args.recent)
        else:
            encoder = 3 * args.length * event * args.event_hidden
        tokens = args.queries + args.features
        return encoder + decoding + 2 * tokens * args.dim * args.hidden


class RankMixerBlocks(Blocks):
    """Token mixing and per-token networks; no history."""

    reference_seconds = 0.20
    shapes = {
        "batch": 256,
        "tokens": 16,
        "dim": 256,
        "layers": 2,
        "hidden": 1024,
        "length": 1,
        "event_dim": 1,
    }

    def block(self, args):
        return layers.QueryMixer(
            feed_forward=layers.PerTokenFFN(args.hidden),
            residual="post_layer",
        )

    def call(self, tokens, history, mask):
        for block in self.blocks:
            tokens = block(tokens)
        return self.logit(tokens)

    @staticmethod
    def num_tokens(args):
        return args.tokens

    @staticmethod
    def block_macs(args):
        return 2 * args.tokens * args.dim * args.hidden


class UniMixerBlocks(Blocks):
    """UniMixing-Lite and per-token SwiGLU on the streams of SiameseNorm."""

    reference_seconds = 0.37
    shapes = {
        "batch": 256,
        "tokens": 16,
        "dim": 256,
        "layers": 2,
        "hidden": 1024,
        "block_size": 256,
        "bases": 4,
        "rank": 2,
        "iterations": 20,
        "length": 1,
        "event_dim": 1,
    }

    def __init__(self, args):
        super().__init__(args)
        self.residual = layers.SiameseNorm()

    def block(self, args):
        mixing = layers.UniMixingLite(
            args.block_size,
            args.bases,
            args.rank,
            num_iterations=args.iterations,
        )
        network = layers.SwiGLU(args.hidden, per_token=True)
        return layers.UniMixerBlock(mixing, network)

    def call(self, tokens, history, mask):
        streams = self.residual.start(tokens)
        for block in self.blocks:
            streams = self.residual.step(streams, block)
        return self.logit(self.residual.finish(streams))

    @staticmethod
    def num_tokens(args):
        return args.tokens

    @staticmethod
    def block_macs(args):
        width = args.tokens * args.dim
        network = 3 * width * args.hidden
        return network + width * (args.block_size + width // args.block_size)

    @staticmethod
    def step_macs(args):
        n = args.tokens * args.dim // args.block_size
        local, mixing = n * args.block_size**2, n**2
        scales = 2 * (args.iterations - 1) * (local + mixing)
        return args.layers * (args.bases * local + args.rank * mixing + scales)


MODELS = {
    "mixformer": MixFormerBlocks,
    "hyformer": HyFormerBlocks,
    "rankmixer": RankMixerBlocks,
    "unimixer": UniMixerBlocks,
}


def make_batch(args, candidates=1):
    rng = np.random.default_rng(0)
    num_tokens = MODELS[args.model].num_tokens(args)
    tokens = rng.normal(size=(args.batch, candidates, num_tokens, args.dim))
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
    model = MODELS[args.model](args)
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
            loss,
            [tokens, history, *(w.value for w in weights)],
            unconnected_gradients="zero",
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

    # One candidate a request; backward takes twice the forward pass.
    model = MODELS[args.model]
    macs = args.batch * (args.layers * model.block_macs(args) + args.dim)
    flop = 3 * 2 * (macs + model.step_macs(args))
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
    parser.add_argument("--model", choices=MODELS, default="mixformer")
    parser.add_argument("--jit", action=argparse.BooleanOptionalAction)
    for name in sorted({name for m in MODELS.values() for name in m.shapes}):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--matmul", type=int, default=4096)
    parser.add_argument("--out")
    args = parser.parse_args()
    model = MODELS[args.model]
    for name, value in model.shapes.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
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
            "shapes": {name: getattr(args, name) for name in model.shapes},
            "reference_seconds": model.reference_seconds,
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
