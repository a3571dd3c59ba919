"""MovieLens-1M: ratings of movies, with histories."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd

from keras_unirec import schema as schemas
from keras_unirec.data import _histories

_PAGE = "https://grouplens.org/datasets/movielens/1m/"
_FILES = {
    "ratings.dat": ("user_id", "movie_id", "rating", "time_s"),
    "users.dat": ("user_id", "gender", "age", "occupation", "zip_code"),
    "movies.dat": ("movie_id", "title", "genres"),
}
_NUMBERS = ("user_id", "movie_id", "rating", "time_s", "age", "occupation")


def movielens_1m(path, test_fraction=0.1, history_length=100):
    """Reads MovieLens-1M (Harper and Konstan, 2015) as frames and a schema.

    A row is a rating; the label `liked` is whether it is 4 or 5. Its history
    `rated` is the user's strictly earlier ratings: movie, rating and time,
    and through the table of movies their genres and year. (Most users gave
    all their ratings in one sitting, a few per second.)

    The rating of the row itself is in the frames, but it is the label in
    other words and not an input.

    Args:
        path: Folder of `ratings.dat`, `users.dat` and `movies.dat`, from
            https://grouplens.org/datasets/movielens/1m/.
        test_fraction: float. The last part of the ratings, by time, is the
            test set. Defaults to `0.1`.
        history_length: int. Ratings that a row remembers. Defaults to `100`.

    Returns:
        Tuple `(train, test, schema)`: two data frames in order of time, and
        their schema, adapted to `train`.

    Example:
    ```python
    train, test, schema = ku.data.movielens_1m("ml-1m")
    data = ku.data.from_pandas(train, schema, batch_size=256, shuffle=True)
    ```
    """
    if not 0 < test_fraction < 1:
        raise ValueError(
            "`test_fraction` must lie between 0 and 1. "
            f"Received: test_fraction={test_fraction}"
        )
    if not isinstance(history_length, (int, np.integer)) or history_length < 1:
        raise ValueError(
            "`history_length` must be a positive integer. "
            f"Received: history_length={history_length!r}"
        )
    folder = _find(Path(path).expanduser())
    rows, users, movies = (_read(folder / name) for name in _FILES)
    rows = rows.sort_values("time_s", kind="stable", ignore_index=True)
    rows["liked"] = (rows["rating"] >= 4).astype("int64")
    rows = rows.merge(users, on="user_id", how="left", validate="many_to_one")
    rows = rows.assign(**_histories_of(rows, history_length))
    split = len(rows) - max(1, round(len(rows) * test_fraction))
    # Ratings of one second stay on one side.
    split = int(np.searchsorted(rows["time_s"], rows["time_s"].iloc[split]))
    if split == 0:
        raise ValueError(
            "`test_fraction` must leave ratings to train on. "
            f"Received: test_fraction={test_fraction} of {len(rows)} ratings"
        )
    train, test = rows.iloc[:split], rows.iloc[split:]
    schema = _make_schema(_prepare_movies(movies), history_length)
    return train, test.reset_index(drop=True), schema.adapt(train)


def _histories_of(rows, max_length):
    """List columns over the earlier ratings; rows are in order of time."""
    # In order of user and time; the ratings of one second as they came.
    events = rows.iloc[np.argsort(rows["user_id"], kind="stable")]
    start, end = _histories.windows(
        events["user_id"].to_numpy(),
        events["time_s"].to_numpy(),
        rows["user_id"].to_numpy(),
        rows["time_s"].to_numpy(),
        max_length,
    )
    columns = {
        "rated_movie_id": "movie_id",
        "rated_rating": "rating",
        "rated_time_s": "time_s",
    }
    return {
        name: _histories.list_column(
            events[source].to_numpy("int32"), start, end
        )
        for name, source in columns.items()
    }


def _find(path):
    for folder in (path, path / "ml-1m"):
        if any((folder / name).is_file() for name in _FILES):
            path = folder
            break
    missing = [name for name in _FILES if not (path / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"MovieLens-1M needs the files {', '.join(missing)}. Get "
            f"ml-1m.zip from its authors, {_PAGE}, unpack it, and give its "
            f"folder as `path`. Received: {path}, which lacks them"
        )
    return path


def _read(path):
    """Reads fields that `::` separates; titles are Latin-1."""
    names = _FILES[path.name]
    text = path.read_text(encoding="latin-1")
    if not text.strip():
        raise _wrong(path, "an empty file")
    # The fast parser takes separators of one character. One column more than
    # there should be shows lines that are too long.
    separator = "\x1f"
    try:
        fields = pd.read_csv(
            io.StringIO(text.replace("::", separator)),
            sep=separator,
            header=None,
            names=range(len(names) + 1),
            dtype="str",
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            skip_blank_lines=False,
        )
    except pd.errors.ParserError as error:
        raise _wrong(path, str(error)) from error
    fields = fields.fillna("")
    wrong = (fields[len(names) - 1] == "") | (fields[len(names)] != "")
    if wrong.any():
        line = int(np.argmax(wrong))
        found = text.split("\n")[line]
        raise _wrong(path, f"{found!r} in line {line + 1}")
    del fields[len(names)]
    fields.columns = names
    for name in names:
        if name in _NUMBERS:
            numbers = pd.to_numeric(fields[name], errors="coerce")
            bad = np.flatnonzero(numbers.isna())
            if len(bad):
                raise ValueError(
                    f"{path} must hold a number as `{name}`. Received: "
                    f"{fields[name][bad[0]]!r} in line {bad[0] + 1}"
                )
            fields[name] = numbers.astype("int64")
    return fields


def _wrong(path, found):
    return ValueError(
        f"{path} must be a file of MovieLens-1M, with the fields "
        f"{'::'.join(_FILES[path.name])} in each line. Received: {found}"
    )


def _prepare_movies(movies):
    """Genres as lists, and the year that a title ends with."""
    year = movies["title"].str.extract(r"\((\d{4})\)\s*$")[0]
    return movies.assign(genres=movies["genres"].str.split("|"), year=year)


def _make_schema(movies, history_length):
    def lookup(name, dim, **kwargs):
        return schemas.Categorical(
            name, embedding_dim=dim, vocabulary="lookup", **kwargs
        )

    table = schemas.ItemTable(
        movies,
        key="movie_id",
        features=[lookup("genres", 16, max_length=6), lookup("year", 8)],
    )
    return schemas.Schema(
        user=[
            lookup("gender", 4),
            lookup("age", 4),
            lookup("occupation", 8),
        ],
        item=[lookup("movie_id", 32, table=table)],
        sequences=[
            schemas.Sequence(
                "rated",
                history_length,
                [
                    lookup("rated_movie_id", None, share_with="movie_id"),
                    schemas.Categorical("rated_rating", 6, 8),
                    schemas.Timestamp("rated_time_s", unit="s"),
                ],
            )
        ],
        labels=[schemas.Label("liked")],
        group_id="user_id",
        timestamp=schemas.Timestamp("time_s", unit="s"),
    )
