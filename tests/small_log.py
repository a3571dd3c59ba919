"""A small click log with every kind of column, for tests of whole models."""

import dataclasses

import numpy as np
import pandas as pd

import keras_unirec as ku


def small_frame(num_rows=64, seed=0):
    """Rows with strings, raw ids from 0, two histories and two labels."""
    rng = np.random.default_rng(seed)

    def history(values):
        return [list(values(length)) for length in lengths]

    lengths = rng.integers(0, 12, num_rows)
    lengths[0] = 0
    time_ms = rng.integers(1_650_000_000_000, 1_650_600_000_000, num_rows)
    frame = pd.DataFrame(
        {
            "user_id": rng.integers(0, 20, num_rows),
            "city": rng.choice(["Oslo", "Bergen", "Tromsø"], num_rows),
            "hour": rng.normal(12, 4, num_rows).astype("float32"),
            "video_id": rng.integers(0, 30, num_rows),
            "price": rng.gamma(2, 3, num_rows),
            "genres": [
                list(rng.choice(["a", "b", "c"], n, replace=False))
                for n in rng.integers(0, 4, num_rows)
            ],
            "time_ms": time_ms,
            "request": np.arange(num_rows) // 4,
            "is_click": rng.integers(0, 2, num_rows),
            "is_like": rng.integers(0, 2, num_rows),
            "hist_video_id": history(lambda n: rng.integers(0, 30, n)),
            "hist_click": history(lambda n: rng.integers(0, 2, n)),
        }
    )
    frame["hist_time_s"] = [
        sorted(time // 1000 - rng.integers(1, 90_000, n))
        for time, n in zip(time_ms, lengths)
    ]
    lengths = rng.integers(0, 5, num_rows)
    frame["liked_id"] = history(lambda n: rng.integers(0, 30, n))
    return frame


def small_schema(frame=None):
    """The adapted schema of `small_frame`."""
    frame = small_frame() if frame is None else frame
    videos = ku.ItemTable(
        pd.DataFrame(
            {
                "video_id": np.arange(30),
                "author": [f"author {i % 7}" for i in range(30)],
                "duration": np.linspace(3, 60, 30),
            }
        ),
        key="video_id",
        features=[
            ku.Categorical("author", embedding_dim=4, vocabulary="lookup"),
            ku.Numerical("duration"),
        ],
    )
    schema = ku.Schema(
        user=[
            ku.Categorical("user_id", 20, 4),
            ku.Categorical("city", embedding_dim=4, vocabulary="lookup"),
        ],
        context=[ku.Numerical("hour")],
        item=[
            ku.Categorical("video_id", 30, 8, table=videos),
            ku.Numerical("price", embedding_dim=4),
            ku.Categorical("genres", 50, 4, vocabulary="hash", max_length=2),
        ],
        sequences=[
            ku.Sequence(
                "watched",
                max_length=8,
                features=[
                    ku.Categorical("hist_video_id", share_with="video_id"),
                    ku.Categorical("hist_click", 2, 2),
                    ku.Timestamp("hist_time_s", unit="s"),
                ],
            ),
            ku.Sequence(
                "liked",
                max_length=4,
                features=[ku.Categorical("liked_id", share_with="video_id")],
            ),
        ],
        labels=[ku.Label("is_click"), ku.Label("is_like")],
        group_id="user_id",
        timestamp=ku.Timestamp("time_ms", unit="ms"),
    )
    return schema.adapt(frame)


def small_requests(frame=None):
    """`small_frame` as requests of four candidates, and its schema.

    The rows of a request have the user, context and histories of its first.
    """
    frame = small_frame() if frame is None else frame
    own = ["video_id", "price", "genres", "request", "is_click", "is_like"]
    shared = [name for name in frame if name not in own]
    first = frame.groupby("request").head(1).set_index("request")
    shared = first.loc[frame["request"], shared].reset_index(drop=True)
    frame = pd.concat([frame[own], shared], axis=1)
    schema = dataclasses.replace(small_schema(frame), request_id="request")
    return frame, schema


def small_batch(schema, requests=6, candidates=3, events=None, seed=0):
    """Random encoded inputs, labels and weights `(x, y, w)` of a schema."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for feature in schema.encoded:
        if feature.sequence is None:
            length = candidates
        else:
            length = schema.sequence(feature.sequence).max_length
            length = length if events is None else events
        shape = (
            requests,
            *(length if axis is None else axis for axis in feature.shape),
        )
        if feature.kind == "id":
            rows = schema.embeddings[feature.embedding].rows
            value = rng.integers(1, rows, shape).astype("int32")
        elif feature.kind == "gap":
            value = rng.integers(0, 10**6, shape).astype("int32")
        elif feature.kind == "length":
            value = rng.integers(0, length + 1, shape).astype("int32")
            value[0] = 0
        else:
            value = rng.normal(size=shape).astype("float32")
        inputs[feature.key] = value
    shape = (requests, candidates)
    labels = {
        name: rng.integers(0, 2, shape).astype("float32")
        for name in schema.label_names
    }
    return inputs, labels, np.ones(shape, "float32")
