import keras

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_choice
from keras_unirec.layers.residual.residual_scheme import NORMS
from keras_unirec.layers.residual.residual_scheme import ResidualScheme


@keras.saving.register_keras_serializable(package="keras_unirec")
class PreNorm(ResidualScheme):
    """Residual scheme `x + f(Norm(x))`: one stream, which is not normalized.

    Args:
        norm: `"rms"` or `"layer"`. Defaults to `"rms"`.
        final_norm: bool. Whether the end is `Norm(x)`. Defaults to `False`.

    Example:
    ```python
    residual = keras_unirec.layers.PreNorm()
    streams = residual.start(np.ones((2, 3, 8)))
    network = keras_unirec.layers.SwiGLU(16)
    residual.finish(residual.step(streams, network)).shape  # (2, 3, 8)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), eq. 3-5, 9
    """

    step_norms = ("norm",)

    def __init__(self, norm="rms", final_norm=False, **kwargs):
        super().__init__(**kwargs)
        check_choice(NORMS, norm=norm)
        check_bools(final_norm=final_norm)
        self.norm = norm
        self.final_norm = final_norm

    @property
    def final_norms(self):
        return (f"{self.name}_final_norm",) if self.final_norm else ()

    def read(self, streams, name):
        return self.normalize(streams.tensors[0], f"{name}_norm")

    def finish(self, streams):
        if not self.final_norm:
            return streams.tensors[0]
        return self.normalize(streams.tensors[0], *self.final_norms)

    def get_config(self):
        config = super().get_config()
        config["norm"] = self.norm
        config["final_norm"] = self.final_norm
        return config
