from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import keras_unirec as ku
from keras_unirec.data.kuairand import _HISTORY_COLUMNS
from keras_unirec.data.kuairand import _LOG_COLUMNS
from keras_unirec.data.kuairand import _LOGS
from keras_unirec.data.kuairand import _USER_CATEGORICALS
from keras_unirec.data.kuairand import _USERS
from keras_unirec.data.kuairand import _VIDEOS

TINY = Path(__file__).parents[2] / "../shared/data/kuairand_tiny"
OUTCOMES = [
    *("is_click", "is_like", "is_follow", "is_comment", "is_forward"),
    *("is_hate", "long_view", "play_time_ms", "is_profile_enter"),
]
DAY_MS = 86_400_000
FIRST_MS = 1_649_347_200_000  # 2022-04-08 in Beijing, in UTC.


@pytest.fixture(scope="module")
def tiny():
    if not TINY.is_dir():
        pytest.skip(
            "the KuaiRand files are not beside the checkout "
            "(../shared/data/kuairand_tiny)"
        )
    return TINY


def official_log(seed=0, num_rows=600, num_users=6, num_videos=12):
    """Rows with the columns of the official logs, some at the same time."""
    rng = np.random.default_rng(seed)
    day = rng.integers(0, 31, num_rows)
    time_ms = FIRST_MS + day * DAY_MS + rng.integers(0, 40, num_rows) * 10**6
    date = pd.to_datetime(time_ms + 8 * 3_600_000, unit="ms")
    log = pd.DataFrame(
        {
            "user_id": rng.integers(0, num_users, num_rows),
            "video_id": rng.integers(0, num_videos, num_rows),
            "date": date.strftime("%Y%m%d").astype(int),
            "hourmin": date.hour * 100,
            "time_ms": time_ms,
        }
    )
    for name in OUTCOMES:
        log[name] = rng.integers(0, 2, num_rows)
    log["duration_ms"] = rng.integers(5_000, 99_000, num_rows)
    log["profile_stay_time"] = 0
    log["comment_stay_time"] = 0
    log["is_rand"] = 0
    log["tab"] = rng.integers(0, 5, num_rows)
    return log


