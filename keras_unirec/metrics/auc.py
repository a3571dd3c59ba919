"""Exact areas under the ROC curve: over all rows, by user, by request.

Everything here is computed from ranks in float64, never from a histogram of
thresholds: `keras.metrics.AUC` with its 200 thresholds is off by whole points
when most scores lie close together. Rows with equal scores count one half, so
the order of the rows never matters.
"""

from typing import NamedTuple

import numpy as np


class GroupedAUC(NamedTuple):
    """Result of `grouped_auc`.

    Attributes:
        value: float. The weighted mean of the AUCs of the groups that have
            both classes; `nan` if there is no such group.
        num_groups: int. Groups that entered the mean.
        num_skipped: int. Groups left out because all their labels are equal,
            which leaves nothing to rank.
    """

    value: float
    num_groups: int
    num_skipped: int


def auc(labels, scores, sample_weight=None):
    """Probability that a positive row scores higher than a negative one.

    Exact: computed from ranks, ties count one half.

    Args:
        labels: Array of 0 and 1.
        scores: Array of the same size. Anything that ranks: logits or
            probabilities. Logits are safer, because float32 probabilities
            close to 1 collapse into ties.
        sample_weight: Optional array of non-negative row weights. A pair of
            rows counts with the product of the two. Defaults to one each.

    Returns:
        float.

    Example:
    ```python
    ku.metrics.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])  # 0.75
    ```
    """
    labels, scores, weights = _check_rows(labels, scores, sample_weight)
    order = np.argsort(scores, kind="stable")
    pairs, total = _ordered_pairs(
        np.zeros(len(labels), dtype="int64"),
        labels[order],
        scores[order],
        weights[order],
    )
    if total[0] == 0:
        raise ValueError(
            "AUC needs rows of both classes (with a positive weight). "
            f"Received: {len(labels)} rows, {_count(labels, weights)} positive"
        )
    return float(pairs[0] / total[0])


def grouped_auc(labels, scores, groups, weighting, sample_weight=None):
    """Mean over groups of the AUC inside each group.

    It compares only rows that compete with each other (of one user, of one
    request), so it does not credit a model for knowing which users click a
    lot. Groups whose labels are all equal have no AUC; they are skipped and
    counted.

    Args:
        labels: Array of 0 and 1.
        scores: Array of the same size; logits or probabilities.
        groups: Array of the same size with the group of each row: integers
            or strings.
        weighting: `"user"`: each group counts the same. `"impressions"`:
            a group counts as often as it has rows (the sum of their
            `sample_weight`).
        sample_weight: Optional array of non-negative row weights.

    Returns:
        A `GroupedAUC(value, num_groups, num_skipped)`.
    """
    if weighting not in ("user", "impressions"):
        raise ValueError(
            '`weighting` must be "user" or "impressions". '
            f"Received: weighting={weighting!r}"
        )
    labels, scores, weights = _check_rows(labels, scores, sample_weight)
    groups = np.asarray(groups).reshape(-1)
    if len(groups) != len(labels):
        raise ValueError(
            "`groups` must have one entry per row. Received: "
            f"{len(groups)} groups, {len(labels)} labels"
        )
    _, groups = np.unique(groups, return_inverse=True)
    order = np.lexsort((scores, groups))
    groups, weights = groups[order], weights[order]
    pairs, total = _ordered_pairs(groups, labels[order], scores[order], weights)
    both_classes = total > 0
    num_groups = int(both_classes.sum())
    num_skipped = len(total) - num_groups
    if num_groups == 0:
        return GroupedAUC(float("nan"), 0, num_skipped)
    values = pairs[both_classes] / total[both_classes]
    if weighting == "user":
        return GroupedAUC(float(values.mean()), num_groups, num_skipped)
    impressions = np.bincount(groups, weights=weights)[both_classes]
    value = float(np.average(values, weights=impressions))
    return GroupedAUC(value, num_groups, num_skipped)


