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
    matrices = _normalized(logits, num_iterations - 1)
    if symmetric:
        matrices = (matrices + ops.swapaxes(matrices, -1, -2)) / 2
    return matrices


def _normalized(logits, num_iterations):
    """`exp(logits)` after more iterations, all of them differentiated.

    An iteration is `u = 1 / (P v)`, then `v = 1 / (P^T u)`. The gradient to
    `P` is a sum of outer products, one for each half; here it is one product
    of matrices, and taken to `log P`, where nothing is large.
    """

    @ops.custom_gradient
    def normalize(logits):
        matrices = [ops.exp(logits)]
        scales = []
        for length in _parts(num_iterations, logits.shape[-1]):
            us, vs = _scales(matrices[-1], length)
            scales.append((us, vs))
            factors = us[-1][..., :, None] * vs[-1][..., None, :]
            matrices.append(matrices[-1] * factors)

        def gradient(*args, upstream=None):
            (upstream,) = args if upstream is None else (upstream,)
            by_logits = upstream * matrices[-1]
            for p, (us, vs) in zip(reversed(matrices[:-1]), reversed(scales)):
                by_logits = by_logits + p * _by_scales(p, us, vs, by_logits)
            return by_logits

        return matrices[-1], gradient

    return normalize(logits)


def _parts(num_iterations, n):
    """Lengths of the parts after which the scales start from 1 again.

    An iteration multiplies an element of `u v^T` by at most `n^2`: row sums
    are between `1 / n` and `n` after the first iteration, and no later one
    leads out of the range of those before it. float32 holds `1e30`.
    """
    longest = max(1, int(30 / (2 * math.log10(max(n, 2)))))
    while num_iterations > 0:
        yield min(num_iterations, longest)
        num_iterations -= longest


def _scales(p, num_iterations):
    """The `u` and the `v` of all iterations; the first `v` is 1."""
    transposed = ops.swapaxes(p, -1, -2)
    us, vs = [], [ops.ones_like(p[..., 0])]
    for _ in range(num_iterations):
        us.append(1.0 / _times(p, vs[-1]))
        vs.append(1.0 / _times(transposed, us[-1]))
    return us, vs


def _by_scales(p, us, vs, by_log):
    """The gradient to `p` through `us` and `vs`.

    `by_log` is the gradient to the logarithm of `diag(u) p diag(v)`.
    """
    transposed = ops.swapaxes(p, -1, -2)
    by_log_u = ops.sum(by_log, axis=-1)
    by_log_v = ops.sum(by_log, axis=-2)
    lefts, rights = [], []
    for u, v, v_before in zip(us[::-1], vs[:0:-1], vs[-2::-1]):
        by_column_sums = -by_log_v * v
        by_log_u = by_log_u + _times(p, by_column_sums) * u
        by_row_sums = -by_log_u * u
        by_log_v = _times(transposed, by_row_sums) * v_before
        by_log_u = 0.0  # An earlier u acts through its v alone.
        lefts += [u, by_row_sums]
        rights += [by_column_sums, v_before]
    return ops.matmul(ops.stack(lefts, axis=-1), ops.stack(rights, axis=-2))


def _times(matrices, vectors):
    """`(..., n, n)` by `(..., n)`."""
    return ops.matmul(matrices, vectors[..., None])[..., 0]