def write_official(folder, log, num_users=6, num_videos=12):
    """Writes the official files; users of the log are 1 to 6, not all."""
    folder.mkdir(parents=True)
    before = log["date"] <= 20220421
    log[before].to_csv(
        folder / "log_standard_4_08_to_4_21_pure.csv", index=False
    )
    log[~before].to_csv(
        folder / "log_standard_4_22_to_5_08_pure.csv", index=False
    )
    users = pd.DataFrame({"user_id": np.arange(1, num_users)})
    users["user_active_degree"] = "full_active"
    users["is_lowactive_period"] = 0
    users["is_live_streamer"] = -124
    users["is_video_author"] = 1
    for name in ("follow", "fans", "friend"):
        users[f"{name}_user_num"] = 5
        users[f"{name}_user_num_range"] = "(0,10]"
    users["register_days"] = 100
    users["register_days_range"] = "91-180"
    for i in range(18):
        users[f"onehot_feat{i}"] = np.arange(num_users - 1) % 3
    users["onehot_feat4"] = np.where(users["user_id"] == 1, np.nan, 1.0)
    users.to_csv(folder / "user_features_pure.csv", index=False)
    videos = pd.DataFrame({"video_id": np.arange(num_videos)})
    videos["author_id"] = 7_000_000 + videos["video_id"] // 2
    videos["video_type"] = "NORMAL"
    videos["upload_dt"] = "2022-04-10"
    videos["upload_type"] = "Web"
    videos["visible_status"] = 0.0
    videos["video_duration"] = np.where(
        videos["video_id"] == 3, np.nan, 10_000.0 * (1 + videos["video_id"])
    )
    videos["server_width"] = 720.0
    videos["server_height"] = 1280.0
    videos["music_id"] = 9_155_697_141
    videos["music_type"] = 9.0
    videos["tag"] = ["39,68", "2", np.nan, "1,2,3"] * (num_videos // 4)
    videos.to_csv(folder / "video_features_basic_pure.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    log = official_log()
    root = tmp_path_factory.mktemp("kuairand")
    write_official(root / "data", log)
    return root, log


# === The official files ===


def test_split_and_columns(official):
    path, log = official
    train, test, schema = ku.data.kuairand(path)
    assert set(train["date"]) == set(range(20220425, 20220431)) | set(
        range(20220501, 20220505)
    )
    assert set(test["date"]) == {20220505, 20220506}
    inside = log["date"].between(20220425, 20220506)
    assert len(train) + len(test) == inside.sum()
    for frame in (train, test):
        assert frame["time_ms"].is_monotonic_increasing
        assert (frame.index == np.arange(len(frame))).all()
        assert list(frame["hour"]) == list(frame["hourmin"] // 100)
    assert schema.is_adapted
    assert schema.label_names == ("is_click",)
    # The folder of the CSV files itself is fine too.
    again, _, _ = ku.data.kuairand(path / "data")
    pd.testing.assert_frame_equal(again, train)


def test_histories_are_strictly_earlier_rows(official):
    path, log = official
    train, test, _ = ku.data.kuairand(path)
    log = log.sort_values(["user_id", "time_ms"], kind="stable")
    frame = pd.concat([train, test])
    assert frame.duplicated(["user_id", "time_ms"]).any()  # There are ties.
    for row in frame.itertuples():
        own = log[log["user_id"] == row.user_id]
        window = own[
            (own["date"] >= 20220425) & (own["time_ms"] < row.time_ms)
        ].tail(100)
        assert list(row.hist_video_id) == window["video_id"].tolist()
        assert list(row.hist_click) == window["is_click"].tolist()
        assert list(row.hist_long_view) == window["long_view"].tolist()
        assert list(row.hist_like) == window["is_like"].tolist()
        assert list(row.hist_tab) == window["tab"].tolist()
        assert list(row.hist_time_s) == (window["time_ms"] // 1000).tolist()


def test_histories_from_before_the_window(official):
    path, log = official
    train, _, _ = ku.data.kuairand(path)
    log = log.sort_values(["user_id", "time_ms"], kind="stable")
    log = log[log["date"] < 20220425]
    for user, rows in train.groupby("user_id"):
        row = rows.iloc[-1]
        if user == 0:  # Not among the user features: nothing is known.
            assert not isinstance(row["pre_watch"], list)
            assert row["log_pre_len"] == 0
            continue
        own = log[log["user_id"] == user]
        videos = own["video_id"]
        assert list(row["pre_watch"]) == videos.tail(50).tolist()
        liked = videos[own["is_like"] == 1]
        assert list(row["pre_like"]) == liked.tail(50).tolist()
        long_view = videos[own["long_view"] == 1]
        assert list(row["pre_long_view"]) == long_view.tail(50).tolist()
        assert row["log_pre_len"] == pytest.approx(np.log1p(len(own)))


def test_batches(official):
    path, _ = official
    train, test, schema = ku.data.kuairand(path)
    x, y, w = next(iter(ku.data.from_pandas(train, schema, batch_size=32)))
    tab = schema.categorical("tab").values
    np.testing.assert_array_equal(
        x["tab"].numpy() - 2, np.searchsorted(tab, train["tab"][:32])
    )
    np.testing.assert_array_equal(
        x["video_id"].numpy()[:, 0] - 2, train["video_id"][:32]
    )
    assert x["video_id.tag"].shape == (32, 1, 3)
    np.testing.assert_array_equal(
        y["is_click"].numpy()[:, 0], train["is_click"][:32]
    )
    # Rows of a user without features, and a video without duration or tag.
    for batch in ku.data.from_pandas(test, schema, batch_size=64):
        assert np.isfinite(batch[0]["log_duration"].numpy()).all()
    ku.data.from_pandas(test[test["video_id"] == 3], schema)


def test_days(official):
    path, _ = official
    train, test, _ = ku.data.kuairand(
        path, train_days=(20220426, 20220428), test_days=(20220503, 20220508)
    )
    assert set(train["date"]) == {20220426, 20220427, 20220428}
    assert test["date"].min() == 20220503
    assert test["date"].max() == 20220508
    first_day = train[train["date"] == 20220426]
    assert first_day["hist_video_id"].iloc[0] == []
    # The days in between are in the histories.
    times = test["hist_time_s"].iloc[-1]
    assert max(times) > train["time_ms"].max() / 1000


# === The prepared folder ===


@pytest.mark.parametrize("layout", ["official", "tiny"])
def test_outcomes_are_labels_only(layout, request):
    found = request.getfixturevalue(layout)
    path = found[0] if layout == "official" else found
    labels = ["is_click", "long_view"]
    train, _, schema = ku.data.kuairand(path, labels=labels)
    assert schema.label_names == ("is_click", "long_view")
    inputs = set(schema.columns) - set(schema.label_names)
    assert inputs & {*OUTCOMES, "duration_ms", "date"} == set()
    assert "user_id" not in {e.feature for e in schema.encoded}
    assert schema.group_id == "user_id"
    _, _, schema = ku.data.kuairand(path, labels="is_like", user_id=True)
    assert "user_id" in {e.feature for e in schema.encoded}


def test_tiny(tiny):
    train, test, schema = ku.data.kuairand(tiny)
    assert (len(train), len(test)) == (1178, 232)
    raw = pd.read_parquet(tiny / "train.parquet")
    users = pd.read_parquet(tiny / "users.parquet").set_index("user_id")
    for i in range(0, len(train), 37):
        row = train.iloc[i]
        assert list(row["hist_video_id"]) == list(raw["hist_video_id"][i])
        user = users.loc[row["user_id"]]
        assert row["user_active_degree"] == user["user_active_degree"]
        if isinstance(user["pre_watch"], np.ndarray):
            assert list(row["pre_watch"]) == list(user["pre_watch"])
    sequences = {s.name: s.max_length for s in schema.sequences}
    assert sequences == {
        "watched": 100,
        "pre_watch": 50,
        "pre_like": 50,
        "pre_long_view": 50,
    }
    data = ku.data.from_pandas(train, schema, batch_size=256)
    assert sum(len(y["is_click"]) for _, y, _ in data) == 1178


def test_train_may_be_several_files(tiny):
    train, test, _ = ku.data.kuairand(
        tiny,
        train_files=["train.parquet", "val.parquet"],
        test_files=tiny / "val.parquet",
    )
    assert (len(train), len(test)) == (1178 + 232, 232)


def test_official_files_give_the_prepared_ones(tiny, tmp_path):
    """Writes the tiny folder in the official format and reads it back."""
    names = ("train.parquet", "val.parquet")
    log = pd.concat([pd.read_parquet(tiny / name) for name in names])
    log = log[list(_LOG_COLUMNS)]
    users = pd.read_parquet(tiny / "users.parquet")
    # Shown before the window: one row a second, none of them clicked.
    shown = users[["user_id", "pre_watch"]].explode("pre_watch").dropna()
    before = pd.DataFrame(0, index=shown.index, columns=log.columns)
    before["user_id"] = shown["user_id"]
    before["video_id"] = shown["pre_watch"].astype(int)
    before["time_ms"] = FIRST_MS + 1000 * np.arange(len(shown))
    before["date"] = 20220408
    before.to_csv(tmp_path / _LOGS[0], index=False)
    log.to_csv(tmp_path / _LOGS[1], index=False)
    columns = ["pre_len", "pre_watch", "pre_like", "pre_long_view"]
    users.drop(columns=columns).to_csv(tmp_path / _USERS, index=False)
    items = pd.read_parquet(tiny / "items.parquet")
    items.to_csv(tmp_path / _VIDEOS, index=False)

    expected, found = ku.data.kuairand(tiny), ku.data.kuairand(tmp_path)

    def lists(frame, names):
        """Events of each row; those of one millisecond in any one order."""
        columns = [pa.array(frame[name]).to_pylist() for name in names]
        return [sorted(zip(*(x or [] for x in row))) for row in zip(*columns)]

    for a, b in zip(expected[:2], found[:2]):
        assert lists(a, ["hist_time_s", *_HISTORY_COLUMNS]) == lists(
            b, ["hist_time_s", *_HISTORY_COLUMNS]
        )
        assert lists(a, ["pre_watch"]) == lists(b, ["pre_watch"])
        for name in [*_LOG_COLUMNS, *_USER_CATEGORICALS]:
            assert a[name].fillna(-1).tolist() == b[name].fillna(-1).tolist()
    a, b = expected[2], found[2]
    assert a.item[0] == b.item[0]  # The video table and what it learned.


@pytest.mark.parametrize("layout", ["official", "tiny"])
def test_frozen_histories(layout, request):
    found = request.getfixturevalue(layout)
    path = found[0] if layout == "official" else found
    train, live, _ = ku.data.kuairand(path)
    same, frozen, _ = ku.data.kuairand(path, freeze_test_histories=True)
    pd.testing.assert_frame_equal(same, train)
    start = live["time_ms"].min() / 1000
    shorter = 0
    for a, b in zip(live.itertuples(), frozen.itertuples()):
        kept = [time for time in a.hist_time_s if time < np.floor(start)]
        assert list(b.hist_time_s) == kept
        assert list(b.hist_click) == list(a.hist_click)[: len(kept)]
        shorter += len(kept) < len(a.hist_time_s)
    assert shorter > 0


# === Errors ===


def test_missing_files_say_where_to_get_them(official, tmp_path):
    with pytest.raises(FileNotFoundError, match="https://kuairand.com"):
        ku.data.kuairand(tmp_path / "nothing")
    folder = write_official(tmp_path / "some", official[1])
    (folder / "user_features_pure.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match="needs the files user_features_pure.csv. Get"
    ):
        ku.data.kuairand(folder)
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    pd.DataFrame({"user_id": [1]}).to_parquet(prepared / "users.parquet")
    with pytest.raises(FileNotFoundError, match="without .*train.parquet"):
        ku.data.kuairand(prepared)


def test_wrong_files(official, tmp_path):
    folder = write_official(tmp_path / "data", official[1].drop(columns="tab"))
    with pytest.raises(ValueError, match=r"log_standard_4_08.*\['tab'\]"):
        ku.data.kuairand(folder)
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    for name in ("users", "items", "train", "val"):
        (prepared / f"{name}.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(ValueError, match="train.parquet must be a Parquet"):
        ku.data.kuairand(prepared)


def test_wrong_arguments(official):
    path, _ = official
    with pytest.raises(ValueError, match=r"`labels` must.*play_time_ms"):
        ku.data.kuairand(path, labels=["play_time_ms"])
    with pytest.raises(ValueError, match="`train_days` and `test_days`"):
        ku.data.kuairand(path, test_days=(20220501, 20220502))
    with pytest.raises(ValueError, match="`test_days` must be days of the"):
        ku.data.kuairand(path, test_days=(20220601, 20220602))
