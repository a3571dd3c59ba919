"""Matrices whose rows and columns sum to one, from free logits."""

import math

from keras import ops


def sinkhorn(logits, temperature, num_iterations, symmetric=True):
    """Sinkhorn-Knopp: rows and columns are normalized in turns.

    The result is that of the iteration in log space, `Z -= logsumexp(Z)` over
    rows, then over columns, from `Z = logits / temperature`, followed by
    `exp(Z)`; all in float32. Only the first iteration is computed so. It
    leaves entries of at most 1 and columns that sum to 1; from there, vectors
    `u` and `v` in `diag(u) P diag(v)` do the same with one product of a matrix
    and a vector for each half of an iteration.

    With `symmetric` the logits are averaged with their transpose before, and
    the result after: at low temperatures 20 iterations do not converge, and
    columns, normalized last, fit better than rows.

    Args:
        logits: Tensor of shape `(..., n, n)`.
        temperature: Scalar. Near zero the result is near a permutation.
        num_iterations: int.
        symmetric: bool.

    Returns:
        float32 tensor of the shape of `logits`.
    """
    logits = ops.cast(logits, "float32")
    if symmetric:
        logits = (logits + ops.swapaxes(logits, -1, -2)) / 2
    logits = logits / ops.cast(temperature, "float32")
    logits -= ops.logsumexp(logits, axis=-1, keepdims=True)
    logits -= ops.logsumexp(logits, axis=-2, keepdims=True)
    matrices = ops.exp(logits)
    left, longest = num_iterations - 1, _longest(matrices.shape[-1])
    while left > 0:
        matrices = _scaled(matrices, min(left, longest))
        left -= longest
    if symmetric:
        matrices = (matrices + ops.swapaxes(matrices, -1, -2)) / 2
    return matrices


def _longest(n):
    """How many iterations the scales of float32 surely hold.

    Each multiplies a scale by at most `n^2`: row sums start between `1 / n^2`
    and `n`, and no iteration leads out of the range of the one before.
    """
    return max(1, int(30 / (2 * math.log10(max(n, 2)))))


def _scaled(matrices, num_iterations):
    """`diag(u) P diag(v)` after some iterations, all of them differentiated.

    An iteration is `u = 1 / (P v)`, then `v = 1 / (P^T u)`. Its gradient to
    `P` is a sum of outer products; here those of all iterations are one
    product of matrices.
    """

    @ops.custom_gradient
    def scale(p):
        transposed = ops.swapaxes(p, -1, -2)
        us, vs = [], [ops.ones_like(p[..., 0])]
        for _ in range(num_iterations):
            us.append(1.0 / _times(p, vs[-1]))
            vs.append(1.0 / _times(transposed, us[-1]))
        factors = us[-1][..., :, None] * vs[-1][..., None, :]

        def gradient(*args, upstream=None):
            (upstream,) = args if upstream is None else (upstream,)
            by_result = upstream * p
            by_u = _times(by_result, vs[-1])
            by_v = _times(ops.swapaxes(by_result, -1, -2), us[-1])
            lefts, rights = [], []
            for i in reversed(range(num_iterations)):
                by_sum = -by_v * ops.square(vs[i + 1])  # of columns
                lefts.append(us[i])
                rights.append(by_sum)
                by_u = by_u + _times(p, by_sum)
                by_sum = -by_u * ops.square(us[i])  # of rows
                lefts.append(by_sum)
                rights.append(vs[i])
                by_v = _times(transposed, by_sum)
                by_u = ops.zeros_like(by_u)  # Earlier ones have no result.
            return upstream * factors + ops.matmul(
                ops.stack(lefts, axis=-1), ops.stack(rights, axis=-2)
            )

        return p * factors, gradient

    return scale(matrices)


def _times(matrices, vectors):
    """`(..., n, n)` by `(..., n)`."""
    return ops.matmul(matrices, vectors[..., None])[..., 0]
