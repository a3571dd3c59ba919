"""Latency of exported models by candidates: the user computed once, or not.

    python benchmarks/serving.py --out benchmarks/results/serving

Writes a JSON file and a plot like Figure 6 of MixFormer (arXiv 2602.14110).
One request is one user with a history of 512 events and C candidates, raw
columns in and probabilities out, three ways:

- pointwise: MixFormer, every candidate a request with the user's columns;
- MixFormer: one request, whose encoded history all candidates share;
- UI-MixFormer: its user heads are shared as well; also compiled by XLA, with
  candidates padded to a power of two.

Next to the measured speed-up stands the one that the matrix products allow
(`profile`). All times are of one process, the ways in turns. Then: a state
that is kept between requests, clients of a gRPC server (the stand-in of
`examples/prediction_server.py` in the same process, no TF Serving), and the
peak memory, each in a process of its own.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On a CPU: TensorFlow keeps the memory of large tensors, read at import.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import tensorflow as tf  # noqa: E402
from accuracy import written  # noqa: E402

import keras_unirec as ku  # noqa: E402
from keras_unirec import layers  # noqa: E402

LENGTH = 512
CANDIDATES = (50, 100, 200, 500, 1000, 2000)
# Candidates of a call of the pointwise way: its memory grows with them.
POINTWISE_ROWS = 50
NUM_ITEMS = 100_000
NETWORK = layers.SwiGLU(ratio=2, per_token=True)
# Absorbed whatever the number of candidates: what the export runs.
ABSORBED = layers.HeadCrossAttention(kv_mode="absorbed")
PARTS = {
    "num_heads": 16,
    "dim": 128,
    "num_layers": 2,
    "events": layers.Events(256),
    "encoder": layers.HistoryEncoder(256),
    "feed_forward": NETWORK,
    "reader": ABSORBED,
    "fusion": NETWORK,
}


def make_schema(length=LENGTH, request_id=None):
    """8 columns of the user, 7 of the item, one history; a head each."""
    return ku.Schema(
        user=[ku.Categorical(f"user_{i}", 1_000, 16) for i in range(8)],
        item=[
            ku.Categorical("item_id", NUM_ITEMS, 32),
            *(ku.Categorical(f"item_{i}", 1_000, 16) for i in range(6)),
        ],
        sequences=[
            ku.Sequence(
                "watched",
                length,
                [
                    ku.Categorical("watched_id", share_with="item_id"),
                    ku.Categorical("watched_action", 8, 16),
                ],
            )
        ],
        labels=[ku.Label("click")],
        request_id=request_id,
    )


def make_frame(requests, candidates, length=LENGTH, seed=0):
    """Random rows; those of a request follow each other."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(requests), candidates)
    frame = {"request": rows, "click": rng.integers(0, 2, len(rows))}
    for i in range(8):
        frame[f"user_{i}"] = rng.integers(0, 1_000, requests)[rows]
    frame["item_id"] = rng.integers(0, NUM_ITEMS, len(rows))
    for i in range(6):
        frame[f"item_{i}"] = rng.integers(0, 1_000, len(rows))
    for name, high in (("watched_id", NUM_ITEMS), ("watched_action", 8)):
        events = list(rng.integers(0, high, (requests, length)))
        frame[name] = [events[row] for row in rows]
    return pd.DataFrame(frame)


def raw_request(schema, candidates, seed=0):
    frame = make_frame(1, candidates, seed=seed)
    return ku.serving.raw_inputs(frame, schema, requests=True)


def export(folder, schema):
    """Exports the models, and checks them against `predict`."""
    models = {
        "mixformer": ku.applications.MixFormer(schema, **PARTS),
        "ui_mixformer": ku.applications.UIMixFormer(
            schema, num_item_heads=8, **PARTS
        ),
    }
    frame = make_frame(2, 60)
    raw = ku.serving.raw_inputs(frame, schema, requests=True)
    errors = {}
    for name, model in models.items():
        model.export(
            f"{folder}/{name}/1",
            warmup=raw,
            xla_signatures=name == "ui_mixformer",
        )
        signatures = load(folder, name)
        state = call(signatures["encode_user"], raw)
        served = {
            "serving_default": call(signatures["serving_default"], raw),
            "score_items": call(signatures["score_items"], {**raw, **state}),
        }
        expected = ku.predict(model, frame)["click"].to_numpy()
        errors[name] = {
            key: float(np.abs(out["click"].numpy().ravel() - expected).max())
            for key, out in served.items()
        }
    return models, errors


def load(folder, name):
    loaded = tf.saved_model.load(f"{folder}/{name}/1")
    signatures = dict(loaded.signatures)
    signatures["module"] = loaded  # Its weights live as long as this does.
    return signatures


