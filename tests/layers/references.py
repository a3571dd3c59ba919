"""The formulas that several layers share, in NumPy."""

import keras
import numpy as np

from keras_unirec import layers
from tests.test_case import to_numpy


def rms_norm(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def layer_norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3)


def normalize(x, layer):
    """With the learned weights of a norm layer, which may be None."""
    if layer is None:
        return x
    if isinstance(layer, keras.layers.RMSNormalization):
        return rms_norm(x) * to_numpy(layer.scale)
    return layer_norm(x) * to_numpy(layer.gamma) + to_numpy(layer.beta)


def residual(x, function, scheme, name):
    """RankMixer's `LN(f(x) + x)`, MixFormer's `f(RMS(x)) + x`, or no norm.

    With the learned weights of a residual scheme, for the step of this name.
    """
    norm = scheme.norms.get(f"{name}_norm")
    if isinstance(scheme, layers.PostNorm):
        return normalize(function(x) + x, norm)
    if isinstance(scheme, layers.PreNorm):
        return function(normalize(x, norm)) + x
    return function(x) + x if scheme.residual else function(x)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    """Hendrycks and Gimpel, 2016, the tanh approximation."""
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def swiglu(x, layer):
    """Eq. 4, 5, 9: one network for all positions, or one for each head."""
    gate, up = to_numpy(layer.gate_kernel), to_numpy(layer.up_kernel)
    down = to_numpy(layer.down_kernel)
    if not layer.per_token:
        return _swiglu(x, gate, up, down)
    heads = [
        _swiglu(x[..., i, :], gate[i], up[i], down[i])
        for i in range(x.shape[-2])
    ]
    return np.stack(heads, axis=-2)


def _swiglu(x, gate, up, down):
    return (silu(x @ gate) * (x @ up)) @ down


def per_token_ffn(x, layer):
    """RankMixer: `GELU(s_t W_t + b_t) V_t + c_t`, one token after the other."""
    up, up_bias = to_numpy(layer.up_kernel), to_numpy(layer.up_bias)
    down, down_bias = to_numpy(layer.down_kernel), to_numpy(layer.down_bias)
    if layer.shared:
        return gelu(x @ up + up_bias) @ down + down_bias
    outputs = np.empty(x.shape)
    for t in range(x.shape[-2]):
        hidden = gelu(x[..., t, :] @ up[t] + up_bias[t, 0])
        outputs[..., t, :] = hidden @ down[t] + down_bias[t, 0]
    return outputs


def head_mixing(x):
    """HyFormer, eq. 11-13: token h joins subspace h of all tokens."""
    num_tokens, dim = x.shape[-2:]
    width = dim // num_tokens
    mixed = [
        np.concatenate(
            [x[..., t, h * width : (h + 1) * width] for t in range(num_tokens)],
            axis=-1,
        )
        for h in range(num_tokens)
    ]
    return np.stack(mixed, axis=-2)


def attention(query, keys, values):
    """`softmax(q K^T / sqrt(d)) V` of one query and one head; no keys: 0."""
    if not len(keys):
        return np.zeros(values.shape[-1])
    scores = np.array([query @ key for key in keys]) / np.sqrt(len(query))
    weights = np.exp(scores - scores.max())
    return sum(w * v for w, v in zip(weights / weights.sum(), values))


def transformer(events, history, may_read, layer):
    """A Transformer layer of one request, one event after the other.

    Args:
        events: Array `(num_events, dim)`.
        history: Array `(length, dim)`, what the events read.
        may_read: Bool array `(num_events, length)`.
        layer: `TransformerEncoder` with the weights.
    """
    projections, scheme = layer.attention, layer._scheme
    query, key, value, output = (
        to_numpy(dense.kernel)
        for dense in (
            projections.query_dense,
            projections.key_dense,
            projections.value_dense,
            projections.output_dense,
        )
    )  # each (dim, heads, head_dim), the last one (heads, head_dim, dim)

    def attend(x):
        read = history
        if isinstance(scheme, layers.PreNorm):
            read = normalize(history, scheme.norms["attention_norm"])
        outputs = np.zeros(x.shape)
        for i, h in np.ndindex(len(x), layer.num_heads):
            real = read[may_read[i]]
            head = attention(
                x[i] @ query[:, h], real @ key[:, h], real @ value[:, h]
            )
            outputs[i] += head @ output[h]
        return outputs

    x = residual(events, attend, scheme, "attention")
    return residual(
        x, lambda x: per_token_ffn(x, layer.network), scheme, "feed_forward"
    )


def sinkhorn(logits, temperature=1.0, num_iterations=20, symmetric=True):
    """UniMixer, eq. 14-15: symmetrize, divide, normalize in log space."""

    def log_sum(z, axis):
        top = z.max(axis=axis, keepdims=True)
        return top + np.log(np.exp(z - top).sum(axis=axis, keepdims=True))

    def transposed(z):
        return np.swapaxes(z, -1, -2)

    z = np.asarray(logits, "float64")
    if symmetric:
        z = (z + transposed(z)) / 2
    z = z / temperature
    for _ in range(num_iterations):
        z = z - log_sum(z, -1)
        z = z - log_sum(z, -2)
    matrix = np.exp(z)
    return (matrix + transposed(matrix)) / 2 if symmetric else matrix


def uni_mixing(x, local, mixing):
    """UniMixer, eq. 13: `flatten(X) W`, with the full `L x L` matrix `W`.

    Block row `i` and block column `j` of `W` are `G_ji B_i`.
    """
    num_blocks, size = mixing.shape[0], local.shape[-1]
    local = np.broadcast_to(local, (num_blocks, size, size))
    full = np.block(
        [
            [mixing[j, i] * local[i] for j in range(num_blocks)]
            for i in range(num_blocks)
        ]
    )
    flat = x.reshape(*x.shape[:-2], -1)
    return (flat @ full).reshape(x.shape)
