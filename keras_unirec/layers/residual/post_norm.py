import keras

from keras_unirec.layers._checks import check_choice
from keras_unirec.layers.residual.residual_scheme import NORMS
from keras_unirec.layers.residual.residual_scheme import ResidualScheme


@keras.saving.register_keras_serializable(package="keras_unirec")
class PostNorm(ResidualScheme):
    """Residual scheme `Norm(x + f(x))`: one stream, which is normalized.

    Args:
        norm: `"layer"` or `"rms"`. Defaults to `"layer"`.

    Example:
    ```python
    residual = keras_unirec.layers.PostNorm()
    streams = residual.start(np.ones((2, 3, 8)))
    network = keras_unirec.layers.SwiGLU(16)
    residual.finish(residual.step(streams, network)).shape  # (2, 3, 8)
    ```

    Reference: [RankMixer, 2025](https://arxiv.org/abs/2507.15551)
    """

    step_norms = ("norm",)

    def __init__(self, norm="layer", **kwargs):
        super().__init__(**kwargs)
        check_choice(NORMS, norm=norm)
        self.norm = norm

    def write(self, streams, update, name):
        return (self.normalize(streams.tensors[0] + update, f"{name}_norm"),)

    def get_config(self):
        return {**super().get_config(), "norm": self.norm}
