import numpy as np
import pandas as pd
import pytest

from keras_unirec import metrics
from keras_unirec.data.synthetic import synthetic_click_log

LISTS = {
    "watched": ["watched_item_id", "watched_click", "watched_time_ms"],
    "liked": ["liked_item_id", "liked_time_ms"],
    "searched": ["search_query", "search_time_ms"],
}


@pytest.fixture(scope="module")
def log():
    return synthetic_click_log(
        num_rows=20_000, num_users=400, num_items=200, seed=1
    )


def test_sizes_and_order(log):
    assert len(log.train) == 16_000
    assert len(log.test) == 4_000
    assert len(log.train_probability) == 16_000
    assert len(log.test_probability) == 4_000
    times = np.append(log.train["time_ms"], log.test["time_ms"])
    assert (np.diff(times) >= 0).all()
    assert log.train["time_ms"].max() <= log.test["time_ms"].min()
    assert log.schema.is_adapted
    assert set(log.schema.columns) == set(log.train.columns)
    assert "bayes_auc" in repr(log)


def test_requests_share_everything_but_the_item(log):
    requests = log.train.groupby("request_id")
    assert (requests.size() == 4).all()
    assert (requests["item_id"].nunique() == 4).all()
    some = log.train.iloc[8_000:9_000]
    for column in some.columns.drop(["request_id", "item_id", "click"]):
        values = some[column].astype(str)
        assert (values.groupby(some["request_id"]).nunique() == 1).all()
    assert not set(log.train["request_id"]) & set(log.test["request_id"])


def test_raw_values(log):
    assert log.train["item_id"].min() == 0
    assert log.train["hour"].between(0, 23).all()
    for column in ("user_segment", "city", "device", "tab"):
        assert isinstance(log.train[column].iloc[0], str)
    lengths = log.train["watched_item_id"].list.len()
    assert lengths.min() == 0
    assert lengths.max() == 50


def test_seed():
    small = {"num_rows": 800, "num_users": 20, "num_items": 50}
    first = synthetic_click_log(**small, seed=3)
    again = synthetic_click_log(**small, seed=3)
    other = synthetic_click_log(**small, seed=4)
    pd.testing.assert_frame_equal(first.train, again.train)
    np.testing.assert_array_equal(
        first.test_probability, again.test_probability
    )
    assert first.schema == again.schema
    assert not first.train["click"].equals(other.train["click"])


def test_watched_is_what_the_log_showed_before(log):
    """Rebuilds some histories from the rows of the log, one by one."""
    frame = pd.concat([log.train, log.test], ignore_index=True)
    rows = np.random.default_rng(0).integers(len(frame), size=40)
    for row in frame.iloc[rows].itertuples():
        earlier = frame[
            (frame["user_id"] == row.user_id) & (frame["time_ms"] < row.time_ms)
        ].tail(50)
        assert list(row.watched_item_id) == earlier["item_id"].tolist()
        assert list(row.watched_click) == earlier["click"].tolist()
        assert list(row.watched_time_ms) == earlier["time_ms"].tolist()


def test_other_histories_are_earlier_and_sorted(log):
    for columns in LISTS.values():
        lengths = {c: log.train[c].list.len() for c in columns}
        first = lengths[columns[0]]
        assert all(first.equals(other) for other in lengths.values())
        times = log.train[columns[-1]]
        for request_time, events in zip(log.train["time_ms"][:500], times):
            assert (np.diff(events) >= 0).all()
            assert len(events) == 0 or max(events) < request_time


def test_probabilities_are_those_of_the_clicks(log):
    labels = np.append(log.train["click"], log.test["click"])
    p = np.append(log.train_probability, log.test_probability)
    # Calibrated in each tenth, within four standard errors.
    for rows in np.array_split(np.argsort(p), 10):
        error = np.sqrt((p[rows] * (1 - p[rows])).sum()) / len(rows)
        assert abs(labels[rows].mean() - p[rows].mean()) < 4 * error
    test_labels = log.test["click"]
    assert log.bayes_auc == metrics.auc(test_labels, log.test_probability)
    assert log.bayes_logloss == metrics.logloss(
        test_labels, log.test_probability
    )


