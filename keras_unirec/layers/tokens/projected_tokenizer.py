import keras
from keras import ops

from keras_unirec.layers._checks import check_positive_integers


@keras.saving.register_keras_serializable(package="keras_unirec")
class ProjectedTokenizer(keras.layers.Layer):
    """Projects all features together, and cuts the result into tokens.

    `split(W e + b, N)` of the concatenated embeddings `e`: every token sees
    every feature. It is the Auto-Split of OneTrans, with one linear map as the
    MLP, whose depth the paper does not give.

    Args:
        dim: int or None. Width of a token. Defaults to `None`: what the model
            says.
        num_tokens: int or None. Defaults to `None`: what the model says.

    Input shape:
        `(..., width)`

    Output shape:
        `(..., num_tokens, dim)`

    Example:
    ```python
    tokenizer = keras_unirec.layers.ProjectedTokenizer(32, num_tokens=4)
    tokenizer(np.ones((2, 3, 50))).shape  # (2, 3, 4, 32)
    ```

    Reference: [OneTrans, 2025](https://arxiv.org/abs/2510.26104)
    """

    def __init__(self, dim=None, num_tokens=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(optional=True, dim=dim, num_tokens=num_tokens)
        self.dim = dim
        self.num_tokens = num_tokens
        self.supports_masking = True

    def tokens(self, columns, argument="`num_tokens`"):
        """Tokens of the `Columns` of a model: a call of the layer."""
        return self(columns.tensor)

    def build(self, input_shape):
        check_positive_integers(dim=self.dim, num_tokens=self.num_tokens)
        self.dense = keras.layers.Dense(
            self.num_tokens * self.dim, dtype=self.dtype_policy, name="dense"
        )
        self.dense.build(input_shape)

    def call(self, inputs):
        shape = (*ops.shape(inputs)[:-1], self.num_tokens, self.dim)
        return ops.reshape(self.dense(inputs), shape)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_tokens, self.dim)

    def get_config(self):
        config = super().get_config()
        config["dim"] = self.dim
        config["num_tokens"] = self.num_tokens
        return config
