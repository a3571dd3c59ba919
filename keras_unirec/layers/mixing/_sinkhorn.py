"""Matrices whose rows and columns sum to one, from free logits."""

from keras import ops

# Of a scale: a product of two of them, and sums of such, are finite.
LIMITS = (1e-14, 1e14)


def sinkhorn(logits, temperature, num_iterations, symmetric=True):
    """Sinkhorn-Knopp: rows and columns are normalized in turns.

    The result is that of the iteration in log space, `Z -= logsumexp(Z)` over
    rows, then over columns, from `Z = logits / temperature`, followed by
    `exp(Z)`; all in float32. Only the first iteration is computed so. It
    leaves entries of at most 1 and columns that sum to 1; from there, vectors
    `u` and `v` in `diag(u) P diag(v)` do the same with one product of a matrix
    and a vector for each half of an iteration. They stay between `1e-14` and
    `1e14`: where no permutation is in reach, some never stop growing.

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
    if logits.shape[-1] == 1:
        return 0.0 * logits + 1.0
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
    """The transpose of the normalized `exp(logits)`.

    With `P` for that of the first iteration, the others are `u = 1 / (v P)`,
    `v = 1 / (P u)`. The gradient to `P` is a sum of outer products, one for
    each half; here it is one product of matrices, and taken to `log P`, where
    nothing is large.
    """

    @ops.custom_gradient
    def normalize(logits, transposed):
        rows = ops.softmax(logits, axis=-1)
        # logsumexp, from an element of the softmax that is surely not 0.
        log_sums = ops.max(logits, axis=-1) - ops.log(ops.max(rows, axis=-1))
        p = ops.softmax(transposed - log_sums[..., None, :], axis=-1)
        p_transposed = _transpose(p)
        us, vs = [ops.ones_like(log_sums)], [ops.ones_like(log_sums)]
        for _ in range(num_iterations - 1):
            us.append(ops.clip(1.0 / _times(vs[-1], p), *LIMITS))
            vs.append(1.0 / _times(us[-1], p_transposed))
        scaled = p * us[-1][..., None, :] * vs[-1][..., :, None]

        def gradient(*args, upstream=None):
            (upstream,) = args if upstream is None else (upstream,)
            by_log = upstream * scaled
            if num_iterations > 1:
                by_u, by_v = ops.sum(by_log, axis=-2), ops.sum(by_log, axis=-1)
                lefts, rights = _by_scales(p, p_transposed, us, vs, by_u, by_v)
                by_log = by_log + p * ops.matmul(_transpose(lefts), rights)
            by_sums = ops.sum(by_log, axis=-1, keepdims=True)
            by_transposed = by_log - p * by_sums
            by_log_sums = -ops.sum(by_transposed, axis=-2)
            return rows * by_log_sums[..., None], by_transposed

        return scaled, gradient

    return normalize(logits, transposed)


def _by_scales(p, p_transposed, us, vs, by_u, by_v):
    """Through `us` and `vs`: factors `(..., k, n)` of the gradient to `p`.

    `by_u` and `by_v` are the gradients to the logarithms of the last scales.
    """
    lefts, rights = [], []
    for i in reversed(range(1, len(us))):
        by_v_sums = -by_v * vs[i]
        by_u = by_u + _times(by_v_sums, p) * us[i]
        free = ops.logical_and(us[i] > LIMITS[0], us[i] < LIMITS[1])
        by_u_sums = -ops.where(free, by_u, 0.0) * us[i]
        by_v = _times(by_u_sums, p_transposed) * vs[i - 1]
        by_u = 0.0  # An earlier u acts through its v alone.
        lefts += [by_v_sums, vs[i - 1]]
        rights += [us[i], by_u_sums]
    return ops.stack(lefts, axis=-2), ops.stack(rights, axis=-2)


def _times(vectors, matrices):
    """`(..., n)` by `(..., n, n)`: rows are read in the order of memory."""
    return ops.matmul(vectors[..., None, :], matrices)[..., 0, :]


def _transpose(matrices):
    return ops.swapaxes(matrices, -1, -2)
