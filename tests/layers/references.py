"""The formulas that several layers share, in NumPy."""

import numpy as np

from tests.test_case import to_numpy


def rms_norm(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def layer_norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3)


def swiglu(x, layer):
    """Eq. 4, 5, 9: one network for all positions, or one for each head."""
    gate, up = np.split(to_numpy(layer.gate_up_kernel), 2, axis=-1)
    down = to_numpy(layer.down_kernel)
    if layer.num_heads is None:
        return _swiglu(x, gate, up, down)
    heads = [
        _swiglu(x[..., i, :], gate[i], up[i], down[i])
        for i in range(layer.num_heads)
    ]
    return np.stack(heads, axis=-2)


def _swiglu(x, gate, up, down):
    gate = x @ gate
    return (gate / (1 + np.exp(-gate)) * (x @ up)) @ down
