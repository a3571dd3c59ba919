"""What there is in a synthetic log: items, users, requests and events."""

import numpy as np

from keras_unirec.data import _histories

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_704_067_200_000  # 2024-01-01, UTC

DEVICES = ("android", "ios", "tablet", "web")
TABS = ("feed", "following", "nearby", "search")
SEGMENTS = ("casual", "creator", "heavy", "lapsed", "new", "regular")
NUM_CITIES = 300
MAX_LIKES = 20
MAX_SEARCHES = 10
_QUERIES_PER_TAG = 2


def make_items(rng, num_items, num_tags):
    num_authors = max(1, num_items // 6)
    author = rng.integers(num_authors, size=num_items)
    # Most items of an author are about one tag.
    tag = np.where(
        rng.random(num_items) < 0.7,
        rng.permutation(num_authors)[author] % num_tags,
        rng.integers(num_tags, size=num_items),
    )
    popularity = rng.permutation(1.0 / np.sqrt(1.0 + np.arange(num_items)))
    return {
        "author": author,
        "author_id": rng.integers(10**6, 10**9, size=num_authors)[author],
        "tag": tag,
        "tag_name": np.array([f"tag_{i:02d}" for i in range(num_tags)])[tag],
        "duration_s": np.round(np.exp(rng.normal(3.5, 0.8, num_items)), 1),
        "popularity": popularity,
    }


def make_users(rng, num_users, num_tags):
    interests = rng.integers(num_tags, size=(num_users, 3))
    return {
        "interests": interests,
        "activity": np.exp(rng.normal(0.0, 0.6, num_users)),
        "segment": rng.integers(len(SEGMENTS), size=num_users),
        # In decades: an exact age would tell users apart, and a model could
        # learn their interests by heart instead of from the histories.
        "age": 10.0 * rng.integers(2, 7, size=num_users),
    }


def make_requests(rng, num_requests, users, items, num_candidates, num_days):
    """Requests in order of (user, time), with their candidates."""
    num_users = len(users["age"])
    share = users["activity"] / users["activity"].sum()
    user = rng.choice(num_users, size=num_requests, p=share)
    day = rng.integers(num_days, size=num_requests)
    # A day has its peak in the evening.
    hour = np.clip(rng.normal(18.0, 5.0, num_requests) % 24.0, 0.0, 23.999)
    time_ms = START_MS + day * DAY_MS + (hour * HOUR_MS).astype("int64")
    order = np.lexsort((time_ms, user))
    user, time_ms = user[order], time_ms[order]
    # A user makes one request in a millisecond: what is earlier is then clear.
    # The running maximum sees (user, time) as one number.
    stride = num_days * DAY_MS + num_requests
    offset = user * stride - np.arange(num_requests)
    time_ms = np.maximum.accumulate(time_ms + offset) - offset
    return {
        "user": user,
        "time_ms": time_ms,
        "hour": time_ms // HOUR_MS % 24,
        "first": np.searchsorted(user, user),  # First request of the user.
        "device": rng.integers(len(DEVICES), size=num_requests),
        "tab": rng.integers(len(TABS), size=num_requests),
        "city": rng.integers(NUM_CITIES, size=num_requests),
        "item": _draw_candidates(rng, user, users, items, num_candidates),
    }


def _draw_candidates(rng, user, users, items, num_candidates):
    """Different items for each request: half on interests, half popular."""

    def draw(user):
        on_interest = rng.random(len(user)) < 0.5
        choice = rng.integers(users["interests"].shape[1], size=len(user))
        tag = users["interests"][user, choice]
        return np.where(
            on_interest,
            _draw_items_of_tag(rng, tag, items),
            _draw_popular(rng, len(user), items),
        )

    candidates = np.empty((len(user), num_candidates), dtype="int64")
    for position in range(num_candidates):
        drawn = draw(user)
        while True:
            repeated = (candidates[:, :position] == drawn[:, None]).any(axis=1)
            rows = np.flatnonzero(repeated)
            if len(rows) == 0:
                break
            drawn[rows] = draw(user[rows])
        candidates[:, position] = drawn
    return candidates


def _draw_popular(rng, size, items):
    edges = np.cumsum(items["popularity"])
    drawn = np.searchsorted(edges, rng.random(size) * edges[-1], side="right")
    return np.minimum(drawn, len(edges) - 1)


def _draw_items_of_tag(rng, tag, items):
    """An item of each given tag; any item for a tag that has none."""
    num_tags = max(int(tag.max(initial=0)), int(items["tag"].max())) + 1
    by_tag = np.argsort(items["tag"], kind="stable")
    count = np.bincount(items["tag"], minlength=num_tags)
    start = np.cumsum(count) - count
    offset = (rng.random(len(tag)) * count[tag]).astype("int64")
    anything = rng.integers(len(by_tag), size=len(tag))
    index = np.where(count[tag] > 0, start[tag] + offset, anything)
    return by_tag[np.minimum(index, len(by_tag) - 1)]


def _make_events(rng, users, mean_count, from_ms, until_ms):
    """User and time of events that are not shown items, in that order."""
    count = rng.poisson(mean_count * users["activity"])
    user = np.repeat(np.arange(len(count)), count)
    time_ms = rng.integers(from_ms, until_ms, size=len(user))
    return user, time_ms[np.lexsort((time_ms, user))]


def _interest_tags(rng, user, users, num_tags):
    choice = rng.integers(users["interests"].shape[1], size=len(user))
    return np.where(
        rng.random(len(user)) < 0.8,
        users["interests"][user, choice],
        rng.integers(num_tags, size=len(user)),
    )


def make_likes(rng, users, items):
    num_tags = int(items["tag"].max()) + 1
    user, time_ms = _make_events(
        rng, users, 6.0, START_MS - 60 * DAY_MS, START_MS
    )
    tag = _interest_tags(rng, user, users, num_tags)
    item = _draw_items_of_tag(rng, tag, items)
    return {"user": user, "time_ms": time_ms, "item": item}


def make_searches(rng, users, num_tags, num_days):
    user, time_ms = _make_events(
        rng,
        users,
        0.5 * (num_days + 10),
        START_MS - 10 * DAY_MS,
        START_MS + num_days * DAY_MS,
    )
    tag = _interest_tags(rng, user, users, num_tags)
    variant = rng.integers(_QUERIES_PER_TAG, size=len(user))
    return {
        "user": user,
        "time_ms": time_ms,
        "tag": tag,
        "query": tag * _QUERIES_PER_TAG + variant,
        "query_names": [
            f"query {tag:02d}{'ab'[variant]}"
            for tag in range(num_tags)
            for variant in range(_QUERIES_PER_TAG)
        ],
    }


def events_before(events, requests, max_length):
    """Start and end of the last events before each request."""
    return _histories.windows(
        events["user"],
        events["time_ms"],
        requests["user"],
        requests["time_ms"],
        max_length,
    )
