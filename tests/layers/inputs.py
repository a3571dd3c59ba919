"""Padded histories and random weights, for the tests of several layers."""

import numpy as np

from tests.test_case import to_numpy


def pad_histories(histories, side, length=None, content=100.0):
    """A batch of histories of different lengths, and its mask.

    Args:
        histories: List of arrays `(number of events, event_dim)`.
        side: `"right"` or `"left"`, where the padding goes.
        length: Optional int. Defaults to that of the longest history.
        content: float. What padding holds.

    Returns:
        Float32 array `(requests, length, event_dim)` and bool array
        `(requests, length)`.
    """
    length = length or max(len(history) for history in histories)
    shape = (len(histories), length, histories[0].shape[-1])
    batch = np.full(shape, content, "float32")
    mask = np.zeros(shape[:2], "bool")
    for r, history in enumerate(histories):
        start = 0 if side == "right" else length - len(history)
        batch[r, start : start + len(history)] = history
        mask[r, start : start + len(history)] = True
    return batch, mask


def randomize_weights(layer, scale=0.3):
    """No weight is zero or one, so that every weight shows in the output."""
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        noise = scale * rng.normal(size=weight.shape)
        weight.assign(to_numpy(weight) + noise)
