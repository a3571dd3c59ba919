"""A click log whose click probabilities are known."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa

from keras_unirec import metrics
from keras_unirec import schema as schemas
from keras_unirec.data import _histories
from keras_unirec.metrics.log_loss import sigmoid

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_START_MS = 1_704_067_200_000  # 2024-01-01, UTC

_DEVICES = ("android", "ios", "tablet", "web")
_TABS = ("feed", "following", "nearby", "search")
_SEGMENTS = ("casual", "creator", "heavy", "lapsed", "new", "regular")
_NUM_CITIES = 300
_QUERIES_PER_TAG = 2
_MAX_LIKES = 20
_MAX_SEARCHES = 10

# The click model. Each number is a weight in the logit.
_BIAS = -1.4
_WATCHED_TAG = 3.0
_WATCHED_AUTHOR = 1.5
_LIKED_TAG = 3.0
_SEARCHED_TAG = 1.2
_WATCHED_HALF_LIFE_MS = 4 * _DAY_MS
_SEARCHED_HALF_LIFE_MS = 2 * _DAY_MS
# A factor of a cross is this plus or minus 1. With a mean of 0 the product
# would be a parity, which gradient descent finds late or never.
_CROSS_MEAN = 0.5
_DEVICE_TAB_TAG = 0.6
_SEGMENT_TAB_TAG = 0.6


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SyntheticClickLog:
    """What `synthetic_click_log` returns.

    Attributes:
        train: DataFrame, one row per impression, in order of time.
        test: DataFrame of the same columns, later than `train`.
        schema: `keras_unirec.Schema` of the columns, adapted to `train`.
        items: DataFrame of the items: `item_id`, `author_id`, `tag` and
            `duration_s`. The schema has it as an `ItemTable`.
        train_probability: float array. The true probability of a click of
            each row of `train`.
        test_probability: float array, the same for `test`.
        bayes_auc: float. AUC of the true probabilities on `test`; up to
            chance, no model can do better.
        bayes_logloss: float. Their logloss on `test`.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    schema: schemas.Schema
    items: pd.DataFrame
    train_probability: np.ndarray
    test_probability: np.ndarray
    bayes_auc: float
    bayes_logloss: float
    _test_parts: dict

    def best_auc(self, without=None):
        """AUC on `test` of the best model that cannot use a part.

        Args:
            without: `None`: nothing is missing, which is `bayes_auc`.
                `"histories"`: a model that reads no behaviour sequence.
                `"crosses"`: a model in which the features outside of the
                sequences only add up.

        Returns:
            float.
        """
        parts = self._test_parts
        labels = self.test["click"]
        if without is None:
            return self.bayes_auc
        if without == "histories":
            # What is left of the histories is their mean per item.
            item = self.test["item_id"]
            known = pd.Series(parts["histories"]).groupby(item.to_numpy())
            left = known.transform("mean") + parts["crosses"]
        elif without == "crosses":
            # What is left of the crosses is their best additive fit.
            columns = ["device", "tab", "user_segment"]
            x = pd.get_dummies(self.test[columns], dtype="float64")
            tags = pd.get_dummies(parts["tag"], dtype="float64")
            x = np.concatenate([x, tags], axis=1)
            fit = np.linalg.lstsq(x, parts["crosses"], rcond=None)[0]
            left = parts["histories"] + x @ fit
        else:
            raise ValueError(
                '`without` must be None, "histories" or "crosses". '
                f"Received: without={without!r}"
            )
        return metrics.auc(labels, parts["effects"] + left)

    def __repr__(self):
        return (
            f"SyntheticClickLog({len(self.train):,} train and "
            f"{len(self.test):,} test rows, bayes_auc={self.bayes_auc:.4f}, "
            f"bayes_logloss={self.bayes_logloss:.4f})"
        )