def call(signature, inputs):
    names = signature.structured_input_signature[1]
    return signature(**{name: tf.constant(inputs[name]) for name in names})


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def spread(times):
    times = np.sort(times)
    return {
        "p50": float(np.median(times)),
        "min": float(times[0]),
        "max": float(times[-1]),
        "runs": len(times),
    }


def latency_by_candidates(folder, models, schema, rounds):
    """Times the three ways in turns, for every number of candidates."""
    loaded = {name: load(folder, name) for name in models}
    results = []
    for candidates in CANDIDATES:
        raw = raw_request(schema, candidates)
        items = [k for k, v in raw.items() if v.shape == (1, candidates)]
        rows = [
            {
                k: v[0, i : i + POINTWISE_ROWS, None]
                if k in items
                else np.repeat(v, min(POINTWISE_ROWS, candidates - i), axis=0)
                for k, v in raw.items()
            }
            for i in range(0, candidates, POINTWISE_ROWS)
        ]

        def pointwise():
            for some in rows:
                call(loaded["mixformer"]["serving_default"], some)

        def whole(name):
            return lambda: call(loaded[name]["serving_default"], raw)

        ways = {
            "pointwise": pointwise,
            **{name: whole(name) for name in models},
        }
        ways["ui_mixformer_xla"] = lambda: call(
            loaded["ui_mixformer"]["serving_default_xla"], raw
        )
        flops = {
            name: ku.analysis.profile(model, candidates=candidates).flops
            for name, model in models.items()
        }
        flops["pointwise"] = (
            candidates * ku.analysis.profile(models["mixformer"]).flops
        )
        times = {way: [] for way in ways}
        for way in ways.values():
            way()
        for i in range(rounds):
            for way, function in ways.items():
                if way != "pointwise" or i < 3:
                    times[way].append(seconds(function))
        p50 = {way: np.median(t) for way, t in times.items()}
        speed_up = p50["mixformer"] / p50["ui_mixformer"]
        allowed = flops["mixformer"] / flops["ui_mixformer"]
        results.append(
            {
                "candidates": candidates,
                "seconds": {way: spread(t) for way, t in times.items()},
                "gflops": {way: n / 1e9 for way, n in flops.items()},
                "speed_up_of_ui": speed_up,
                "speed_up_that_flops_allow": allowed,
                "share_of_the_limit": speed_up / allowed,
                "ui_over_pointwise": p50["pointwise"] / p50["ui_mixformer"],
                "pointwise_flops_over_ui": flops["pointwise"]
                / flops["ui_mixformer"],
            }
        )
        print(
            f"C={candidates:5} "
            + " ".join(f"{way} {1e3 * t:8.1f} ms" for way, t in p50.items())
            + f"  UI {speed_up:.2f} x (FLOPs: {allowed:.2f} x), "
            f"{results[-1]['ui_over_pointwise']:.1f} x pointwise",
            flush=True,
        )
    return results


def kept_state(folder, schema, candidates, rounds):
    """Requests of a user whose state is kept, against computing it anew."""
    results = {}
    raw = raw_request(schema, candidates)
    for name in ("mixformer", "ui_mixformer"):
        signatures = load(folder, name)
        state = call(signatures["encode_user"], raw)
        ways = {
            "serving_default": lambda: call(signatures["serving_default"], raw),
            "score_items": lambda: call(
                signatures["score_items"], {**raw, **state}
            ),
            "encode_user": lambda: call(signatures["encode_user"], raw),
        }
        times = {way: [] for way in ways}
        for way in ways.values():
            way()
        for _ in range(rounds):
            for way, function in ways.items():
                times[way].append(seconds(function))
        results[name] = {
            way: {**spread(t), "p99": float(np.quantile(t, 0.99))}
            for way, t in times.items()
        }
        results[name]["state_bytes"] = sum(
            tensor.numpy().nbytes for tensor in state.values()
        )
    return {"candidates": candidates, **results}


def clients(folder, schema, candidates, calls):
    """Latency and throughput of clients over gRPC, by their number."""
    root = pathlib.Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root / "examples"))
    import grpc
    from prediction_server import PredictionServer
    from tensorflow_serving.apis import predict_pb2
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    results = []
    requests = []
    for seed in range(16):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "ranker"
        for key, value in raw_request(schema, candidates, seed).items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        requests.append(request)
    with PredictionServer(f"{folder}/ui_mixformer", "ranker") as server:

        def client(seed):
            times = []
            with grpc.insecure_channel(server.address) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(
                    channel
                )
                for _ in range(calls):
                    start = time.perf_counter()
                    stub.Predict(requests[seed])
                    times.append(time.perf_counter() - start)
            return times

        client(0)
        for number in (1, 4, 16):
            start = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(number) as executor:
                times = sum(executor.map(client, range(number)), [])
            wall = time.perf_counter() - start
            results.append(
                {
                    "clients": number,
                    "p50": float(np.median(times)),
                    "p99": float(np.quantile(times, 0.99)),
                    "requests_per_second": len(times) / wall,
                    "candidates_per_second": len(times) * candidates / wall,
                }
            )
            print(results[-1], flush=True)
    return {"candidates": candidates, "calls": calls, "results": results}


