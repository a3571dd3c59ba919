import keras
from keras import ops

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._glorot import glorot


@keras.saving.register_keras_serializable(package="keras_unirec")
class LocalActivation(keras.layers.Layer):
    """The attention of DIN: a network weighs each event for each candidate.

    `v = sum_j a(e_j, t) e_j` with `a(e, t) = MLP([e, e * t, e - t, t])`, one
    number, which is not normalized: how many events match shows in the length
    of `v`. The network sees every pair of an event and a candidate, so that
    nothing of it can be computed once per request; candidates are run in
    chunks, whose size bounds the memory of scoring (training keeps what its
    gradient needs of every chunk).

    Args:
        units: List of ints: hidden widths of the network. Defaults to
            `(36,)`.
        chunk_size: int or None. Candidates of each request that are run at
            once; the result does not depend on it. Defaults to `32`; `None`
            runs all at once.

    Call arguments:
        targets: Tensor of shape `(requests, candidates, event_dim)`.
        history: Tensor of shape `(requests, length, event_dim)`.
        mask: Optional bool tensor of shape `(requests, length)`, true on real
            events.

    Output shape:
        `(requests, candidates, event_dim)`

    Example:
    ```python
    attention = keras_unirec.layers.LocalActivation()
    targets, history = np.ones((2, 100, 8)), np.ones((2, 50, 8))
    attention(targets, history).shape  # (2, 100, 8)
    ```

    Reference: [DIN, 2018](https://arxiv.org/abs/1706.06978), section 4.3; with
    SiLU in place of its PReLU and Dice.
    """

    def __init__(self, units=(36,), chunk_size=32, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(units, (list, tuple)) or not units:
            raise ValueError(
                "`units` must be a list of at least one width. "
                f"Received: units={units!r}"
            )
        for each in units:
            check_positive_integers(units=each)
        check_positive_integers(optional=True, chunk_size=chunk_size)
        self.units = tuple(units)
        self.chunk_size = chunk_size
        self.supports_masking = True

    def build(self, targets_shape, history_shape):
        dim, first = history_shape[-1], self.units[0]
        if targets_shape[-1] != dim:
            raise ValueError(
                "Targets must be as wide as the events of `history`, "
                f"{dim}. Received: targets of width {targets_shape[-1]}"
            )
        # The rows of one matrix: the network sees 4 `dim` inputs.
        (
            self.event_kernel,
            self.product_kernel,
            self.difference_kernel,
            self.target_kernel,
        ) = (
            self.add_weight(
                name=f"{name}_kernel",
                shape=(dim, first),
                initializer=glorot(4 * dim, first),
            )
            for name in ("event", "product", "difference", "target")
        )
        self.bias = self.add_weight(
            name="bias", shape=(first,), initializer="zeros"
        )
        self.denses, width = [], first
        for i, units in enumerate((*self.units[1:], 1)):
            dense = keras.layers.Dense(
                units,
                activation="silu" if i < len(self.units) - 1 else None,
                dtype=self.dtype_policy,
                name=f"dense_{i}",
            )
            dense.build((None, width))
            self.denses.append(dense)
            width = units

    def call(self, targets, history, mask=None):
        # x W of the concatenation, without the concatenation: what belongs to
        # the event, or to the candidate, alone is computed once for each.
        of_events = ops.matmul(
            history, self.event_kernel + self.difference_kernel
        )

        def read(targets):
            of_targets = ops.matmul(
                targets, self.target_kernel - self.difference_kernel
            )
            # (R, E, C, H): the candidates are columns of one matrix, so that
            # neither the product nor its gradient copies the history.
            kernels = ops.transpose(targets, (0, 2, 1))[..., None]
            kernels = kernels * self.product_kernel[:, None]
            requests, dim, count, hidden = ops.shape(kernels)
            kernels = ops.reshape(kernels, (requests, dim, count * hidden))
            x = ops.matmul(history, kernels)
            x = ops.reshape(x, (requests, ops.shape(x)[1], count, hidden))
            x = x + of_events[:, :, None] + of_targets[:, None]
            x = ops.silu(x + self.bias)
            for dense in self.denses:
                x = dense(x)
            weights = ops.squeeze(x, axis=-1)  # (R, T, C)
            if mask is not None:
                weights = ops.where(mask[..., None], weights, 0.0)
            return ops.matmul(ops.transpose(weights, (0, 2, 1)), history)

        return in_chunks(read, targets, self.chunk_size)

    def compute_mask(self, targets, history, mask=None):
        return None

    def compute_output_shape(self, targets_shape, history_shape):
        return tuple(targets_shape)

    def get_config(self):
        config = super().get_config()
        config["units"] = self.units
        config["chunk_size"] = self.chunk_size
        return config


def in_chunks(function, candidates, size):
    """Runs a function on some candidates of each request after the other.

    Args:
        function: From a tensor `(R, size, width)` to one of the same shape.
        candidates: Tensor `(R, C, width)`.
        size: int or None: all at once.

    Returns:
        Tensor `(R, C, width)`.
    """
    count = candidates.shape[1]
    if size is None or (count is not None and count <= size):
        return function(candidates)
    requests, count, width = *ops.shape(candidates)[:2], candidates.shape[2]
    chunks = (count + size - 1) // size
    filled = ops.zeros(
        (requests, chunks * size - count, width), candidates.dtype
    )
    x = ops.concatenate([candidates, filled], axis=1)
    x = ops.reshape(x, (requests, chunks, size, width))
    x = ops.map(function, ops.transpose(x, (1, 0, 2, 3)))
    x = ops.reshape(
        ops.transpose(x, (1, 0, 2, 3)), (requests, chunks * size, width)
    )
    return x[:, :count]
