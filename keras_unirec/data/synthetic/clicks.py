"""What decides a click: the parts of the logit, (requests, candidates)."""

import numpy as np

from keras_unirec.data.synthetic.population import DAY_MS
from keras_unirec.data.synthetic.population import DEVICES
from keras_unirec.data.synthetic.population import MAX_LIKES
from keras_unirec.data.synthetic.population import MAX_SEARCHES
from keras_unirec.data.synthetic.population import SEGMENTS
from keras_unirec.data.synthetic.population import TABS
from keras_unirec.data.synthetic.population import events_before
from keras_unirec.metrics.log_loss import sigmoid

# The click model. Each number is a weight in the logit.
_BIAS = -1.4
_WATCHED_TAG = 3.0
_WATCHED_AUTHOR = 1.5
_LIKED_TAG = 3.0
_SEARCHED_TAG = 1.2
_WATCHED_HALF_LIFE_MS = 4 * DAY_MS
_SEARCHED_HALF_LIFE_MS = 2 * DAY_MS
# A factor of a cross is this plus or minus 1. With a mean of 0 the product
# would be a parity, which gradient descent finds late or never.
_CROSS_MEAN = 0.5
_DEVICE_TAB_TAG = 0.6
_SEGMENT_TAB_TAG = 0.6


def effects(rng, requests, users, items):
    item = requests["item"]
    quality = rng.normal(0.0, 0.4, len(items["tag"]))
    duration = -0.2 * (np.log(items["duration_s"]) - 3.5)
    segment = rng.normal(0.0, 0.3, len(SEGMENTS))[users["segment"]]
    hour = 0.2 * np.sin(2.0 * np.pi * requests["hour"] / 24.0)
    of_request = segment[requests["user"]] + hour
    return _BIAS + (quality + duration)[item] + of_request[:, None]


def crosses(rng, requests, users, items, num_tags):
    def factor(size):
        """Two values in equal shares, whose mean is not 0."""
        signs = np.where(np.arange(size) % 2 == 0, 1.0, -1.0)
        return _CROSS_MEAN + rng.permutation(signs)

    device = requests["device"]
    tab = requests["tab"]
    segment = users["segment"][requests["user"]]
    tag = items["tag"][requests["item"]]
    device_tab = factor(len(DEVICES))[device] * factor(len(TABS))[tab]
    segment_tab = factor(len(SEGMENTS))[segment] * factor(len(TABS))[tab]
    return (
        _DEVICE_TAB_TAG * device_tab[:, None] * factor(num_tags)[tag]
        + _SEGMENT_TAB_TAG * segment_tab[:, None] * factor(num_tags)[tag]
    )


def _matches(requests, events, tag_of_event, items, max_length, half_life_ms):
    """Events with the candidate's tag, decayed; and the number of events."""
    start, end = events_before(events, requests, max_length)
    matches = np.empty(requests["item"].shape)
    for i in range(0, len(end), 20_000):  # Bounds the memory.
        chunk = slice(i, i + 20_000)
        index = end[chunk, None] - 1 - np.arange(max_length)
        real = index >= start[chunk, None]
        index = np.maximum(index, 0)
        weight = real.astype("float32")
        if len(events["time_ms"]) == 0:
            matches[chunk] = 0.0
            continue
        if half_life_ms is not None:
            gap = requests["time_ms"][chunk, None] - events["time_ms"][index]
            weight *= np.exp2(-np.maximum(gap, 0) / half_life_ms)
        tag = items["tag"][requests["item"][chunk]]
        same = tag_of_event[index][:, None, :] == tag[:, :, None]
        matches[chunk] = np.einsum("rct,rt->rc", same, weight)
    return matches, end - start


def liked(requests, likes, items):
    matches, count = _matches(
        requests, likes, items["tag"][likes["item"]], items, MAX_LIKES, None
    )
    return _LIKED_TAG * matches / (2.0 + count[:, None])


def searched(requests, searches, items):
    matches, _ = _matches(
        requests,
        searches,
        searches["tag"],
        items,
        MAX_SEARCHES,
        _SEARCHED_HALF_LIFE_MS,
    )
    return _SEARCHED_TAG * np.tanh(2.0 * matches)


def simulate_clicks(rng, requests, items, logits, history_length):
    """Draws the clicks; each depends on the user's earlier ones.

    Round k draws the k-th request of every user at once.

    Returns:
        The clicks, and the part of the watched items in the logits.
    """
    num_requests, num_candidates = logits.shape
    tag = items["tag"][requests["item"]]
    author = items["author"][requests["item"]]
    event_tag, event_author = tag.reshape(-1), author.reshape(-1)
    time_ms = np.repeat(requests["time_ms"], num_candidates)
    clicks = np.zeros(logits.size, dtype="float32")
    watched = np.empty_like(logits)
    noise = rng.random(logits.shape)

    rank = np.arange(num_requests) - requests["first"]
    by_rank = np.argsort(rank, kind="stable")
    ends = np.cumsum(np.bincount(rank))
    recent = np.arange(-history_length, 0)
    matches = (
        (event_tag, tag, _WATCHED_TAG),
        (event_author, author, _WATCHED_AUTHOR),
    )
    for begin, end in zip(np.append(0, ends[:-1]), ends):
        now = by_rank[begin:end]
        index = now[:, None] * num_candidates + recent
        real = index >= requests["first"][now, None] * num_candidates
        index = np.maximum(index, 0)
        gap = requests["time_ms"][now, None] - time_ms[index]
        weight = real * np.exp2(-np.where(real, gap, 0) / _WATCHED_HALF_LIFE_MS)
        weights = np.stack([weight * (clicks[index] - 0.4), weight], axis=-1)
        watched[now] = 0.0
        for of_event, of_candidate, scale in matches:
            same = of_event[index][:, None, :] == of_candidate[now][:, :, None]
            total = same.astype("float32") @ weights.astype("float32")
            # Clicks above average among matches, shrunk where they are few.
            watched[now] += scale * total[..., 0] / (0.5 + total[..., 1])
        probability = sigmoid(logits[now] + watched[now])
        drawn = now[:, None] * num_candidates + np.arange(num_candidates)
        clicks[drawn] = noise[now] < probability
    return clicks.reshape(logits.shape).astype("int64"), watched
