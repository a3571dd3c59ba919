"""KuaiRand-Pure: impressions of short videos, with histories."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from keras_unirec import schema as schemas
from keras_unirec.data import _histories

_PAGE = "https://kuairand.com"
_LOGS = (
    "log_standard_4_08_to_4_21_pure.csv",
    "log_standard_4_22_to_5_08_pure.csv",
)
_USERS = "user_features_pure.csv"
_VIDEOS = "video_features_basic_pure.csv"

# What the row itself turned out to be: labels, never inputs.
_OUTCOMES = (
    "is_click",
    "long_view",
    "is_like",
    "is_follow",
    "is_comment",
    "is_forward",
    "is_hate",
    "is_profile_enter",
)
_LOG_COLUMNS = (
    "user_id",
    "video_id",
    "time_ms",
    "date",
    "hourmin",
    "tab",
    *_OUTCOMES,
    "play_time_ms",
    "duration_ms",
)
_WATCHED = 100  # Events that a row remembers of the window,
_BEFORE = 50  # and of each kind from before it.
_HISTORY_COLUMNS = {
    "hist_video_id": "video_id",
    "hist_click": "is_click",
    "hist_long_view": "long_view",
    "hist_like": "is_like",
    "hist_tab": "tab",
    "hist_time_s": "time_s",
}
_BEFORE_COLUMNS = {
    "pre_watch": None,
    "pre_like": "is_like",
    "pre_long_view": "long_view",
}
_USER_CATEGORICALS = (
    "user_active_degree",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
)
# The others say little: three upload days, almost always one type of video.
_VIDEO_COLUMNS = (
    "video_id",
    "author_id",
    "tag",
    "music_id",
    "upload_type",
    "video_duration",
)


def kuairand(
    path,
    labels=("is_click",),
    user_id=False,
    freeze_test_histories=False,
    train_files="train.parquet",
    test_files="val.parquet",
    train_days=(20220425, 20220504),
    test_days=(20220505, 20220506),
):
    """Reads KuaiRand-Pure (Gao et al., 2022) as two frames and a schema.

    `path` is the folder of the official files, from https://kuairand.com, or
    a folder of Parquet files in which that preparation has been done.

    From the official files it takes the standard log (not that of random
    exposure), the user features and the basic video features. The statistics
    of videos count clicks of the test days, so they are not read. Each row
    gets four histories, all of strictly earlier rows of its user:

    - `watched` (`hist_*`): the last 100 impressions since the first of
      `train_days`, with click, long view, like, tab and time;
    - `pre_watch`, `pre_like`, `pre_long_view`: the last 50 videos shown, liked
      and watched long before that day.

    Inputs are only what is known before the impression. All outcomes of the
    row itself (`is_*`, `long_view`, `play_time_ms`) are in the frames, to be
    labels; the schema leaves them out.

    Args:
        path: Folder with the CSV files, directly or in `data/`; or with the
            Parquet files `users.parquet`, `items.parquet`, and those of
            `train_files` and `test_files`.
        labels: Names of the labels, of `is_click`, `long_view`, `is_like`,
            `is_follow`, `is_comment`, `is_forward`, `is_hate` and
            `is_profile_enter`. Defaults to `("is_click",)`.
        user_id: bool. Whether the id of the user is a feature. Defaults to
            `False`: beside the histories it only helps to memorize. Grouped
            metrics go by user either way.
        freeze_test_histories: bool. Whether the histories of test rows end
            where the test begins. Defaults to `False`: they go on growing,
            as they do in serving. Metrics by user (UAUC, GAUC) mean something
            only if frozen.
        train_files, test_files: Name of a Parquet file in `path`, or a list
            of them. Not used for the official files.
        train_days, test_days: First and last day, such as 20220425. Not used
            for Parquet files.

    Returns:
        Tuple `(train, test, schema)`: two data frames in order of time, and
        their schema, adapted to `train`.

    Example:
    ```python
    train, test, schema = ku.data.kuairand("KuaiRand-Pure")
    data = ku.data.from_pandas(train, schema, batch_size=256, shuffle=True)
    ```
    """
    labels = (labels,) if isinstance(labels, str) else tuple(labels)
    unknown = [name for name in labels if name not in _OUTCOMES]
    if unknown or not labels:
        raise ValueError(
            f"`labels` must be some of {list(_OUTCOMES)}. "
            f"Received: labels={list(labels)}"
        )
    path = Path(path).expanduser()
    folder = _find_csv(path)
    if folder is not None:
        train, test, users, videos = _read_csv(folder, train_days, test_days)
    else:
        train, test, users, videos = _read_parquet(
            path, train_files, test_files
        )
    if freeze_test_histories:
        test = _freeze(test, before_s=test["time_ms"].min() / 1000)
    train, test = _add_inputs(train, users), _add_inputs(test, users)
    schema = _make_schema(_prepare_videos(videos), labels, user_id)
    return train, test, schema.adapt(train)


# === The official files ===


def _find_csv(path):
    """The folder with the CSV files, `None` if there are Parquet files."""
    names = (*_LOGS, _USERS, _VIDEOS)
    for folder in (path, path / "data", path / "KuaiRand-Pure" / "data"):
        found = [name for name in names if (folder / name).is_file()]
        missing = [name for name in names if name not in found]
        if found and missing:
            raise _not_found(missing, folder)
        if found:
            return folder
    if path.is_dir() and any(path.glob("*.parquet")):
        return None
    raise _not_found(names, path)


def _not_found(names, folder):
    return FileNotFoundError(
        f"KuaiRand-Pure needs the files {', '.join(names)}. Get "
        f"KuaiRand-Pure.tar.gz from its authors, {_PAGE}, unpack it, and give "
        f"its folder as `path`. Received: {folder}, which lacks them"
    )


def _read_csv(folder, train_days, test_days):
    logs = [_read_table(folder / name, _LOG_COLUMNS) for name in _LOGS]
    log = pd.concat(logs, ignore_index=True)
    (first, split), (begin, last) = train_days, test_days
    if not first <= split < begin <= last:
        raise ValueError(
            "`train_days` and `test_days` must be first and last days, those "
            "of the test later. Received: "
            f"train_days={train_days}, test_days={test_days}"
        )
    # In order of user and time; the rows of one millisecond as they came.
    log = log.iloc[np.lexsort((log["time_ms"], log["user_id"]))]
    log["time_s"] = log["time_ms"] // 1000
    users = _read_table(folder / _USERS, ("user_id", *_USER_CATEGORICALS))
    users = _add_before(users, log[log["date"] < first])
    rows = _add_watched(log[log["date"].between(first, last)])
    train = rows[rows["date"] <= split]
    test = rows[rows["date"] >= begin]
    for frame, name, days in (
        (train, "train_days", train_days),
        (test, "test_days", test_days),
    ):
        if not len(frame):
            raise ValueError(
                f"`{name}` must be days of the log, {log['date'].min()} to "
                f"{log['date'].max()}. Received: {name}={days}"
            )
    videos = _read_table(folder / _VIDEOS, _VIDEO_COLUMNS)
    return (
        train.reset_index(drop=True),
        test.reset_index(drop=True),
        users,
        videos,
    )


def _read_table(path, columns):
    present = pd.read_csv(path, nrows=0).columns
    _check_columns(path, present, columns)
    return pd.read_csv(path, usecols=list(columns), dtype={"tag": "str"})


def _check_columns(path, present, columns):
    missing = [name for name in columns if name not in present]
    if missing:
        raise ValueError(
            f"{path} must be a file of KuaiRand-Pure with the columns "
            f"{missing}. Received: the columns {list(present)}"
        )


def _add_watched(events):
    """Sorts rows in order of (user, time) by time, and adds `hist_*`."""
    rows = events.sort_values("time_ms", kind="stable", ignore_index=True)
    start, end = _histories.windows(
        events["user_id"].to_numpy(),
        events["time_ms"].to_numpy(),
        rows["user_id"].to_numpy(),
        rows["time_ms"].to_numpy(),
        _WATCHED,
    )
    lists = {
        name: _histories.list_column(events[source].to_numpy(), start, end)
        for name, source in _HISTORY_COLUMNS.items()
    }
    return rows.drop(columns="time_s").assign(**lists)


def _add_before(users, log):
    """Adds `pre_*` to users, from a log in order of (user, time)."""
    user = users["user_id"].to_numpy()
    columns = {"pre_len": log.groupby("user_id").size()}
    columns["pre_len"] = columns["pre_len"].reindex(user, fill_value=0)
    columns["pre_len"] = columns["pre_len"].to_numpy()
    for name, outcome in _BEFORE_COLUMNS.items():
        events = log if outcome is None else log[log[outcome] == 1]
        sorted_user = events["user_id"].to_numpy()
        end = np.searchsorted(sorted_user, user, side="right")
        first = np.searchsorted(sorted_user, user)
        columns[name] = _histories.list_column(
            events["video_id"].to_numpy(),
            np.maximum(first, end - _BEFORE),
            end,
        )
    return users.assign(**columns)


# === Parquet files ===


def _read_parquet(path, train_files, test_files):
    def paths(names):
        names = names if isinstance(names, (list, tuple)) else [names]
        return [path / name for name in names]

    train_files, test_files = paths(train_files), paths(test_files)
    users, items = path / "users.parquet", path / "items.parquet"
    every = [*train_files, *test_files, users, items]
    missing = [str(file) for file in every if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"`path` must be a folder with the files "
            f"{', '.join(str(file) for file in every)}, or with the official "
            f"files of KuaiRand-Pure, from {_PAGE}. "
            f"Received: {path}, without {', '.join(missing)}"
        )
    rows = (*_LOG_COLUMNS, *_HISTORY_COLUMNS)
    user_columns = ("user_id", *_USER_CATEGORICALS, "pre_len", *_BEFORE_COLUMNS)
    return (
        _read_files(train_files, rows),
        _read_files(test_files, rows),
        _read_files([users], user_columns),
        _read_files([items], _VIDEO_COLUMNS),
    )


def _read_files(files, columns):
    tables = []
    for file in files:
        try:
            present = pq.read_schema(file).names
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{file} must be a Parquet file. Received: {error}"
            ) from error
        _check_columns(file, present, columns)
        tables.append(pq.read_table(file, columns=list(columns)))
    table = pa.concat_tables(tables, promote_options="permissive")
    return pd.DataFrame({name: _to_series(table[name]) for name in columns})


def _freeze(rows, before_s):
    """Cuts the watched events at a time; they are in order of time."""
    times = _to_arrow(rows["hist_time_s"])
    offsets = np.asarray(times.offsets)
    kept = np.asarray(times.values) < math.floor(before_s)
    counts = np.append(0, np.cumsum(kept))[offsets]
    start, end = offsets[:-1], offsets[:-1] + np.diff(counts)
    frozen = {
        name: _histories.list_column(_to_arrow(rows[name]).values, start, end)
        for name in _HISTORY_COLUMNS
    }
    return rows.assign(**frozen)


# === Both ===


def _add_inputs(rows, users):
    """Adds what is computed from a row, and the columns of its user."""
    columns = {
        "hour": rows["hourmin"] // 100,
        "log_duration": np.log1p(rows["duration_ms"] / 1000.0),
    }
    # A user that is not listed gets missing values and empty lists.
    index = pd.Index(users["user_id"]).get_indexer(rows["user_id"])
    index = pa.array(index, mask=index < 0)
    for name in users.columns.drop("user_id"):
        joined = _to_arrow(users[name]).take(index)
        columns[name] = _to_series(joined).set_axis(rows.index)
    count = columns.pop("pre_len").fillna(0)
    columns["log_pre_len"] = np.log1p(count.astype("float64"))
    return pd.concat([rows, pd.DataFrame(columns)], axis=1)


def _to_arrow(series):
    array = pa.array(series, from_pandas=True)
    return (
        array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    )


def _to_series(column):
    """Arrow to pandas; lists stay Arrow lists."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return pd.Series(column, dtype=pd.ArrowDtype(column.type))
    return column.to_pandas()


