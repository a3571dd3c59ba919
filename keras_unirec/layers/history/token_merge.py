import keras
from keras import ops

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers.history.transformer_encoder import TransformerEncoder


@keras.saving.register_keras_serializable(package="keras_unirec")
class TokenMerge(keras.layers.Layer):
    """Concatenates neighbouring events into fewer, wider ones.

    Events are grouped by `size` from the newest one on, so that a group never
    depends on padding; the oldest group may be partly empty (zeros). The
    result is right-padded, oldest group first, whatever side the padding of
    the input was on. With `inner_transformer`, the events of a group read each
    other before they are concatenated.

    Args:
        size: int. Number of events of a group.
        inner_transformer: bool. Defaults to `False`.
        num_heads: int. Heads of the inner Transformer. Defaults to `1`.

    Call arguments:
        history: Tensor of shape `(requests, length, event_dim)`.
        mask: Bool tensor of shape `(requests, length)`.

    Output shape:
        Tuple of the groups, `(requests, ceil(length / size),
        size * event_dim)`, and their bool mask, true where a group has a real
        event.

    Example:
    ```python
    merge = keras_unirec.layers.TokenMerge(4)
    groups, mask = merge(np.ones((2, 50, 8)), mask=np.ones((2, 50), "bool"))
    groups.shape  # (2, 13, 32)
    ```

    Reference: [LONGER, 2025](https://arxiv.org/abs/2505.04421), 3.3
    """

    def __init__(self, size, inner_transformer=False, num_heads=1, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(size=size, num_heads=num_heads)
        check_bools(inner_transformer=inner_transformer)
        self.size = size
        self.inner_transformer = inner_transformer
        self.num_heads = num_heads
        self.supports_masking = True

    def build(self, history_shape):
        if self.inner_transformer:
            dim = history_shape[-1]
            self.transformer = TransformerEncoder(
                self.num_heads, 4 * dim, dtype=self.dtype_policy, name="inner"
            )
            self.transformer.build((None, self.size, dim))

    def call(self, history, mask):
        requests, length, _ = ops.shape(history)
        dim = history.shape[-1]
        num_groups = (length + self.size - 1) // self.size
        num_events = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
        # Place p takes event p - shift: the last group ends with the newest.
        shift = -num_events % self.size
        places = ops.arange(num_groups * self.size, dtype="int32")[None, :]
        event = places - shift
        is_real = (event >= 0) & (event < num_events)
        # Real events first, in their order, wherever the padding was.
        order = ops.argsort(ops.cast(~mask, "int32"), axis=1)
        event = ops.clip(event, 0, length - 1)
        index = ops.take_along_axis(order, event, axis=1)
        events = ops.take_along_axis(history, index[:, :, None], axis=1)
        events = ops.where(is_real[:, :, None], events, 0)
        groups = ops.reshape(is_real, (-1, self.size))
        if self.inner_transformer:
            events = ops.reshape(events, (-1, self.size, dim))
            events = self.transformer(events, mask=groups)
            events = ops.where(groups[:, :, None], events, 0)
        return (
            ops.reshape(events, (requests, num_groups, self.size * dim)),
            ops.reshape(ops.any(groups, axis=1), (requests, num_groups)),
        )

    def compute_mask(self, history, mask=None):
        return None

    def compute_output_spec(self, history, mask):
        requests, length, dim = history.shape
        num_groups = None if length is None else -(-length // self.size)
        return (
            keras.KerasTensor(
                (requests, num_groups, self.size * dim), self.compute_dtype
            ),
            keras.KerasTensor((requests, num_groups), "bool"),
        )

    def get_config(self):
        config = super().get_config()
        config["size"] = self.size
        config["inner_transformer"] = self.inner_transformer
        config["num_heads"] = self.num_heads
        return config
