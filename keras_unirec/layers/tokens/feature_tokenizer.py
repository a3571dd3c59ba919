import keras
import numpy as np
from keras import ops

from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers._checks import check_widths


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
        dim: int or None. Width `D` of a token. Defaults to `None`: what the
            model says.
        num_tokens: int or None. Number of balanced slices. Defaults to `None`:
            what the model says, or the number of groups.
        groups: None, or list of lists of column names, one for each token: the
            semantic groups. The names mean something to the `columns` of a
            model: it calls `tokens`. Defaults to `None`: AutoSplit.
        group_dims: None, or list of ints: width of each slice, which sum to
            the width of the input. Defaults to `None`.

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

    # What stands for arguments that are None.
    resolved = {"groups": "even"}

    def __init__(
        self,
        dim=None,
        num_tokens=None,
        groups=None,
        group_dims=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, dim=dim, num_tokens=num_tokens)
        if groups is not None:
            _check_groups(groups)
        if group_dims is not None:
            check_widths(group_dims=group_dims)
            if groups is not None:
                raise ValueError(
                    "`groups` have the widths of their columns: `group_dims` "
                    f"must be None. Received: group_dims={group_dims}"
                )
            if num_tokens not in (None, len(group_dims)):
                raise ValueError(
                    f"`group_dims` must be {num_tokens} widths, as "
                    f"`num_tokens` says. Received: group_dims={group_dims}"
                )
        self.dim = dim
        self.num_tokens = num_tokens
        self.groups = groups
        self.group_dims = None if group_dims is None else tuple(group_dims)
        self._widths = None
        self.supports_masking = True

    def tokens(self, columns, argument="`num_tokens`"):
        """Tokens of the columns of a model.

        Args:
            columns: `Columns` of embeddings `(..., width)`.
            argument: str. What decides the number of tokens, for messages.

        Returns:
            Tensor `(..., num_tokens, dim)`.

        Raises:
            ValueError: If there are fewer numbers than tokens, or `groups`
                does not name each column once.
        """
        widths = columns.widths
        if self.num_tokens is not None and self.num_tokens > columns.width:
            raise ValueError(
                f"The features are {columns.width} wide together and cannot be "
                f"cut into {self.num_tokens} tokens ({argument}). Give fewer "
                "tokens or wider embeddings"
            )
        if self.groups is None:
            return self(columns.tensor)
        named = [key for group in self.groups for key in group]
        count = self.num_tokens or len(self.groups)
        if len(self.groups) != count or sorted(named) != sorted(widths):
            raise ValueError(
                f"`groups` must be {count} lists ({argument}) that name each "
                f"of {sorted(widths)} exactly once. "
                f"Received: groups={self.groups}"
            )
        self._widths = [sum(widths[key] for key in g) for g in self.groups]
        return self(columns.in_order(named))

    def build(self, input_shape):
        check_positive_integers(dim=self.dim)
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
        given = self._widths or self.group_dims
        if given is not None:
            if sum(given) != width:
                raise ValueError(
                    "`group_dims` must sum to the last axis of the input, "
                    f"{width}. Received: group_dims={given}, which "
                    f"sums to {sum(given)}"
                )
            return given
        if self.groups is not None:
            raise ValueError(
                "`groups` are names of columns: call `tokens(columns)`. "
                f"Received: groups={self.groups}"
            )
        check_positive_integers(num_tokens=self.num_tokens)
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
        num_tokens = self.num_tokens or len(self.groups or self.group_dims)
        return (*input_shape[:-1], num_tokens, self.dim)

    def get_build_config(self):
        config = super().get_build_config()
        if config is not None and self._widths is not None:
            config["widths"] = list(self._widths)
        return config

    def build_from_config(self, config):
        self._widths = config.get("widths")
        super().build_from_config(config)

    def get_config(self):
        config = super().get_config()
        config["dim"] = self.dim
        config["num_tokens"] = self.num_tokens
        config["groups"] = self.groups
        config["group_dims"] = self.group_dims
        return config


def _check_groups(groups):
    if (
        not isinstance(groups, (list, tuple))
        or not groups
        or not all(
            isinstance(group, (list, tuple))
            and group
            and all(isinstance(key, str) for key in group)
            for group in groups
        )
    ):
        raise ValueError(
            "`groups` must be a non-empty list of non-empty lists of column "
            f"names. Received: groups={groups!r}"
        )


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
