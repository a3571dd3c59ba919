"""What the user of a synthetic log sees: its columns and their schema."""

import numpy as np
import pandas as pd
import pyarrow as pa

from keras_unirec import schema as schemas
from keras_unirec.data import _histories
from keras_unirec.data.synthetic.population import DEVICES
from keras_unirec.data.synthetic.population import MAX_LIKES
from keras_unirec.data.synthetic.population import MAX_SEARCHES
from keras_unirec.data.synthetic.population import NUM_CITIES
from keras_unirec.data.synthetic.population import SEGMENTS
from keras_unirec.data.synthetic.population import TABS
from keras_unirec.data.synthetic.population import events_before


def make_frame(order, requests, users, clicks, likes, searches, history_length):
    """One row per impression; `order` sorts the requests."""
    num_candidates = clicks.shape[1]

    def of_request(values):
        return np.repeat(values[order], num_candidates)

    def strings(names, codes):
        return pd.array(pa.array(names).take(pa.array(codes)), dtype="str")

    user = of_request(requests["user"])
    shown = {
        "user": np.repeat(requests["user"], num_candidates),
        "time_ms": np.repeat(requests["time_ms"], num_candidates),
        "item": requests["item"].reshape(-1).astype("int32"),
        "click": clicks.reshape(-1).astype("int8"),
    }
    cities = [f"city {i}" for i in range(NUM_CITIES)]
    columns = {
        "request_id": np.repeat(np.arange(len(order)), num_candidates),
        "user_id": user,
        "user_segment": strings(SEGMENTS, users["segment"][user]),
        "user_age": users["age"][user],
        "city": strings(cities, of_request(requests["city"])),
        "device": strings(DEVICES, of_request(requests["device"])),
        "tab": strings(TABS, of_request(requests["tab"])),
        "hour": of_request(requests["hour"]),
        "time_ms": of_request(requests["time_ms"]),
        "item_id": requests["item"][order].reshape(-1),
    }
    queries = pa.array(searches["query_names"])
    queries = queries.take(pa.array(searches["query"]))
    histories = (
        (shown, history_length, "watched_item_id", shown["item"]),
        (shown, history_length, "watched_click", shown["click"]),
        (shown, history_length, "watched_time_ms", shown["time_ms"]),
        (likes, MAX_LIKES, "liked_item_id", likes["item"]),
        (likes, MAX_LIKES, "liked_time_ms", likes["time_ms"]),
        (searches, MAX_SEARCHES, "search_query", queries),
        (searches, MAX_SEARCHES, "search_time_ms", searches["time_ms"]),
    )
    for events, max_length, name, values in histories:
        start, end = events_before(events, requests, max_length)
        columns[name] = _histories.list_column(
            values, of_request(start), of_request(end)
        )
    columns["click"] = clicks[order].reshape(-1)
    return pd.DataFrame(columns)


def make_schema(items, history_length):
    def lookup(name, dim, **kwargs):
        return schemas.Categorical(
            name, embedding_dim=dim, vocabulary="lookup", **kwargs
        )

    def items_of(name):
        return schemas.Categorical(name, share_with="item_id")

    table = schemas.ItemTable(
        items,
        key="item_id",
        features=[
            lookup("author_id", 16),
            # Wide enough to tell tags apart when they are matched.
            lookup("tag", 16),
            schemas.Numerical("duration_s"),
        ],
    )
    return schemas.Schema(
        user=[lookup("user_segment", 8), schemas.Numerical("user_age")],
        context=[
            schemas.Categorical(
                "city",
                num_values=1_000,
                embedding_dim=4,
                vocabulary="hash",
            ),
            lookup("device", 8),
            lookup("tab", 8),
            schemas.Categorical("hour", num_values=24, embedding_dim=8),
        ],
        item=[
            schemas.Categorical(
                "item_id",
                num_values=len(items),
                embedding_dim=16,
                table=table,
            )
        ],
        sequences=[
            schemas.Sequence(
                "watched",
                max_length=history_length,
                features=[
                    items_of("watched_item_id"),
                    schemas.Categorical(
                        "watched_click", num_values=2, embedding_dim=4
                    ),
                    schemas.Timestamp("watched_time_ms", unit="ms"),
                ],
            ),
            schemas.Sequence(
                "liked",
                max_length=MAX_LIKES,
                features=[
                    items_of("liked_item_id"),
                    schemas.Timestamp("liked_time_ms", unit="ms"),
                ],
            ),
            schemas.Sequence(
                "searched",
                max_length=MAX_SEARCHES,
                features=[
                    lookup("search_query", 16),
                    schemas.Timestamp("search_time_ms", unit="ms"),
                ],
            ),
        ],
        labels=[schemas.Label("click")],
        request_id="request_id",
        group_id="user_id",
        timestamp=schemas.Timestamp("time_ms", unit="ms"),
    )
