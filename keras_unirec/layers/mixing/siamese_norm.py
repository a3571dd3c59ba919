import keras
from keras import ops

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_same_shape

NORMS = ("siamese", "pre_rms", "post_rms")


@keras.saving.register_keras_serializable(package="keras_unirec")
class SiameseNorm(keras.layers.Layer):
    """Runs blocks on two residual streams, one normalized and one not.

    From `X_0 = Y_0` = the inputs, block `F_l` reads both streams and is added
    to both:

    `O_l = F_l(X_l + RMS(Y_l))`,
    `X_(l+1) = RMS(X_l + O_l)`, `Y_(l+1) = Y_l + O_l`,

    and the output is `X_M + RMS(Y_M)`. `X` alone is post-norm, whose scale is
    bounded; `Y` alone is pre-norm, whose gradient has a direct path.

    Args:
        blocks: List of layers that keep the shape of their input. They are
            used as they are, not copied.
        norm: `"siamese"`; `"pre_rms"`, the stream `Y` alone, with the output
            `RMS(Y_M)`; or `"post_rms"`, `X` alone. Defaults to `"siamese"`.
        normalize_input: bool. Normalizes what a block reads once more,
            `F_l(RMS(X_l + RMS(Y_l)))`, as the authors of SiameseNorm do for
            deep models. Defaults to `False`.
        scale_by_depth: bool. Divides what block `l`, from 0, adds to `X` by
            `sqrt(l + 1)`. Defaults to `False`.

    Input shape:
        `(..., dim)`, as the blocks take it.

    Output shape:
        The input shape.

    Example:
    ```python
    blocks = [keras_unirec.layers.UniMixerBlock(64) for _ in range(2)]
    keras_unirec.layers.SiameseNorm(blocks)(np.ones((2, 3, 8, 32)))
    ```

    Reference: [SiameseNorm, 2026](https://arxiv.org/abs/2602.08064);
    [UniMixer, 2026](https://arxiv.org/abs/2604.00590), eq. 19-20, which
    normalizes with RMS and once a block.
    """

    def __init__(
        self,
        blocks,
        norm="siamese",
        normalize_input=False,
        scale_by_depth=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm not in NORMS:
            raise ValueError(
                f"`norm` must be one of {NORMS}. Received: norm={norm!r}"
            )
        check_bools(
            normalize_input=normalize_input, scale_by_depth=scale_by_depth
        )
        if (
            not isinstance(blocks, (list, tuple))
            or not all(isinstance(x, keras.layers.Layer) for x in blocks)
            or len({id(block) for block in blocks}) != len(blocks)
        ):
            raise ValueError(
                "`blocks` must be a list of different layers. "
                f"Received: blocks={blocks!r}"
            )
        if scale_by_depth and norm == "pre_rms":
            raise ValueError(
                "`scale_by_depth` scales what is added to the normalized "
                'stream, which `norm="pre_rms"` does not have. '
                "Received: scale_by_depth=True"
            )
        self.blocks = list(blocks)
        self.norm = norm
        self.normalize_input = normalize_input
        self.scale_by_depth = scale_by_depth
        self.supports_masking = True

    def build(self, input_shape):
        def norm(name):
            layer = keras.layers.RMSNormalization(
                dtype=self.dtype_policy, name=name
            )
            layer.build(input_shape)
            return layer

        self.x_norms, self.y_norms, self.input_norms = [], [], []
        for i, block in enumerate(self.blocks):
            check_same_shape(block, input_shape, f"blocks[{i}]")
            if self.norm != "pre_rms":
                self.x_norms.append(norm(f"x_norm_{i}"))
            if self.norm != "post_rms":
                self.y_norms.append(norm(f"y_norm_{i}"))
            if self.normalize_input:
                self.input_norms.append(norm(f"input_norm_{i}"))
        if self.norm != "post_rms":
            self.y_norms.append(norm("y_norm"))

    def call(self, inputs):
        x = y = inputs
        for i, block in enumerate(self.blocks):
            fused = self._read(x, y, i)
            if self.normalize_input:
                fused = self.input_norms[i](fused)
            update = block(fused)
            if self.norm != "pre_rms":
                scale = (i + 1) ** -0.5 if self.scale_by_depth else 1.0
                x = self.x_norms[i](x + ops.cast(scale, x.dtype) * update)
            y = y + update
        return self._read(x, y, len(self.blocks))

    def _read(self, x, y, i):
        if self.norm == "post_rms":
            return x
        normalized = self.y_norms[i](y)
        return normalized if self.norm == "pre_rms" else x + normalized

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        config["blocks"] = [
            keras.saving.serialize_keras_object(block) for block in self.blocks
        ]
        config["norm"] = self.norm
        config["normalize_input"] = self.normalize_input
        config["scale_by_depth"] = self.scale_by_depth
        return config

    @classmethod
    def from_config(cls, config):
        blocks = [
            keras.saving.deserialize_keras_object(block)
            for block in config["blocks"]
        ]
        return cls(**{**config, "blocks": blocks})
