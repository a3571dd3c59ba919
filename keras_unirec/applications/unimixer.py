from keras_unirec import layers
from keras_unirec.applications.rankmixer import RankMixer
from keras_unirec.applications.registry import register_model


class UniMixer(RankMixer):
    """UniMixer: tokens mixed by learned, nearly permuting matrices.

    The features, with what is read from the histories among them, become T
    tokens of width D. Each of the L blocks computes
    `O = pSwiGLU(RMS(U + UniMixing(U)))`, where `U` fuses the two residual
    streams of `SiameseNorm`; `O` is added to both. In the first fifth of the
    first `fit`, the temperature of the mixing matrices falls from 1.0 to 0.05:
    they start soft and end near permutations. An export holds them as
    constants.

    What the paper leaves open: T = 32, D = 128 and blocks of width B = 4 are
    the sizes that fit its small models; hidden width 4/3 D without biases
    gives their parameters (`docs/sizes.md`); the towers read the mean of the
    tokens, without another norm.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one item column.
        num_tokens: int. T. Defaults to `32`.
        dim: int or None. D. Defaults to `None`: `8 * num_tokens`.
        num_layers: int. L. Defaults to `2`.
        history_reader, tokenizer: As in `RankMixer`.
        mixer: `"uni_mixing"`, `"uni_mixing_lite"`, a layer with their options
            (`UniMixing(symmetric=False)` is the ablation "w/o symmetry
            constraint"), or another mixer of `MixFormer`. Defaults to
            `"uni_mixing"`.
        feed_forward: The per-token networks: `"swiglu"` (no biases), `"gelu"`
            (two matrices with biases) or a layer. Defaults to
            `SwiGLU(ratio=4 / 3, per_token=True)`.
        residual: `"siamese"`, `"post_rms"` (ablation "SiameseNorm ->
            Post-Norm"), `PreNorm(final_norm=True)`, or another residual
            scheme. Defaults to `"siamese"`.
        **kwargs: Other arguments of `RankingModel`.

    Input shape:
        As `RankMixer`.

    Output shape:
        As `RankMixer`.

    Example:
    ```python
    model = keras_unirec.applications.UniMixer(schema, num_tokens=8, dim=64)
    model.compile()
    model.fit(keras_unirec.data.from_pandas(df, schema, shuffle=True))
    ```

    Reference: [UniMixer, 2026](https://arxiv.org/abs/2604.00590)
    """

    defaults = {
        "num_tokens": 32,
        "mixer": "uni_mixing",
        "feed_forward": layers.SwiGLU(ratio=4 / 3, per_token=True),
        "residual": "siamese",
    }

    def blocks(self, mixer, feed_forward, num_layers):
        pairs = zip(
            self.parts("mixer", mixer, ["mixer"] * num_layers),
            self.parts(
                "feed_forward", feed_forward, ["feed_forward"] * num_layers
            ),
        )
        return {
            f"block_{i}": layers.UniMixerBlock(
                *pair, dtype=self.dtype_policy, name=f"block_{i}"
            )
            for i, pair in enumerate(pairs)
        }


class UniMixerLite(UniMixer):
    """`UniMixer` with few parameters in its mixing: shared bases, a low rank.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one item column.
        mixer: As in `UniMixer`. Defaults to `"uni_mixing_lite"`.
        **kwargs: Other arguments of `UniMixer`.

    Input shape:
        As `RankMixer`.

    Output shape:
        As `RankMixer`.

    Example:
    ```python
    model = keras_unirec.applications.UniMixerLite(schema)
    ```

    Reference: [UniMixer, 2026](https://arxiv.org/abs/2604.00590), eq. 18.
    """

    defaults = {**UniMixer.defaults, "mixer": "uni_mixing_lite"}


@register_model
def unimixer_tiny(schema, **parts):
    """16 tokens of width 32, 2 blocks: trains on a laptop CPU in minutes."""
    sizes = {
        "num_tokens": 16,
        "dim": 32,
        "feed_forward": layers.SwiGLU(ratio=2.25, per_token=True),
        "history_reader": layers.MeanReader(32),
    }
    return UniMixer(schema, **{**sizes, **parts})


@register_model
def unimixer_lite_tiny(schema, **parts):
    """`unimixer_tiny`, where networks have what the mixing saves."""
    sizes = {
        "num_tokens": 16,
        "dim": 32,
        "feed_forward": layers.SwiGLU(ratio=2.5, per_token=True),
        "history_reader": layers.MeanReader(32),
    }
    return UniMixerLite(schema, **{**sizes, **parts})


# The published sizes are inferred from all six small rows of Tables 3 and 4
# and the large ones of Table 2 together (`docs/sizes.md`).


@register_model
def unimixer_6m(schema, **parts):
    """The paper's 6.57M of Table 3: T = 32, D = 128, B = 4."""
    sizes = {"dim": 128, "default_recipe": "adam"}
    return UniMixer(schema, **{**sizes, **parts})


@register_model
def unimixer_67m(schema, **parts):
    """The paper's 67.5M: T = 32, D = 512, B = 4."""
    sizes = {
        "dim": 512,
        "feed_forward": layers.SwiGLU(ratio=2 / 3, per_token=True),
        "default_recipe": "adam",
    }
    return UniMixer(schema, **{**sizes, **parts})


@register_model
def unimixer_101m(schema, **parts):
    """The paper's 101.5M: T = 32, D = 512, B = 4."""
    sizes = {"dim": 512, "default_recipe": "adam"}
    return UniMixer(schema, **{**sizes, **parts})


@register_model
def unimixer_lite_5m(schema, **parts):
    """The paper's 4.97M: T = 32, D = 128, B = 4, b = 2, r = 128.

    `num_layers=4` and `8` are its 9.72M and 19.21M.
    """
    sizes = {
        "dim": 128,
        "mixer": layers.UniMixingLite(num_bases=2, rank=128),
        "default_recipe": "adam",
    }
    return UniMixerLite(schema, **{**sizes, **parts})


@register_model
def unimixer_lite_38m(schema, **parts):
    """The paper's 38.2M: 4 blocks, T = 32, D = 256, B = 4, r = 256."""
    sizes = {
        "dim": 256,
        "num_layers": 4,
        "mixer": layers.UniMixingLite(rank=256),
        "default_recipe": "adam",
    }
    return UniMixerLite(schema, **{**sizes, **parts})


@register_model
def unimixer_lite_42m(schema, **parts):
    """The paper's 42.4M: 2 blocks, T = 32, D = 512, B = 4, r = 512."""
    sizes = {
        "dim": 512,
        "feed_forward": layers.SwiGLU(ratio=2 / 3, per_token=True),
        "mixer": layers.UniMixingLite(rank=512),
        "default_recipe": "adam",
    }
    return UniMixerLite(schema, **{**sizes, **parts})


@register_model
def unimixer_lite_76m(schema, **parts):
    """The paper's 76.2M: as the 42.4M, with networks twice as wide."""
    sizes = {
        "dim": 512,
        "mixer": layers.UniMixingLite(rank=512),
        "default_recipe": "adam",
    }
    return UniMixerLite(schema, **{**sizes, **parts})


@register_model
def unimixer_lite_84m(schema, **parts):
    """The paper's 84.5M: as the 42.4M, with 4 blocks."""
    sizes = {
        "dim": 512,
        "num_layers": 4,
        "feed_forward": layers.SwiGLU(ratio=2 / 3, per_token=True),
        "mixer": layers.UniMixingLite(rank=512),
        "default_recipe": "adam",
    }
    return UniMixerLite(schema, **{**sizes, **parts})
