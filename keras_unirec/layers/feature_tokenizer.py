import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unirec")
class FeatureTokenizer(keras.layers.Layer):
    """Splits a feature vector into slices and projects each to one token.

    Slice `j` of the concatenated embeddings `e` becomes token
    `x_j = W_j e[slice j]` (eq. 2 of MixFormer), without bias. The slices are
    contiguous: either `num_tokens` balanced ones, whose widths differ by at
    most one when `num_tokens` does not divide the width of `e` (AutoSplit), or
    semantic groups of the given widths. All `W_j` are rows of one kernel of
    shape `(width, dim)`, and each is initialized as the projection it is.

    Args:
        dim: int. Width `D` of a token.
        num_tokens: Optional int. Number of balanced slices. Either this or
            `group_dims` is given.
        group_dims: Optional list of ints. Width of each slice; they sum to the
            width of the input.

    Input shape:
        `(..., width)`

    Output shape:
        `(..., num_tokens, dim)`

    Example:
    ```python
    tokenizer = keras_unirec.layers.FeatureTokenizer(32, num_tokens=4)
    tokenizer(np.ones((2, 50))).shape  # (2, 4, 32)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110)
    """

    def __init__(self, dim, num_tokens=None, group_dims=None, **kwargs):
        super().__init__(**kwargs)
        if dim < 1:
            raise ValueError(f"`dim` must be positive. Received: dim={dim}")
        if (num_tokens is None) == (group_dims is None):
            raise ValueError(
                "Exactly one of `num_tokens` and `group_dims` must be given. "
                f"Received: num_tokens={num_tokens}, group_dims={group_dims}"
            )
        if num_tokens is not None and num_tokens < 1:
            raise ValueError(
                "`num_tokens` must be positive. "
                f"Received: num_tokens={num_tokens}"
            )
        if group_dims is not None and (
            not len(group_dims) or min(group_dims) < 1
        ):
            raise ValueError(
                "`group_dims` must be a non-empty list of positive widths. "
                f"Received: group_dims={group_dims}"
            )
        self.dim = dim
        self.num_tokens = num_tokens
        self.group_dims = None if group_dims is None else tuple(group_dims)
        self.supports_masking = True

    def build(self, input_shape):
        width = input_shape[-1]
        widths = np.array(self._slice_widths(width))
        limits = np.sqrt(6.0 / (widths + self.dim)).repeat(widths)[:, None]

        def glorot_of_each_slice(shape, dtype):
            uniform = keras.initializers.RandomUniform(-1.0, 1.0)
            return uniform(shape, dtype) * ops.cast(limits, dtype)

        self.kernel = self.add_weight(
            name="kernel",
            shape=(width, self.dim),
            initializer=glorot_of_each_slice,
        )
        # Row `j` of the index holds the positions of slice `j`, filled up to
        # the widest slice with the last position under a zero weight.
        starts = np.cumsum(widths) - widths
        steps = np.arange(widths.max())
        self._is_real = steps < widths[:, None]
        self._index = np.minimum(starts[:, None] + steps, width - 1)
        self._index = self._index.astype("int32")

    def _slice_widths(self, width):
        if self.group_dims is not None:
            if sum(self.group_dims) != width:
                raise ValueError(
                    "`group_dims` must sum to the last axis of the input, "
                    f"{width}. Received: group_dims={self.group_dims}, which "
                    f"sums to {sum(self.group_dims)}"
                )
            return self.group_dims
        if self.num_tokens > width:
            raise ValueError(
                "`num_tokens` must be at most the last axis of the input, "
                f"{width}. Received: num_tokens={self.num_tokens}"
            )
        small, num_wider = divmod(width, self.num_tokens)
        return [small + (j < num_wider) for j in range(self.num_tokens)]

    def call(self, inputs):
        num_tokens, max_width = self._index.shape
        kernel_shape = (num_tokens, max_width, self.dim)
        if self._is_real.all():
            slices = ops.reshape(
                inputs, (*ops.shape(inputs)[:-1], num_tokens, max_width)
            )
            kernel = ops.reshape(self.kernel, kernel_shape)
        else:
            slices = ops.take(inputs, self._index, axis=-1)
            kernel = ops.take(self.kernel, self._index, axis=0)
            kernel = kernel * ops.cast(self._is_real[..., None], kernel.dtype)
        return _per_head(slices, kernel)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        num_tokens = self.num_tokens or len(self.group_dims)
        return (*input_shape[:-1], num_tokens, self.dim)

    def get_config(self):
        config = super().get_config()
        config["dim"] = self.dim
        config["num_tokens"] = self.num_tokens
        config["group_dims"] = self.group_dims
        return config


def _per_head(inputs, kernel):
    """Multiplies slice `n` with its own slice of the kernel.

    The leading axes are folded into one. An einsum over `...` would do the
    same forward; its gradient on TensorFlow, however, is an outer product for
    every sample, summed only afterwards: 10 times slower.
    """
    shape = ops.shape(inputs)
    folded = ops.reshape(inputs, (-1, *inputs.shape[-2:]))
    outputs = ops.einsum("bnd,ndk->bnk", folded, kernel)
    return ops.reshape(outputs, (*shape[:-1], kernel.shape[-1]))
