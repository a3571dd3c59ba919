"""A click log whose click probabilities are known."""

import dataclasses

import numpy as np
import pandas as pd

from keras_unirec import metrics
from keras_unirec import schema as schemas
from keras_unirec.data.synthetic.clicks import crosses
from keras_unirec.data.synthetic.clicks import effects
from keras_unirec.data.synthetic.clicks import liked
from keras_unirec.data.synthetic.clicks import searched
from keras_unirec.data.synthetic.clicks import simulate_clicks
from keras_unirec.data.synthetic.columns import make_frame
from keras_unirec.data.synthetic.columns import make_schema
from keras_unirec.data.synthetic.population import make_items
from keras_unirec.data.synthetic.population import make_likes
from keras_unirec.data.synthetic.population import make_requests
from keras_unirec.data.synthetic.population import make_searches
from keras_unirec.data.synthetic.population import make_users
from keras_unirec.metrics.log_loss import sigmoid


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
    items = make_items(rng, num_items, num_tags)
    users = make_users(rng, num_users, num_tags)
    num_requests = num_rows // candidates_per_request
    requests = make_requests(
        rng, num_requests, users, items, candidates_per_request, num_days
    )
    likes = make_likes(rng, users, items)
    searches = make_searches(rng, users, num_tags, num_days)

    parts = {
        "effects": effects(rng, requests, users, items),
        "crosses": crosses(rng, requests, users, items, num_tags),
        "histories": liked(requests, likes, items)
        + searched(requests, searches, items),
    }
    clicks, watched = simulate_clicks(
        rng, requests, items, sum(parts.values()), history_length
    )
    parts["histories"] += watched

    # From (user, time) to time.
    order = np.argsort(requests["time_ms"], kind="stable")
    frame = make_frame(
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
    schema = make_schema(table, history_length).adapt(train)
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
