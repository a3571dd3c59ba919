"""From scores to the weights of the events of a history."""

from keras import ops

ATTENTIONS = ("softmax", "sigmoid")


def attention_weights(scores, mask, attention):
    """Weights of events, zero on padding; float32 inside.

    Args:
        scores: Tensor whose last axis is the events: products of keys with
            queries that were divided by the root of their width (before the
            product, where half precision could overflow).
        mask: None or bool tensor that broadcasts to `scores`.
        attention: `"softmax"`, or `"sigmoid"` for
            `sigmoid(score) / sqrt(number of events)`.

    Returns:
        Tensor of the shape and dtype of `scores`.
    """
    dtype = scores.dtype
    scores = ops.cast(scores, "float32")
    if mask is None:
        mask = ops.ones(ops.shape(scores)[-1:], dtype="bool")
    if attention == "softmax":
        weights = ops.softmax(ops.where(mask, scores, -1e9), axis=-1)
    else:
        num_events = ops.sum(ops.cast(mask, "float32"), axis=-1, keepdims=True)
        num_events = ops.maximum(num_events, 1.0)
        weights = ops.sigmoid(scores) * ops.rsqrt(num_events)
    # A request without events has only padding to spread its weight on.
    return ops.cast(ops.where(mask, weights, 0.0), dtype)
