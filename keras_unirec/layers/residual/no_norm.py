import keras

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers.residual.residual_scheme import ResidualScheme


@keras.saving.register_keras_serializable(package="keras_unirec")
class NoNorm(ResidualScheme):
    """Residual scheme `x + f(x)`, or `f(x)`, without normalization.

    Args:
        residual: bool. `False` is `f(x)` alone, as some equations are printed.
            Defaults to `True`.

    Example:
    ```python
    residual = keras_unirec.layers.NoNorm()
    streams = residual.start(np.ones((2, 3, 8)))
    network = keras_unirec.layers.SwiGLU(16)
    residual.finish(residual.step(streams, network)).shape  # (2, 3, 8)
    ```

    Reference: [HyFormer, 2026](https://arxiv.org/abs/2601.12681), eq. 7, 9-15
    """

    def __init__(self, residual=True, **kwargs):
        super().__init__(**kwargs)
        check_bools(residual=residual)
        self.residual = residual

    def write(self, streams, update, name):
        return (streams.tensors[0] + update if self.residual else update,)

    def get_config(self):
        return {**super().get_config(), "residual": self.residual}