def synthetic_click_log(
    num_rows=120_000,
    num_users=2_000,
    num_items=300,
    num_tags=12,
    candidates_per_request=4,
    history_length=50,
    num_days=14,
    test_fraction=0.2,
    seed=0,
):
    """Simulates a click log, and knows the probability of every click.

    Users with a few interests open an app now and then; each request shows
    `candidates_per_request` items, half of them on the user's interests. The
    logit of a click is the sum of three parts:

    - effects: of the item, its duration, the user segment and the hour;
    - histories: how often the user clicked earlier items with the tag (and
      with the author) of this one, recent events counting more; how many
      liked items have its tag; how recently its tag was searched for;
    - crosses: two products of three factors, device x tab x tag and
      segment x tab x tag. A factor takes one of two values, so the effect of
      a tag turns around with the device and the tab. Single features explain
      a tenth of its variance, pairs of them another two fifths.

    A model needs both of the last two: see
    `SyntheticClickLog.best_auc(without=...)`. Everything that decides a
    click is in the columns, so the Bayes-optimal AUC can be reached. `user_age`
    and `city` are there to be ignored.

    The columns hold what real logs hold: integer ids that start at 0, large
    integers (`author_id`), strings, lists of integers, of strings and of
    milliseconds, empty histories, and requests of several rows.

    Args:
        num_rows: int. Impressions, train and test together, rounded down to
            whole requests. Defaults to `120_000`.
        num_users: int. Defaults to `2_000`.
        num_items: int. Defaults to `300`.
        num_tags: int. More of them make the log harder to learn from.
            Defaults to `12`.
        candidates_per_request: int. Rows of one request; they share all but
            the item. Defaults to `4`.
        history_length: int. How many watched items a row remembers. Defaults
            to `50`.
        num_days: int. Time that the log spans. Defaults to `14`.
        test_fraction: float. The last part of the requests, by time, is the
            test set. Defaults to `0.2`.
        seed: int. Defaults to `0`.

    Returns:
        A `SyntheticClickLog`.

    Example:
    ```python
    log = ku.data.synthetic_click_log(num_rows=20_000)
    data = ku.data.from_pandas(log.train, log.schema, batch_size=256)
    print(log.bayes_auc, log.best_auc(without="histories"))
    ```
    """
    _check_arguments(
        num_rows,
        num_users,
        num_items,
        num_tags,
        candidates_per_request,
        history_length,
        num_days,
        test_fraction,
    )
    rng = np.random.default_rng(seed)
    items = _make_items(rng, num_items, num_tags)
    users = _make_users(rng, num_users, num_tags)
    num_requests = num_rows // candidates_per_request
    requests = _make_requests(
        rng, num_requests, users, items, candidates_per_request, num_days
    )
    likes = _make_likes(rng, users, items)
    searches = _make_searches(rng, users, num_tags, num_days)

    parts = {
        "effects": _effects(rng, requests, users, items),
        "crosses": _crosses(rng, requests, users, items, num_tags),
        "histories": _liked(requests, likes, items)
        + _searched(requests, searches, items),
    }
    clicks, watched = _simulate_clicks(
        rng, requests, items, sum(parts.values()), history_length
    )
    parts["histories"] += watched

    # From (user, time) to time.
    order = np.argsort(requests["time_ms"], kind="stable")
    frame = _make_frame(
        order, requests, users, clicks, likes, searches, history_length
    )
    parts = {name: part[order].reshape(-1) for name, part in parts.items()}
    probability = sigmoid(sum(parts.values()))
    parts["tag"] = items["tag"][requests["item"][order].reshape(-1)]

    num_test = max(1, round(num_requests * test_fraction))
    split = (num_requests - num_test) * candidates_per_request
    train, test = frame.iloc[:split], frame.iloc[split:]
    test = test.reset_index(drop=True)
    table = pd.DataFrame(
        {
            "item_id": np.arange(num_items),
            "author_id": items["author_id"],
            "tag": items["tag_name"],
            "duration_s": items["duration_s"],
        }
    )
    schema = _make_schema(table, history_length).adapt(train)
    labels = test["click"].to_numpy()
    return SyntheticClickLog(
        train=train,
        test=test,
        schema=schema,
        items=table,
        train_probability=probability[:split],
        test_probability=probability[split:],
        bayes_auc=metrics.auc(labels, probability[split:]),
        bayes_logloss=metrics.logloss(labels, probability[split:]),
        _test_parts={name: part[split:] for name, part in parts.items()},
    )


