import numpy as np
import pandas as pd
import pytest

import keras_unirec as ku


def write(folder, num_ratings=400, seed=0):
    """Writes files in the official format and returns the ratings."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = rng.permutation(20 * 40)[:num_ratings]
    ratings = pd.DataFrame(
        {
            "user": 1 + pairs // 40,
            "movie": 1 + 3 * (pairs % 40),  # Ids have holes.
            "rating": rng.integers(1, 6, num_ratings),
            # Several ratings of a user in a second, as in the real file.
            "time": 956_703_932 + 60 * rng.integers(0, 60, num_ratings),
        }
    ).sort_values("user", kind="stable")
    lines = ratings.astype(str).agg("::".join, axis=1)
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
    users = [
        f"{user}::{'FM'[user % 2]}::{[1, 18][user % 2]}::{user % 21}::0{user}"
        for user in range(1, 21)
    ]
    (folder / "users.dat").write_text("\n".join(users) + "\n")
    movies = [
        f"{1 + 3 * i}::Misérables: Nº {i}, Les ({1950 + i})::"
        + ["Drama", "Animation|Children's|Comedy", "Drama|Sci-Fi"][i % 3]
        for i in range(40)
    ]
    (folder / "movies.dat").write_bytes(
        ("\n".join(movies) + "\n").encode("latin-1")
    )
    return ratings


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movielens")
    return folder, write(folder / "ml-1m")


def test_split(files):
    folder, ratings = files
    train, test, schema = ku.data.movielens_1m(folder, test_fraction=0.2)
    assert len(train) + len(test) == len(ratings)
    assert abs(len(test) - 80) <= 12
    assert train["time_s"].is_monotonic_increasing
    assert train["time_s"].max() < test["time_s"].min()
    for frame in (train, test):
        assert (frame["liked"] == (frame["rating"] >= 4)).all()
    assert schema.is_adapted
    inputs = {encoded.feature for encoded in schema.encoded}
    assert not inputs & {"rating", "user_id"}
    again, _, _ = ku.data.movielens_1m(folder / "ml-1m", test_fraction=0.2)
    pd.testing.assert_frame_equal(again, train)


def test_histories_are_strictly_earlier(files):
    folder, ratings = files
    train, test, _ = ku.data.movielens_1m(folder, history_length=7)
    ratings = ratings.sort_values(["user", "time"], kind="stable")
    assert ratings.duplicated(["user", "time"]).any()
    for row in pd.concat([train, test]).itertuples():
        earlier = ratings[
            (ratings["user"] == row.user_id) & (ratings["time"] < row.time_s)
        ].tail(7)
        assert list(row.rated_movie_id) == earlier["movie"].tolist()
        assert list(row.rated_rating) == earlier["rating"].tolist()
        assert list(row.rated_time_s) == earlier["time"].tolist()


def test_side_information(files):
    folder, _ = files
    train, _, schema = ku.data.movielens_1m(folder)
    movies = schema.item[0].table.data
    assert movies["year"].value(3) == "1953"
    genres = schema.categorical("genres").values
    assert set(genres) == {
        "Animation",
        "Children's",
        "Comedy",
        "Drama",
        "Sci-Fi",
    }
    x, y, _ = next(iter(ku.data.from_pandas(train, schema, batch_size=16)))
    assert x["movie_id.genres"].shape == (16, 1, 6)
    assert x["rated_movie_id.genres"].shape[2] == 6
    index = (train["movie_id"][:16] - 1) // 3
    found = np.asarray(x["movie_id.genres"])[:, 0]
    np.testing.assert_array_equal(
        (found > 0).sum(axis=1), np.array([1, 3, 2])[index % 3]
    )
    np.testing.assert_array_equal(y["liked"][:, 0], train["liked"][:16])


def test_missing_files_say_where_to_get_them(files, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="ratings.dat, users.dat, movies.*grouplens.org"
    ):
        ku.data.movielens_1m(tmp_path)
    write(tmp_path)
    (tmp_path / "users.dat").unlink()
    with pytest.raises(FileNotFoundError, match="needs the files users.dat."):
        ku.data.movielens_1m(tmp_path)


def test_wrong_files(tmp_path):
    write(tmp_path)
    ratings = tmp_path / "ratings.dat"
    text = ratings.read_text()
    ratings.write_text(text + "1,2,3,4\n")
    with pytest.raises(ValueError, match="ratings.dat.*'1,2,3,4' in line 401"):
        ku.data.movielens_1m(tmp_path)
    ratings.write_text(text + "1::2::many::4\n")
    with pytest.raises(ValueError, match="`rating`.*'many' in line 401"):
        ku.data.movielens_1m(tmp_path)
    ratings.write_text("")
    with pytest.raises(ValueError, match="Received: an empty file"):
        ku.data.movielens_1m(tmp_path)


def test_wrong_arguments(files):
    folder, _ = files
    with pytest.raises(ValueError, match="`test_fraction` must lie"):
        ku.data.movielens_1m(folder, test_fraction=0)
    with pytest.raises(ValueError, match="must leave ratings to train on"):
        ku.data.movielens_1m(folder, test_fraction=0.9999)
    with pytest.raises(ValueError, match="`history_length` must be"):
        ku.data.movielens_1m(folder, history_length=0)
