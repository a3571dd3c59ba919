import keras
from keras import ops

from keras_unirec.layers._checks import check_tokens


@keras.saving.register_keras_serializable(package="keras_unirec")
class FMMixing(keras.layers.Layer):
    """Factorization machine between tokens: `X X^T Y` with a learned `Y`.

    Token `t` of the output is `sum_s <x_t, x_s> y_s`: the inner products of
    all pairs of tokens, projected. `Y` has the shape of the tokens of one
    sample. At initialization its deviation is `1 / D`, so that tokens of unit
    scale keep it.

    Input shape:
        `(..., num_tokens, dim)`

    Output shape:
        The input shape.

    Example:
    ```python
    mixing = keras_unirec.layers.FMMixing()
    mixing(np.ones((2, 4, 32))).shape  # (2, 4, 32)
    ```

    Reference: [Wukong, 2024](https://arxiv.org/abs/2403.02545);
    [UniMixer, 2026](https://arxiv.org/abs/2604.00590), table 1.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        num_tokens, dim = check_tokens(input_shape)
        self.input_spec = keras.layers.InputSpec(axes={-2: num_tokens, -1: dim})
        self.kernel = self.add_weight(
            name="kernel",
            shape=(num_tokens, dim),
            initializer=keras.initializers.RandomNormal(0.0, 1.0 / dim),
        )

    def call(self, inputs):
        products = ops.matmul(inputs, ops.swapaxes(inputs, -1, -2))
        return ops.matmul(products, self.kernel)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        # Keras writes a config by itself only where `dtype` is a string.
        return super().get_config()