def peak_memory(folder, candidates):
    """MiB that scoring takes at its peak, over that of the loaded model."""
    output = subprocess.run(
        [
            *(sys.executable, __file__, "--memory", str(candidates)),
            *("--folder", folder),
        ],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])


def memory(folder, candidates):
    def peak():
        # Linux. `ru_maxrss` would begin with that of the parent.
        status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024

    path = pathlib.Path(folder, "ui_mixformer", "1", "schema.json")
    schema = ku.Schema.from_json(path.read_text(encoding="utf-8"))
    raw = raw_request(schema, candidates)
    signatures = load(folder, "ui_mixformer")
    # One candidate: what does not grow with their number.
    call(signatures["serving_default"], raw_request(schema, 1))
    start = peak()
    for _ in range(3):
        call(signatures["serving_default"], raw)
    return {
        "candidates": candidates,
        "peak_mib": peak(),
        "more_mib": peak() - start,
    }


def paper_size():
    """FLOPs of the three ways at the paper's medium widths, T = 512."""
    results = []
    one = ku.analysis.profile("mixformer_medium").flops
    for candidates in CANDIDATES:
        shared, decoupled = (
            ku.analysis.profile(
                name, candidates=candidates, reader=ABSORBED
            ).flops
            for name in ("mixformer_medium", "ui_mixformer_medium")
        )
        results.append(
            {
                "candidates": candidates,
                "gflops": {
                    "pointwise": candidates * one / 1e9,
                    "mixformer": shared / 1e9,
                    "ui_mixformer": decoupled / 1e9,
                },
                "speed_up_that_flops_allow": shared / decoupled,
                "pointwise_flops_over_ui": candidates * one / decoupled,
            }
        )
    return results


def plot(results, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2))
    rows = results["latency"]
    places = np.arange(len(rows))
    labels = {"mixformer": "MixFormer", "ui_mixformer": "UI-MixFormer"}
    for i, (way, label) in enumerate(labels.items()):
        times = [1e3 * row["seconds"][way]["p50"] for row in rows]
        left.bar(places + 0.4 * i - 0.2, times, 0.38, label=label)
    left.set_ylabel("milliseconds of a request (p50)")
    left.legend(loc="upper left")
    saved = left.twinx()
    for key, style, label in (
        ("speed_up_of_ui", "ko-", "time saved"),
        ("speed_up_that_flops_allow", "k:", "FLOPs saved"),
    ):
        saved.plot(
            places, [100 - 100 / row[key] for row in rows], style, label=label
        )
    saved.set_ylim(0, 60)
    saved.set_ylabel("% that UI-MixFormer saves")
    saved.legend(loc="upper left", bbox_to_anchor=(0.28, 1.0))
    for way, label in {"pointwise": "pointwise", **labels}.items():
        right.plot(
            places,
            [row["seconds"][way]["p50"] for row in rows],
            "o-",
            label=label,
        )
    right.set_yscale("log")
    right.set_ylabel("seconds of a request (p50)")
    right.grid(alpha=0.3)
    right.legend()
    for axis in (left, right):
        axis.set_xticks(places, [row["candidates"] for row in rows])
        axis.set_xlabel("candidates of a request")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=40, help="of a client")
    parser.add_argument("--memory", type=int, help="one number of candidates")
    parser.add_argument("--folder", help="of the exports, for --memory")
    parser.add_argument("--out", help="path without extension")
    args = parser.parse_args()
    if args.memory is not None:
        print(json.dumps(memory(args.folder, args.memory)))
        return
    schema = make_schema(request_id="request").adapt(make_frame(8, 4))
    with tempfile.TemporaryDirectory() as folder:
        models, errors = export(folder, schema)
        results = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "tensorflow": tf.__version__,
            "parts": written(PARTS),
            "history_length": LENGTH,
            "pointwise_rows": POINTWISE_ROWS,
            "error_against_predict": errors,
            "latency": latency_by_candidates(
                folder, models, schema, args.rounds
            ),
            "kept_state": [
                kept_state(folder, schema, number, 4 * args.rounds)
                for number in (50, 1_000)
            ],
            "clients": clients(folder, schema, 200, args.calls),
            "peak_memory": [
                peak_memory(folder, number) for number in (50, 2_000, 10_000)
            ],
            "medium": paper_size(),
        }
    print(
        json.dumps(
            {k: v for k, v in results.items() if k != "latency"}, indent=2
        )
    )
    if args.out:
        with open(f"{args.out}.json", "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)
            file.write("\n")
        plot(results, f"{args.out}.png")


if __name__ == "__main__":
    main()
