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
    scale = 1.0 / ops.cast(temperature, "float32")
    if symmetric:
        logits = (logits + _transpose(logits)) * (scale / 2)
        transposed = logits
    else:
        logits = logits * scale
        transposed = _transpose(logits)
    # The matrices are kept transposed: what is normalized lies along an axis.
    matrices = _normalized(logits, transposed, num_iterations)
    if symmetric:
        return (matrices + _transpose(matrices)) / 2
    return _transpose(matrices)


def _normalized(logits, transposed, num_iterations):
    """The transpose `P` of the normalized `exp(logits)`.

    An iteration is `u = 1 / (P^T v)`, then `v = 1 / (P u)`. The gradient to
    `P` is a sum of outer products, one for each half; here it is one product
    of matrices, and taken to `log P`, where nothing is large.
    """

    @ops.custom_gradient
    def normalize(logits, transposed):
        rows = ops.softmax(logits, axis=-1)
        # logsumexp, from an element of the softmax that is surely not 0.
        log_sums = ops.max(logits, axis=-1) - ops.log(ops.max(rows, axis=-1))
        matrices = [ops.softmax(transposed - log_sums[..., None, :], axis=-1)]
        scales = []
        for length in _parts(num_iterations - 1, logits.shape[-1]):
            us, vs = _scales(matrices[-1], length)
            scales.append((us, vs))
            scaled = matrices[-1] * us[-1][..., None, :]
            matrices.append(scaled * vs[-1][..., :, None])

        def gradient(*args, upstream=None):
            (upstream,) = args if upstream is None else (upstream,)
            by_log = upstream * matrices[-1]
            for p, (us, vs) in zip(reversed(matrices[:-1]), reversed(scales)):
                by_log = by_log + _by_scales(p, us, vs, by_log)
            by_sums = ops.sum(by_log, axis=-1, keepdims=True)
            by_transposed = by_log - matrices[0] * by_sums
            by_log_sums = -ops.sum(by_transposed, axis=-2)
            return rows * by_log_sums[..., None], by_transposed

        return matrices[-1], gradient

    return normalize(logits, transposed)


def _parts(num_iterations, n):
    """Lengths of the parts after which the scales start from 1 again.

    An iteration multiplies a scale by at most `n`: row sums are between
    `1 / n` and `n` after the first iteration, and no later one leads out of
    the range of those before it. float32 holds `1e36`.
    """
    longest = max(1, int(36 / math.log10(max(n, 2))))
    num_parts = -(-num_iterations // longest)
    for i in range(num_parts):
        yield (num_iterations + i) // num_parts


def _scales(p, num_iterations):
    """The `u` and the `v` of all iterations; the first `v` is 1."""
    us, vs = [], [ops.ones_like(p[..., 0])]
    for _ in range(num_iterations):
        us.append(1.0 / _times(_transpose(p), vs[-1]))
        vs.append(1.0 / _times(p, us[-1]))
    return us, vs


def _by_scales(p, us, vs, by_log):
    """The gradient to the logarithm of `p` through `us` and `vs`.

    `by_log` is the gradient to the logarithm of `diag(v) p diag(u)`.
    """
    by_log_u = ops.sum(by_log, axis=-2)
    by_log_v = ops.sum(by_log, axis=-1)
    lefts, rights = [], []
    for u, v, v_before in zip(us[::-1], vs[:0:-1], vs[-2::-1]):
        by_v_sums = -by_log_v * v
        by_log_u = by_log_u + _times(_transpose(p), by_v_sums) * u
        by_u_sums = -by_log_u * u
        by_log_v = _times(p, by_u_sums) * v_before
        by_log_u = 0.0  # An earlier u acts through its v alone.
        lefts += [by_v_sums, v_before]
        rights += [u, by_u_sums]
    outer = ops.matmul(ops.stack(lefts, axis=-1), ops.stack(rights, axis=-2))
    # Scales may be huge where nothing is: 0 times infinity.
    return ops.where(p > 1e-30, p * outer, 0.0)


def _times(matrices, vectors):
    """`(..., n, n)` by `(..., n)`."""
    return ops.matmul(matrices, vectors[..., None])[..., 0]


def _transpose(matrices):
    return ops.swapaxes(matrices, -1, -2)