def uauc(labels, scores, users, sample_weight=None):
    """UAUC: the mean AUC per user, each user counting the same.

    `grouped_auc(..., weighting="user").value`; arguments as there.
    """
    return grouped_auc(labels, scores, users, "user", sample_weight).value


def gauc(labels, scores, users, sample_weight=None):
    """GAUC: the mean AUC per user, weighted by the user's impressions.

    `grouped_auc(..., weighting="impressions").value`; arguments as there.

    A warning on histories: if they go on growing inside the test window, a
    user's earlier test clicks are in the inputs of the later rows, and the
    metric is biased (on KuaiRand a user's running click rate alone then
    scores 0.13). Use histories frozen at the start of the window.

    Reference: [Zhou et al., 2018](https://arxiv.org/abs/1706.06978)
    """
    return grouped_auc(
        labels, scores, users, "impressions", sample_weight
    ).value


def query_auc(labels, scores, requests, sample_weight=None):
    """Query AUC: the mean AUC per request, each request counting the same.

    `grouped_auc(..., weighting="user").value` with the request as the group.
    """
    return grouped_auc(labels, scores, requests, "user", sample_weight).value


def _ordered_pairs(groups, labels, scores, weights):
    """Counts the pairs of rows that are in order, and all pairs, by group.

    Args:
        groups: int array, 0 .. number of groups - 1, ascending.
        labels, scores, weights: arrays, scores ascending inside each group.

    Returns:
        Two float arrays with one entry per group: the weight of pairs
        (positive, negative) where the positive scores higher, a tie counting
        one half; and the weight of all pairs.
    """
    if len(labels) == 0:
        return np.zeros(1), np.zeros(1)
    # A block is a run of rows of one group with one score.
    is_first = np.ones(len(labels), dtype=bool)
    is_first[1:] = (groups[1:] != groups[:-1]) | (scores[1:] != scores[:-1])
    first = np.flatnonzero(is_first)
    positive = np.add.reduceat(weights * labels, first)
    negative = np.add.reduceat(weights * (1.0 - labels), first)
    group = groups[first]
    # Negatives below a block: those of all earlier blocks of its group. With
    # weights of 1 these are sums of integers, hence exact.
    num_groups = int(group[-1]) + 1
    all_positive = np.bincount(group, positive, minlength=num_groups)
    all_negative = np.bincount(group, negative, minlength=num_groups)
    below = np.cumsum(negative) - negative
    group_start = np.searchsorted(group, np.arange(num_groups))
    below = below - below[group_start][group]
    pairs = np.bincount(
        group, positive * (below + 0.5 * negative), minlength=num_groups
    )
    return pairs, all_positive * all_negative


def _check_rows(labels, scores, sample_weight):
    labels = np.asarray(labels, dtype="float64").reshape(-1)
    scores = np.asarray(scores, dtype="float64").reshape(-1)
    if len(labels) != len(scores):
        raise ValueError(
            "`labels` and `scores` must have the same size. Received: "
            f"{len(labels)} labels, {len(scores)} scores"
        )
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        raise ValueError(
            "`labels` must be 0 or 1 to be ranked. Received: "
            f"labels[{bad[0]}]={labels[bad[0]]}"
        )
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise ValueError(
            f"`scores` must not be NaN. Received: scores[{bad[0]}]=nan"
        )
    return labels, scores, _check_weights(sample_weight, len(labels))


def _check_weights(sample_weight, size):
    if sample_weight is None:
        return np.ones(size)
    weights = np.asarray(sample_weight, dtype="float64").reshape(-1)
    if len(weights) != size:
        raise ValueError(
            "`sample_weight` must have one entry per row. Received: "
            f"{len(weights)} weights, {size} rows"
        )
    bad = np.flatnonzero(~(weights >= 0) | np.isinf(weights))
    if len(bad):
        raise ValueError(
            "`sample_weight` must be finite and not negative. Received: "
            f"sample_weight[{bad[0]}]={weights[bad[0]]}"
        )
    return weights


def _count(labels, weights):
    return int(((labels == 1) & (weights > 0)).sum())
