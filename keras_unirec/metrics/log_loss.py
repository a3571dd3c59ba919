"""How good the probabilities themselves are: logloss, NE, calibration."""

import numpy as np

from keras_unirec.metrics.auc import _check_weights


def logloss(
    labels, predictions, sample_weight=None, from_logits=False, epsilon=1e-15
):
    """Mean negative log likelihood of the labels, in nats.

    Probabilities are clipped to `[epsilon, 1 - epsilon]`, so that one
    confident mistake costs at most `-log(epsilon)`, 34.5 by default. Logits
    are not clipped and need no clipping: the loss is
    `log(1 + exp(z)) - y * z`, evaluated without overflow.

    Args:
        labels: Array of numbers in `[0, 1]`.
        predictions: Array of the same size: probabilities, or logits.
        sample_weight: Optional array of non-negative row weights.
        from_logits: bool. Whether `predictions` are logits. Defaults to
            `False`.
        epsilon: float. Clips probabilities. Defaults to `1e-15`.

    Returns:
        float.
    """
    labels, predictions, weights = _check_rows(
        labels, predictions, sample_weight, from_logits
    )
    if from_logits:
        losses = np.logaddexp(0.0, predictions) - labels * predictions
    else:
        p = np.clip(predictions, epsilon, 1.0 - epsilon)
        losses = -(labels * np.log(p) + (1.0 - labels) * np.log1p(-p))
    return float(np.average(losses, weights=weights))


def normalized_entropy(
    labels, predictions, sample_weight=None, from_logits=False, epsilon=1e-15
):
    """Logloss divided by that of always predicting the mean label.

    Below 1 the model knows more than the base rate. Unlike logloss, values
    on data with different base rates can be compared.

    Args: as for `logloss`.

    Returns:
        float.

    Reference: [He et al., 2014](https://doi.org/10.1145/2648584.2648589)
    """
    loss = logloss(labels, predictions, sample_weight, from_logits, epsilon)
    rate = _mean(labels, sample_weight)
    if not 0.0 < rate < 1.0:
        raise ValueError(
            "Normalized entropy needs labels that are not all 0 and not all "
            f"1. Received: a mean label of {rate}"
        )
    entropy = -(rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate))
    return float(loss / entropy)


def calibration(labels, predictions, sample_weight=None, from_logits=False):
    """Mean prediction divided by mean label: 1 is right, 1.1 is 10 % high.

    Args: as for `logloss`.

    Returns:
        float.
    """
    labels, predictions, weights = _check_rows(
        labels, predictions, sample_weight, from_logits
    )
    if from_logits:
        predictions = sigmoid(predictions)
    rate = np.average(labels, weights=weights)
    if rate == 0:
        raise ValueError(
            "Calibration needs at least one positive label. "
            f"Received: {len(labels)} rows, none positive"
        )
    return float(np.average(predictions, weights=weights) / rate)


def sigmoid(logits):
    """`1 / (1 + exp(-logits))` in float64, exact far below and above 0."""
    logits = np.asarray(logits, dtype="float64")
    return np.exp(-np.logaddexp(0.0, -logits))


def _mean(labels, sample_weight):
    labels = np.asarray(labels, dtype="float64").reshape(-1)
    weights = _check_weights(sample_weight, len(labels))
    return float(np.average(labels, weights=weights))


def _check_rows(labels, predictions, sample_weight, from_logits):
    labels = np.asarray(labels, dtype="float64").reshape(-1)
    predictions = np.asarray(predictions, dtype="float64").reshape(-1)
    if len(labels) != len(predictions):
        raise ValueError(
            "`labels` and `predictions` must have the same size. Received: "
            f"{len(labels)} labels, {len(predictions)} predictions"
        )
    bad = np.flatnonzero(~((labels >= 0) & (labels <= 1)))
    if len(bad):
        raise ValueError(
            "`labels` must lie in [0, 1]. Received: "
            f"labels[{bad[0]}]={labels[bad[0]]}"
        )
    if from_logits:
        bad = np.flatnonzero(~np.isfinite(predictions))
        expected = "finite logits"
    else:
        bad = np.flatnonzero(~((predictions >= 0) & (predictions <= 1)))
        expected = "probabilities in [0, 1]; for logits: `from_logits=True`"
    if len(bad):
        raise ValueError(
            f"`predictions` must be {expected}. Received: "
            f"predictions[{bad[0]}]={predictions[bad[0]]}"
        )
    weights = _check_weights(sample_weight, len(labels))
    if not weights.sum() > 0:
        raise ValueError(
            "There must be at least one row with a positive weight. "
            f"Received: {len(labels)} rows"
        )
    return labels, predictions, weights
