import time

import numpy as np
import pandas as pd

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.serving._loading import load_export


def measure_latency(export_dir, raw, candidates=(1, 10, 100, 1_000), runs=30):
    """Times an exported model in this process, by number of candidates.

    One request of one user, in the ways that a service may score it, in turns:
    `serving_default`; `encode_user` and `score_items`, whose time is that of a
    request with a kept state; and the candidates as rows, `serving_default` on
    as many requests of one candidate with the columns of the user repeated.
    Of a model with `_xla` signatures these are timed too. Calls from Python,
    without a network: about half a millisecond of each is Python.

    Args:
        export_dir: Folder of one version, as `model.export` writes it.
        raw: dict of raw inputs, as `keras_unirec.serving.raw_inputs` returns
            it. Its first request is timed; its candidates are repeated as
            often as needed.
        candidates: Tuple of int. Defaults to `(1, 10, 100, 1000)`.
        runs: int. Timed calls of each way, after two that warm up. Defaults
            to `30`.

    Returns:
        `pandas.DataFrame` with one row per number of candidates and way, and
        the columns `candidates`, `way`, `p50_ms`, `p99_ms`, `min_ms`. Ways are
        the signatures and `"rows"`.

    Raises:
        ValueError: If `export_dir` is no export of this library, an input is
            missing, `raw` has no request or no candidate, or a number is not
            positive.

    Example:
    ```python
    raw = keras_unirec.serving.raw_inputs(df[:1], schema)
    times = keras_unirec.serving.measure_latency("exported/1", raw)
    times.pivot(index="candidates", columns="way", values="p50_ms")
    ```
    """
    import tensorflow as tf

    check_positive_integers(runs=runs)
    if not isinstance(candidates, (list, tuple)) or not candidates:
        raise ValueError(
            "`candidates` must be a list of numbers. "
            f"Received: candidates={candidates!r}"
        )
    for number in candidates:
        check_positive_integers(candidates=number)
    loaded = load_export(export_dir)
    signatures = loaded.signatures
    if not {"serving_default", "encode_user", "score_items"} <= set(signatures):
        raise ValueError(
            "`export_dir` must hold the signatures of `model.export`. "
            f"Received: {sorted(signatures)}"
        )

    def inputs_of(name):
        return signatures[name].structured_input_signature[1]

    state = set(signatures["encode_user"].structured_outputs)
    items = [name for name in inputs_of("score_items") if name not in state]
    needed = inputs_of("serving_default")
    missing = sorted(set(needed) - set(raw))
    if missing:
        raise ValueError(
            f"`raw` must hold the inputs {sorted(needed)}. Received: "
            f"{sorted(raw)}, without {missing}"
        )
    raw = {name: np.asarray(raw[name])[:1] for name in needed}
    shape = raw[items[0]].shape[:2]
    if 0 in shape:
        raise ValueError(
            "`raw` must hold a request with a candidate. Received: "
            f"`{items[0]}` of shape {shape}"
        )

    def request(number, as_rows=False):
        inputs = {}
        for name, value in raw.items():
            if name in items:
                value = value[:, np.arange(number) % value.shape[1]]
                value = np.swapaxes(value, 0, 1) if as_rows else value
            elif as_rows:
                value = np.repeat(value, number, axis=0)
            inputs[name] = tf.constant(value, needed[name].dtype)
        return inputs

    def caller(name, inputs):
        some = {key: inputs[key] for key in inputs_of(name)}
        return lambda: signatures[name](**some)

    rows = []
    for number in candidates:
        whole = request(number)
        ways = {}
        for suffix in ("", "_xla"):
            if f"encode_user{suffix}" not in signatures:
                continue
            encode = caller(f"encode_user{suffix}", whole)
            ways[f"serving_default{suffix}"] = caller(
                f"serving_default{suffix}", whole
            )
            ways[f"encode_user{suffix}"] = encode
            ways[f"score_items{suffix}"] = caller(
                f"score_items{suffix}", {**whole, **encode()}
            )
        ways["rows"] = caller("serving_default", request(number, as_rows=True))
        times = {way: [] for way in ways}
        for _ in range(runs + 2):
            for way, call in ways.items():
                start = time.perf_counter()
                call()
                times[way].append(time.perf_counter() - start)
        for way in ways:
            taken = 1e3 * np.array(times[way][2:])
            rows.append(
                {
                    "candidates": number,
                    "way": way,
                    "p50_ms": np.median(taken),
                    "p99_ms": np.quantile(taken, 0.99),
                    "min_ms": taken.min(),
                }
            )
    return pd.DataFrame(rows)