# === What there is ===


def _make_items(rng, num_items, num_tags):
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


def _make_users(rng, num_users, num_tags):
    interests = rng.integers(num_tags, size=(num_users, 3))
    return {
        "interests": interests,
        "activity": np.exp(rng.normal(0.0, 0.6, num_users)),
        "segment": rng.integers(len(_SEGMENTS), size=num_users),
        # In decades: an exact age would tell users apart, and a model could
        # learn their interests by heart instead of from the histories.
        "age": 10.0 * rng.integers(2, 7, size=num_users),
    }


def _make_requests(rng, num_requests, users, items, num_candidates, num_days):
    """Requests in order of (user, time), with their candidates."""
    num_users = len(users["age"])
    share = users["activity"] / users["activity"].sum()
    user = rng.choice(num_users, size=num_requests, p=share)
    day = rng.integers(num_days, size=num_requests)
    # A day has its peak in the evening.
    hour = np.clip(rng.normal(18.0, 5.0, num_requests) % 24.0, 0.0, 23.999)
    time_ms = _START_MS + day * _DAY_MS + (hour * _HOUR_MS).astype("int64")
    order = np.lexsort((time_ms, user))
    user, time_ms = user[order], time_ms[order]
    # A user makes one request in a millisecond: what is earlier is then clear.
    # The running maximum sees (user, time) as one number.
    stride = num_days * _DAY_MS + num_requests
    offset = user * stride - np.arange(num_requests)
    time_ms = np.maximum.accumulate(time_ms + offset) - offset
    return {
        "user": user,
        "time_ms": time_ms,
        "hour": time_ms // _HOUR_MS % 24,
        "first": np.searchsorted(user, user),  # First request of the user.
        "device": rng.integers(len(_DEVICES), size=num_requests),
        "tab": rng.integers(len(_TABS), size=num_requests),
        "city": rng.integers(_NUM_CITIES, size=num_requests),
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


def _make_likes(rng, users, items):
    num_tags = int(items["tag"].max()) + 1
    user, time_ms = _make_events(
        rng, users, 6.0, _START_MS - 60 * _DAY_MS, _START_MS
    )
    tag = _interest_tags(rng, user, users, num_tags)
    item = _draw_items_of_tag(rng, tag, items)
    return {"user": user, "time_ms": time_ms, "item": item}


def _make_searches(rng, users, num_tags, num_days):
    user, time_ms = _make_events(
        rng,
        users,
        0.5 * (num_days + 10),
        _START_MS - 10 * _DAY_MS,
        _START_MS + num_days * _DAY_MS,
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


# === What decides a click: parts of the logit, (requests, candidates) ===


def _effects(rng, requests, users, items):
    item = requests["item"]
    quality = rng.normal(0.0, 0.4, len(items["tag"]))
    duration = -0.2 * (np.log(items["duration_s"]) - 3.5)
    segment = rng.normal(0.0, 0.3, len(_SEGMENTS))[users["segment"]]
    hour = 0.2 * np.sin(2.0 * np.pi * requests["hour"] / 24.0)
    of_request = segment[requests["user"]] + hour
    return _BIAS + (quality + duration)[item] + of_request[:, None]


def _crosses(rng, requests, users, items, num_tags):
    def factor(size):
        """Two values in equal shares, whose mean is not 0."""
        signs = np.where(np.arange(size) % 2 == 0, 1.0, -1.0)
        return _CROSS_MEAN + rng.permutation(signs)

    device = requests["device"]
    tab = requests["tab"]
    segment = users["segment"][requests["user"]]
    tag = items["tag"][requests["item"]]
    device_tab = factor(len(_DEVICES))[device] * factor(len(_TABS))[tab]
    segment_tab = factor(len(_SEGMENTS))[segment] * factor(len(_TABS))[tab]
    return (
        _DEVICE_TAB_TAG * device_tab[:, None] * factor(num_tags)[tag]
        + _SEGMENT_TAB_TAG * segment_tab[:, None] * factor(num_tags)[tag]
    )


def _matches(requests, events, tag_of_event, items, max_length, half_life_ms):
    """Events with the candidate's tag, decayed; and the number of events."""
    start, end = _windows(events, requests, max_length)
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


def _liked(requests, likes, items):
    matches, count = _matches(
        requests, likes, items["tag"][likes["item"]], items, _MAX_LIKES, None
    )
    return _LIKED_TAG * matches / (2.0 + count[:, None])


def _searched(requests, searches, items):
    matches, _ = _matches(
        requests,
        searches,
        searches["tag"],
        items,
        _MAX_SEARCHES,
        _SEARCHED_HALF_LIFE_MS,
    )
    return _SEARCHED_TAG * np.tanh(2.0 * matches)


def _simulate_clicks(rng, requests, items, logits, history_length):
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


# === What the user of the log sees ===


def _make_frame(
    order, requests, users, clicks, likes, searches, history_length
):
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
    cities = [f"city {i}" for i in range(_NUM_CITIES)]
    columns = {
        "request_id": np.repeat(np.arange(len(order)), num_candidates),
        "user_id": user,
        "user_segment": strings(_SEGMENTS, users["segment"][user]),
        "user_age": users["age"][user],
        "city": strings(cities, of_request(requests["city"])),
        "device": strings(_DEVICES, of_request(requests["device"])),
        "tab": strings(_TABS, of_request(requests["tab"])),
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
        (likes, _MAX_LIKES, "liked_item_id", likes["item"]),
        (likes, _MAX_LIKES, "liked_time_ms", likes["time_ms"]),
        (searches, _MAX_SEARCHES, "search_query", queries),
        (searches, _MAX_SEARCHES, "search_time_ms", searches["time_ms"]),
    )
    for events, max_length, name, values in histories:
        start, end = _windows(events, requests, max_length)
        columns[name] = _histories.list_column(
            values, of_request(start), of_request(end)
        )
    columns["click"] = clicks[order].reshape(-1)
    return pd.DataFrame(columns)


def _windows(events, requests, max_length):
    return _histories.windows(
        events["user"],
        events["time_ms"],
        requests["user"],
        requests["time_ms"],
        max_length,
    )


def _make_schema(items, history_length):
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
                max_length=_MAX_LIKES,
                features=[
                    items_of("liked_item_id"),
                    schemas.Timestamp("liked_time_ms", unit="ms"),
                ],
            ),
            schemas.Sequence(
                "searched",
                max_length=_MAX_SEARCHES,
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


def _check_arguments(
    num_rows,
    num_users,
    num_items,
    num_tags,
    candidates_per_request,
    history_length,
    num_days,
    test_fraction,
):
    counts = {
        "num_users": (num_users, 1),
        "num_tags": (num_tags, 2),
        "candidates_per_request": (candidates_per_request, 1),
        "num_items": (num_items, candidates_per_request),
        "num_rows": (num_rows, 2 * candidates_per_request),
        "history_length": (history_length, 1),
        "num_days": (num_days, 1),
    }
    for name, (value, least) in counts.items():
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}. "
                f"Received: {name}={value!r}"
            )
    if not 0 < test_fraction < 1:
        raise ValueError(
            "`test_fraction` must lie between 0 and 1. "
            f"Received: test_fraction={test_fraction}"
        )