def _prepare_videos(videos):
    """Durations as buckets, tags as lists."""
    seconds = videos["video_duration"] / 1000.0
    tags = videos["tag"].astype("str").str.split(",")
    return videos.assign(
        # Half octaves; a missing duration is the unknown bucket.
        duration_bucket=np.floor(2.0 * np.log2(1.0 + seconds)).clip(upper=31),
        tag=tags.where(videos["tag"].notna(), None),
    )


def _make_schema(videos, labels, user_id):
    def lookup(name, dim=None, **kwargs):
        return schemas.Categorical(
            name, embedding_dim=dim, vocabulary="lookup", **kwargs
        )

    table = schemas.ItemTable(
        videos,
        key="video_id",
        features=[
            lookup("author_id", 16),
            lookup("tag", 16, max_length=3),
            lookup("music_id", 8),
            lookup("upload_type", 8),
            schemas.Categorical("duration_bucket", 32, 8),
        ],
    )
    num_videos = int(videos["video_id"].max()) + 1
    user = [lookup(name) for name in _USER_CATEGORICALS]
    user.append(schemas.Numerical("log_pre_len"))
    if user_id:
        user.insert(0, lookup("user_id", 32))

    def video_list(name):
        feature = schemas.Categorical(
            name, share_with="video_id", unknown="bucket"
        )
        return schemas.Sequence(name, _BEFORE, [feature])

    return schemas.Schema(
        user=user,
        context=[lookup("tab", 8), schemas.Categorical("hour", 24, 8)],
        item=[
            schemas.Categorical(
                "video_id", num_videos, 32, table=table, unknown="bucket"
            ),
            schemas.Numerical("log_duration"),
        ],
        sequences=[
            schemas.Sequence(
                "watched",
                _WATCHED,
                [
                    schemas.Categorical(
                        "hist_video_id", share_with="video_id", unknown="bucket"
                    ),
                    schemas.Categorical("hist_click", 2, 4),
                    schemas.Categorical("hist_long_view", 2, 4),
                    schemas.Categorical("hist_like", 2, 4),
                    lookup("hist_tab", share_with="tab"),
                    schemas.Timestamp("hist_time_s", unit="s"),
                ],
            ),
            *(video_list(name) for name in _BEFORE_COLUMNS),
        ],
        labels=[schemas.Label(name) for name in labels],
        group_id="user_id",
        timestamp=schemas.Timestamp("time_ms", unit="ms"),
    )
