import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from keras_unirec import metrics


def brute_force_auc(labels, scores, weights=None):
    weights = np.ones(len(labels)) if weights is None else weights
    won = total = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            pair = weights[i] * weights[j]
            total += pair
            won += pair * (
                1.0 if scores[i] > scores[j] else 0.5 * (scores[i] == scores[j])
            )
    return won / total if total else None


def rows(seed=0, size=200, num_scores=12, num_groups=15):
    rng = np.random.default_rng(seed)
    scores = rng.integers(num_scores, size=size) / 7.0  # Many ties.
    labels = (rng.random(size) < 0.2 + 0.3 * scores / 2).astype("int32")
    groups = rng.integers(num_groups, size=size)
    weights = rng.random(size) * 3
    return labels, scores, groups, weights


def test_auc_by_hand():
    assert metrics.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert metrics.auc([1, 0], [0.5, 0.5]) == 0.5
    assert metrics.auc([0, 1], [-1e30, 1e30]) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_brute_force_and_sklearn(seed):
    labels, scores, _, weights = rows(seed)
    assert metrics.auc(labels, scores) == pytest.approx(
        brute_force_auc(labels, scores), abs=1e-14
    )
    assert metrics.auc(labels, scores) == pytest.approx(
        roc_auc_score(labels, scores), abs=1e-14
    )
    assert metrics.auc(labels, scores, weights) == pytest.approx(
        brute_force_auc(labels, scores, weights), abs=1e-13
    )


def test_auc_is_exact_where_thresholds_fail():
    # All scores inside one of the 200 bins of keras.metrics.AUC.
    rng = np.random.default_rng(0)
    scores = 0.5 + 1e-5 * rng.random(1000)
    labels = rng.random(1000) < (scores - 0.5) * 1e5
    value = metrics.auc(labels, scores)
    assert value == pytest.approx(roc_auc_score(labels, scores), abs=1e-14)
    assert value > 0.8


def test_weight_zero_excludes_a_row():
    labels, scores, groups, weights = rows()
    weights[::3] = 0
    kept = weights > 0
    assert metrics.auc(labels, scores, weights) == pytest.approx(
        metrics.auc(labels[kept], scores[kept], weights[kept])
    )


@pytest.mark.parametrize("weighting", ["user", "impressions"])
@pytest.mark.parametrize("seed", range(5))
def test_grouped_auc_equals_brute_force(seed, weighting):
    labels, scores, groups, weights = rows(seed)
    labels[groups == 3] = 1
    labels[groups == 5] = 0
    result = metrics.grouped_auc(labels, scores, groups, weighting)
    values, sizes = [], []
    for group in np.unique(groups):
        inside = groups == group
        value = brute_force_auc(labels[inside], scores[inside])
        if value is not None:
            values.append(value)
            sizes.append(inside.sum())
    expected = np.average(
        values, weights=sizes if weighting == "impressions" else None
    )
    assert result.value == pytest.approx(expected, abs=1e-14)
    assert result.num_groups == len(values)
    assert result.num_skipped == len(np.unique(groups)) - len(values)
    assert result.num_skipped >= 2


def test_grouped_auc_with_weights():
    labels, scores, groups, weights = rows()
    result = metrics.grouped_auc(
        labels, scores, groups, "impressions", sample_weight=weights
    )
    values, sizes = [], []
    for group in np.unique(groups):
        inside = groups == group
        value = brute_force_auc(labels[inside], scores[inside], weights[inside])
        if value is not None:
            values.append(value)
            sizes.append(weights[inside].sum())
    assert result.value == pytest.approx(np.average(values, weights=sizes))


def test_names_of_the_grouped_aucs():
    labels, scores, groups, _ = rows()
    by_user = metrics.grouped_auc(labels, scores, groups, "user").value
    by_row = metrics.grouped_auc(labels, scores, groups, "impressions").value
    assert metrics.uauc(labels, scores, groups) == by_user
    assert metrics.query_auc(labels, scores, groups) == by_user
    assert metrics.gauc(labels, scores, groups) == by_row
    assert by_user != by_row


def test_groups_may_be_strings_and_any_order():
    labels, scores, groups, _ = rows()
    names = np.array([f"user {group}" for group in groups])
    order = np.random.default_rng(1).permutation(len(labels))
    assert metrics.uauc(labels, scores, groups) == pytest.approx(
        metrics.uauc(labels[order], scores[order], names[order]), abs=1e-15
    )


def test_no_group_has_both_classes():
    result = metrics.grouped_auc([0, 1], [0.1, 0.2], [1, 2], "user")
    assert np.isnan(result.value)
    assert (result.num_groups, result.num_skipped) == (0, 2)


def test_one_group_is_the_plain_auc():
    labels, scores, _, weights = rows()
    zeros = np.zeros(len(labels))
    assert metrics.gauc(labels, scores, zeros, weights) == pytest.approx(
        metrics.auc(labels, scores, weights)
    )


def test_errors():
    with pytest.raises(ValueError, match="both classes.*2 rows, 0 positive"):
        metrics.auc([0, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="both classes"):
        metrics.auc([], [])
    with pytest.raises(ValueError, match="2 labels, 1 scores"):
        metrics.auc([0, 1], [0.1])
    with pytest.raises(ValueError, match=r"0 or 1.*labels\[1\]=0.5"):
        metrics.auc([0, 0.5], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"scores\[0\]=nan"):
        metrics.auc([0, 1], [np.nan, 0.2])
    with pytest.raises(ValueError, match="1 groups, 2 labels"):
        metrics.uauc([0, 1], [0.1, 0.2], [1])
    with pytest.raises(ValueError, match='"user" or "impressions"'):
        metrics.grouped_auc([0, 1], [0.1, 0.2], [1, 1], "mean")
    with pytest.raises(ValueError, match=r"sample_weight\[1\]=-1.0"):
        metrics.auc([0, 1], [0.1, 0.2], [1, -1])
    with pytest.raises(ValueError, match="1 weights, 2 rows"):
        metrics.auc([0, 1], [0.1, 0.2], [1])