def test_probability_follows_from_the_columns(log):
    """The part of the histories, recomputed from the lists of single rows."""
    tag = log.items["tag"].to_numpy(dtype=object)
    author = log.items["author_id"].to_numpy()
    half_life = {"watched": 4 * 86_400_000, "searched": 2 * 86_400_000}
    parts = log._test_parts
    for i in range(0, 400, 13):
        row = log.test.iloc[i]
        item = row["item_id"]
        events = np.array(row["watched_item_id"], dtype=int)
        clicks = np.array(row["watched_click"], dtype=float)
        gaps = row["time_ms"] - np.array(row["watched_time_ms"], dtype=float)
        weight = 0.5 ** (gaps / half_life["watched"])
        expected = 0.0
        for scale, of_item in ((3.0, tag), (1.5, author)):
            w = weight * (of_item[events] == of_item[item])
            expected += scale * (w * (clicks - 0.4)).sum() / (0.5 + w.sum())
        liked = np.array(row["liked_item_id"], dtype=int)
        same = (tag[liked] == tag[item]).sum()
        expected += 3.0 * same / (2.0 + len(liked))
        gaps = row["time_ms"] - np.array(row["search_time_ms"], dtype=float)
        query = np.array(["tag_" + q[6:8] for q in row["search_query"]])
        w = 0.5 ** (gaps / half_life["searched"]) * (query == tag[item])
        expected += 1.2 * np.tanh(2.0 * w.sum())
        assert parts["histories"][i] == pytest.approx(expected, abs=1e-4)


def test_a_model_needs_both_parts():
    log = synthetic_click_log(num_rows=40_000, num_users=1_000)
    assert 0.84 < log.bayes_auc < 0.92
    assert log.best_auc() == log.bayes_auc
    assert log.best_auc(without="histories") < log.bayes_auc - 0.05
    assert log.best_auc(without="crosses") < log.bayes_auc - 0.03
    # The crosses are of third order: even knowing the best effect of each
    # pair of the features leaves half of their variance.
    crosses = log._test_parts["crosses"]
    keys = ["device", "tab", "user_segment"]
    columns = {key: log.test[key].to_numpy() for key in keys}
    columns["tag"] = log._test_parts["tag"]
    pairs = pd.DataFrame(
        {
            f"{a} x {b}": pd.factorize(
                pd.Series(columns[a].astype(str)) + columns[b].astype(str)
            )[0]
            for a in columns
            for b in columns
            if a < b
        }
    )
    x = pd.get_dummies(pairs, columns=list(pairs), dtype="float64").to_numpy()
    fit = np.linalg.lstsq(x, crosses, rcond=None)[0]
    assert np.var(crosses - x @ fit) > 0.35 * np.var(crosses)
    with pytest.raises(ValueError, match="`without`.*'items'"):
        log.best_auc(without="items")


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_rows": 8, "num_users": 1, "num_items": 4, "num_tags": 2},
        {"num_rows": 300, "num_users": 3, "candidates_per_request": 1},
        {"num_rows": 400, "num_users": 50_000, "num_items": 10_000},
        {"num_rows": 200, "num_users": 2, "history_length": 1, "num_days": 1},
    ],
)
def test_unusual_sizes(sizes):
    try:
        log = synthetic_click_log(**sizes)
    except ValueError as error:  # Eight rows may all have one label.
        assert "both classes" in str(error)
        return
    total = len(log.train) + len(log.test)
    per_request = sizes.get("candidates_per_request", 4)
    assert total == sizes["num_rows"] // per_request * per_request


@pytest.mark.parametrize(
    "name, value",
    [
        ("num_rows", 3),
        ("num_users", 0),
        ("num_items", 2),
        ("num_tags", 1),
        ("history_length", 0),
        ("candidates_per_request", 0),
        ("num_days", 1.5),
        ("test_fraction", 1.0),
    ],
)
def test_errors(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must.*Received: {name}"):
        synthetic_click_log(**{name: value})
