import keras

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers.residual.residual_scheme import ResidualScheme


@keras.saving.register_keras_serializable(package="keras_unirec")
class SiameseNorm(ResidualScheme):
    """Residual scheme of two streams, one normalized and one not.

    From `X_0 = Y_0` = the inputs, sublayer `F_l` reads both streams and is
    added to both:

    `O_l = F_l(X_l + RMS(Y_l))`,
    `X_(l+1) = RMS(X_l + O_l)`, `Y_(l+1) = Y_l + O_l`,

    and the end is `X_M + RMS(Y_M)`. `X` alone is post-norm (`PostNorm("rms")`),
    whose scale is bounded; `Y` alone is pre-norm (`PreNorm(final_norm=True)`),
    whose gradient has a direct path.

    Args:
        normalize_input: bool. Normalizes what a sublayer reads once more,
            `F_l(RMS(X_l + RMS(Y_l)))`, as the authors of SiameseNorm do for
            deep models. Defaults to `False`.
        scale_by_depth: bool. Divides what sublayer `l`, from 0, adds to `X` by
            `sqrt(l + 1)`. Defaults to `False`.

    Example:
    ```python
    residual = keras_unirec.layers.SiameseNorm()
    streams = residual.start(np.ones((2, 3, 8, 32)))
    for i in range(2):
        block = keras_unirec.layers.UniMixerBlock(name=f"block_{i}")
        streams = residual.step(streams, block)
    residual.finish(streams).shape  # (2, 3, 8, 32)
    ```

    Reference: [SiameseNorm, 2026](https://arxiv.org/abs/2602.08064);
    [UniMixer, 2026](https://arxiv.org/abs/2604.00590), eq. 19-20, which
    normalizes with RMS and once a block.
    """

    num_streams = 2

    def __init__(self, normalize_input=False, scale_by_depth=False, **kwargs):
        super().__init__(**kwargs)
        check_bools(
            normalize_input=normalize_input, scale_by_depth=scale_by_depth
        )
        self.normalize_input = normalize_input
        self.scale_by_depth = scale_by_depth

    @property
    def step_norms(self):
        more = ("input_norm",) if self.normalize_input else ()
        return ("x_norm", "y_norm", *more)

    @property
    def final_norms(self):
        return (f"{self.name}_y_norm",)

    def read(self, streams, name):
        x, y = streams.tensors
        fused = x + self.normalize(y, f"{name}_y_norm")
        if self.normalize_input:
            fused = self.normalize(fused, f"{name}_input_norm")
        return fused

    def write(self, streams, update, name):
        x, y = streams.tensors
        added = update
        if self.scale_by_depth:
            # On JAX a tensor has no product with a symbolic one; a number has.
            added = update * (streams.depth + 1) ** -0.5
        return self.normalize(x + added, f"{name}_x_norm"), y + update

    def finish(self, streams):
        x, y = streams.tensors
        return x + self.normalize(y, *self.final_norms)

    def get_config(self):
        config = super().get_config()
        config["normalize_input"] = self.normalize_input
        config["scale_by_depth"] = self.scale_by_depth
        return config
