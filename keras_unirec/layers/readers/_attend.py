"""Queries that read events."""

import keras
from keras import ops

from keras_unirec.layers.readers._attention_weights import attention_weights


def attend(queries, keys, values, mask, attention):
    """Weights the values by queries and keys, and sums them.

    Args:
        queries: Tensor of shape `(..., num_queries, dim)`, divided by the root
            of the width of a key.
        keys: Tensor of shape `(..., length, dim)`, of the same leading axes.
        values: Tensor of shape `(..., length, value_dim)`. Absorbed keys and
            values are both the events: the same tensor.
        mask: None or bool tensor that broadcasts to
            `(..., num_queries, length)`.
        attention: As in `attention_weights`.

    Returns:
        Tensor of shape `(..., num_queries, value_dim)`.
    """
    if (
        values is keys
        and attention == "softmax"
        and keras.backend.backend() == "tensorflow"
    ):
        return _softmax_read(queries, keys, mask)
    scores = ops.matmul(queries, ops.swapaxes(keys, -1, -2))
    return ops.matmul(attention_weights(scores, mask, attention), values)


def _softmax_read(queries, events, mask):
    """Softmax attention on the events, whose gradient is written once.

    They are keys and values: their gradient is the sum of two outer products.
    TensorFlow would write both, as large as the events, and add them; here
    they are one product.
    """

    @ops.custom_gradient
    def read(queries, events):
        scores = ops.matmul(queries, ops.swapaxes(events, -1, -2))
        weights = attention_weights(scores, mask, "softmax")

        def gradient(*args, upstream=None):
            (upstream,) = args if upstream is None else (upstream,)
            by_weight = ops.matmul(upstream, ops.swapaxes(events, -1, -2))
            by_weight = ops.cast(by_weight, "float32")
            share = ops.cast(weights, "float32")
            mean = ops.sum(share * by_weight, axis=-1, keepdims=True)
            by_score = ops.cast(share * (by_weight - mean), queries.dtype)
            left = ops.concatenate([by_score, weights], axis=-2)
            right = ops.concatenate([queries, upstream], axis=-2)
            return (
                ops.matmul(by_score, events),
                ops.matmul(ops.swapaxes(left, -1, -2), right),
            )

        return ops.matmul(weights, events), gradient

    return read(queries, events)
