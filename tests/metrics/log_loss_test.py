import numpy as np
import pytest
from sklearn.metrics import log_loss

from keras_unirec import metrics


def rows(seed=0, size=300):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=size) * 2
    labels = (rng.random(size) < 1 / (1 + np.exp(-logits))).astype("int32")
    return labels, logits, rng.random(size)


@pytest.mark.parametrize("seed", range(3))
def test_logloss_equals_sklearn(seed):
    labels, logits, weights = rows(seed)
    p = 1 / (1 + np.exp(-logits))
    expected = log_loss(labels, p)
    assert metrics.logloss(labels, p) == pytest.approx(expected, rel=1e-12)
    assert metrics.logloss(labels, logits, from_logits=True) == pytest.approx(
        expected, rel=1e-12
    )
    expected = log_loss(labels, p, sample_weight=weights)
    assert metrics.logloss(labels, p, weights) == pytest.approx(
        expected, rel=1e-12
    )


def test_logloss_of_extreme_predictions():
    # Logits lose nothing: one mistake at 1,000 costs 1,000 nats.
    value = metrics.logloss([0, 1], [1000.0, -500.0], from_logits=True)
    assert value == 750.0
    # Probabilities are clipped.
    value = metrics.logloss([0, 0], [1.0, 0.0])
    assert value == pytest.approx(-np.log(1e-15) / 2, rel=1e-2)
    value = metrics.logloss([0, 0], [1.0, 0.0], epsilon=1e-3)
    assert value == pytest.approx(-(np.log(1e-3) + np.log1p(-1e-3)) / 2)


def test_soft_labels():
    value = metrics.logloss([0.25], [0.25])
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert value == pytest.approx(entropy)


def test_normalized_entropy():
    labels, logits, weights = rows()
    rate = labels.mean()
    constant = np.full(len(labels), rate)
    assert metrics.normalized_entropy(labels, constant) == pytest.approx(1.0)
    value = metrics.normalized_entropy(labels, logits, from_logits=True)
    assert value == pytest.approx(
        metrics.logloss(labels, logits, from_logits=True)
        / metrics.logloss(labels, constant)
    )
    rate = np.average(labels, weights=weights)
    constant = np.full(len(labels), rate)
    assert metrics.normalized_entropy(
        labels, constant, weights
    ) == pytest.approx(1.0)


def test_calibration():
    assert metrics.calibration([0, 1], [0.5, 0.6]) == pytest.approx(1.1)
    assert metrics.calibration([0, 1], [0.5, 0.6], [1, 3]) == pytest.approx(
        (0.5 + 1.8) / 3
    )
    labels, logits, _ = rows()
    p = 1 / (1 + np.exp(-logits))
    assert metrics.calibration(
        labels, logits, from_logits=True
    ) == pytest.approx(p.mean() / labels.mean())
    extreme = metrics.calibration([1, 1], [-2000.0, 2000.0], from_logits=True)
    assert extreme == 0.5


def test_errors():
    with pytest.raises(ValueError, match=r"labels\[1\]=2.0"):
        metrics.logloss([0, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"from_logits=True.*\[1\]=1.5"):
        metrics.logloss([0, 1], [0.1, 1.5])
    with pytest.raises(ValueError, match=r"finite logits.*\[0\]=inf"):
        metrics.logloss([0, 1], [np.inf, 1.5], from_logits=True)
    with pytest.raises(ValueError, match="2 labels, 1 predictions"):
        metrics.logloss([0, 1], [0.1])
    with pytest.raises(ValueError, match="at least one row"):
        metrics.logloss([], [])
    with pytest.raises(ValueError, match="not all 0.*mean label of 0.0"):
        metrics.normalized_entropy([0, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="at least one positive"):
        metrics.calibration([0, 0], [0.1, 0.2])
