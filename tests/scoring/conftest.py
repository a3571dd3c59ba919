import dataclasses

import numpy as np
import pytest

from tests.scoring.linear_ranker import LinearRanker
from tests.small_log import small_frame
from tests.small_log import small_schema


@pytest.fixture(scope="module")
def frame():
    frame = small_frame(num_rows=200)
    rng = np.random.default_rng(5)
    frame["request"] = rng.permutation(frame["request"].to_numpy())
    frame["request"] = frame["request"] % 30  # Requests of unequal size.
    # What belongs to a request must not vary inside of it.
    first = frame.groupby("request").head(1).set_index("request")
    item = ["video_id", "price", "genres", "request", "is_click", "is_like"]
    for column in frame.columns.drop(item):
        frame[column] = frame["request"].map(first[column])
    frame.index = [f"row {i}" for i in rng.permutation(len(frame))]
    return frame


@pytest.fixture(scope="module")
def schema(frame):
    return dataclasses.replace(small_schema(frame), request_id="request")


@pytest.fixture(scope="module")
def model(schema):
    return LinearRanker(schema)
