import inspect

import keras

from keras_unirec import layers
from keras_unirec.applications import _parts
from keras_unirec.applications import _pooled
from keras_unirec.applications import _queries
from keras_unirec.applications.longer_rankmixer import LongerRankMixer
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.registry import register_model
from keras_unirec.layers.feed_forward._by_name import FEED_FORWARDS
from keras_unirec.layers.mixing.siamese_norm import NORMS

READERS = ("mean", "decoding")
# How queries read the histories: arguments and defaults of LongerRankMixer.
_READING = {
    name: parameter.default
    for name, parameter in inspect.signature(
        LongerRankMixer.__init__
    ).parameters.items()
    if name
    in (
        "num_encoder_layers",
        "num_queries",
        "head_dim",
        "encoder",
        "encoder_heads",
        "encoder_hidden_ratio",
        "encoder_norm",
        "encoder_causal",
        "recent_length",
        "token_merge",
        "inner_transformer",
        "query_context",
        "query_tokens",
        "query_hidden_dim",
        "query_compression_dim",
        "merge_histories",
        "decoding_norm",
        "attention",
        "kv_mode",
        "position_embedding",
    )
}


@keras.saving.register_keras_serializable(package="keras_unirec")
class UniMixer(RankingModel):
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
        hidden_ratio: float. Hidden width of the per-token networks, over D.
            Defaults to `4 / 3`.
        feed_forward: `"swiglu"` (no biases) or `"gelu"` (two matrices with
            biases). Defaults to `"swiglu"`.
        mixer: `"uni_mixing"`, `"uni_mixing_lite"`, or another mixer of
            `MixFormer`. Defaults to `"uni_mixing"`.
        block_size: int or None. B, which divides T D. Defaults to `None`: 4.
        num_bases: int or None. b of `"uni_mixing_lite"`: shared bases of the
            local matrices. Defaults to `None`: 4.
        rank: int or None. r of `"uni_mixing_lite"`: rank of the logits of the
            global matrix. Defaults to `None`: an eighth of T D / B.
        shared_local: bool or None. `True` is the ablation "w/o block-specific
            local weights", of `"uni_mixing"`. Defaults to `None`: `False`.
        symmetric: bool or None. `False` is the ablation "w/o symmetry
            constraint". Defaults to `None`: `True`.
        num_iterations: int or None, of Sinkhorn-Knopp. Defaults to `None`: 20.
        start_temperature, end_temperature: float or None. Equal, 1.0, they
            are the ablation "w/o temperature coefficient"; equal, 0.05, "w/o
            model warm-up". Default to `None`: 1.0 and 0.05.
        anneal_steps: int or None. Training steps over which the temperature
            falls. Defaults to `None`: a fifth of those of the first `fit`.
        stddev: float or None. Standard deviation of the logits of the mixing
            matrices at initialization. Defaults to `None`: 0.3.
        norm: `"siamese"`, `"post_rms"` (ablation "SiameseNorm -> Post-Norm")
            or `"pre_rms"`. Defaults to `"siamese"`.
        normalize_input: bool, of `SiameseNorm`. Defaults to `False`.
        scale_by_depth: bool, of `SiameseNorm`. Defaults to `False`.
        num_heads: int. Heads of mixers by attention, and of the attention
            that reads histories. Defaults to `4`.
        history_reader: `"mean"`: each history is the mean of its events, one
            of the features that are cut into tokens, as in `RankMixer`; or
            `"decoding"`: queries read the encoded histories and are tokens,
            as in `LongerRankMixer`. Defaults to `"mean"`.
        sequence_dim: int, or dict of int by history: width of its events.
            Defaults to `64`.
        token_groups: None, or a list of lists of column names, one for each
            token of features. The mean of a history is named
            `"<history>.mean"`. Defaults to `None`: AutoSplit.
        history_lengths: bool. Whether the numbers of events are features.
            Defaults to `True`.
        readout: `"mean"` or `"concatenate"` of the tokens. Defaults to
            `"mean"`.
        tower_units: Tuple of int or None. Hidden widths of each label's
            tower. Defaults to `None`: `(dim,)`.
        output_activation: `None` (logits) or `"sigmoid"`. Defaults to `None`.
        dtype: Dtype policy. Defaults to the global policy.
        **kwargs: `name`, and `default_recipe` of `RankingModel`. With
            `history_reader="decoding"` also `num_encoder_layers`,
            `num_queries`, `head_dim`, `encoder`, `encoder_heads`,
            `encoder_hidden_ratio`, `encoder_norm`, `encoder_causal`,
            `recent_length`, `token_merge`, `inner_transformer`,
            `query_context`, `query_tokens`, `query_hidden_dim`,
            `query_compression_dim`, `merge_histories`, `decoding_norm`,
            `attention`, `kv_mode` and `position_embedding`, with the defaults
            of `LongerRankMixer`.

    Input shape:
        dict of encoded columns: request columns `(num_requests,)`, histories
        `(num_requests, num_events)`, candidate columns
        `(num_requests, num_candidates)`.

    Output shape:
        dict of `(num_requests, num_candidates)` float32 by label.

    Example:
    ```python
    model = keras_unirec.applications.UniMixer(schema, num_tokens=8, dim=64)
    model.compile()
    model.fit(keras_unirec.data.from_pandas(df, schema, shuffle=True))
    ```

    Reference: [UniMixer, 2026](https://arxiv.org/abs/2604.00590)
    """

    more_arguments = tuple(_READING)

    def __init__(
        self,
        schema,
        num_tokens=32,
        dim=None,
        num_layers=2,
        hidden_ratio=4 / 3,
        feed_forward="swiglu",
        mixer="uni_mixing",
        block_size=None,
        num_bases=None,
        rank=None,
        shared_local=None,
        symmetric=None,
        num_iterations=None,
        start_temperature=None,
        end_temperature=None,
        anneal_steps=None,
        stddev=None,
        norm="siamese",
        normalize_input=False,
        scale_by_depth=False,
        num_heads=4,
        history_reader="mean",
        sequence_dim=64,
        token_groups=None,
        history_lengths=True,
        readout="mean",
        tower_units=None,
        output_activation=None,
        dtype=None,
        **kwargs,
    ):
        _parts.check_schema(
            schema, type(self).__name__, histories=history_reader != "mean"
        )
        _parts.check_positive_integers(
            num_tokens=num_tokens, num_layers=num_layers, num_heads=num_heads
        )
        mixing = {
            "block_size": block_size,
            "num_bases": num_bases,
            "rank": rank,
            "num_iterations": num_iterations,
            "anneal_steps": anneal_steps,
        }
        _parts.check_positive_integers(optional=True, **mixing)
        mixing |= {
            "shared_local": shared_local,
            "symmetric": symmetric,
            "start_temperature": start_temperature,
            "end_temperature": end_temperature,
            "stddev": stddev,
        }
        _parts.check_options(
            feed_forward=(feed_forward, FEED_FORWARDS),
            norm=(norm, NORMS),
            history_reader=(history_reader, READERS),
            history_lengths=(history_lengths, (False, True)),
            readout=(readout, _parts.READOUTS),
        )
        mixer = _parts.mixer_config(mixer)
        width = _parts.token_width(dim, mixer, num_tokens=num_tokens)
        _parts.check_hidden_ratio(width, hidden_ratio=hidden_ratio)
        units = _parts.hidden_units(tower_units, width)
        reading, kwargs = _split(history_reader, kwargs)

        # === Layers ===
        blocks = [
            layers.UniMixerBlock(
                round(hidden_ratio * width),
                mixer=_parts.mixer_layer(mixer, num_heads, dtype, **mixing),
                feed_forward=feed_forward,
                dtype=dtype,
                name=f"block_{i}",
            )
            for i in range(num_layers)
        ]
        streams = layers.SiameseNorm(
            blocks,
            norm=norm,
            normalize_input=normalize_input,
            scale_by_depth=scale_by_depth,
            dtype=dtype,
            name="blocks",
        )

        # === Halves ===
        tokens = {
            "sequence_dim": sequence_dim,
            "token_groups": token_groups,
            "history_lengths": history_lengths,
            "dtype": dtype,
        }
        if history_reader == "mean":
            user_model, inputs, x = _pooled.begin(
                schema, width, num_tokens, **tokens
            )
        else:
            user_model, inputs, x = _queries.read(
                schema,
                width,
                num_tokens,
                num_heads=num_heads,
                **tokens,
                **reading,
            )
        outputs = _parts.towers(
            _parts.read_out(streams(x), readout, dtype),
            schema,
            units,
            output_activation,
            dtype,
        )
        item_model = keras.Model(inputs, outputs, name="item_model")
        super().__init__(
            schema,
            user_model,
            item_model,
            output_activation=output_activation,
            dtype=dtype,
            **kwargs,
        )

        # === Config ===
        self.num_tokens = num_tokens
        self.dim = dim
        self.num_layers = num_layers
        self.hidden_ratio = hidden_ratio
        self.feed_forward = feed_forward
        self.mixer = mixer
        self.block_size = block_size
        self.num_bases = num_bases
        self.rank = rank
        self.shared_local = shared_local
        self.symmetric = symmetric
        self.num_iterations = num_iterations
        self.start_temperature = start_temperature
        self.end_temperature = end_temperature
        self.anneal_steps = anneal_steps
        self.stddev = stddev
        self.norm = norm
        self.normalize_input = normalize_input
        self.scale_by_depth = scale_by_depth
        self.num_heads = num_heads
        self.history_reader = history_reader
        self.sequence_dim = sequence_dim
        self.token_groups = token_groups
        self.history_lengths = history_lengths
        self.readout = readout
        self.tower_units = tower_units
        self.reading = reading

    def get_config(self):
        return {
            **super().get_config(),
            "num_tokens": self.num_tokens,
            "dim": self.dim,
            "num_layers": self.num_layers,
            "hidden_ratio": self.hidden_ratio,
            "feed_forward": self.feed_forward,
            "mixer": self.mixer,
            "block_size": self.block_size,
            "num_bases": self.num_bases,
            "rank": self.rank,
            "shared_local": self.shared_local,
            "symmetric": self.symmetric,
            "num_iterations": self.num_iterations,
            "start_temperature": self.start_temperature,
            "end_temperature": self.end_temperature,
            "anneal_steps": self.anneal_steps,
            "stddev": self.stddev,
            "norm": self.norm,
            "normalize_input": self.normalize_input,
            "scale_by_depth": self.scale_by_depth,
            "num_heads": self.num_heads,
            "history_reader": self.history_reader,
            "sequence_dim": self.sequence_dim,
            "token_groups": self.token_groups,
            "history_lengths": self.history_lengths,
            "readout": self.readout,
            "tower_units": self.tower_units,
            **self.reading,
        }


def _split(history_reader, kwargs):
    """The arguments of the reader, all of them, and the others."""
    given = {name: kwargs[name] for name in kwargs if name in _READING}
    others = {name: kwargs[name] for name in kwargs if name not in _READING}
    if history_reader == "decoding":
        return {**_READING, **given}, others
    if given:
        name = next(iter(given))
        raise ValueError(
            f"`{name}` says how queries read the histories: it needs "
            f'`history_reader="decoding"`. Received: {name}={given[name]!r}, '
            f"history_reader={history_reader!r}"
        )
    return {}, others


@keras.saving.register_keras_serializable(package="keras_unirec")
class UniMixerLite(UniMixer):
    """`UniMixer` with few parameters in its mixing: shared bases, a low rank.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one item column.
        mixer: As in `UniMixer`. Defaults to `"uni_mixing_lite"`.
        **kwargs: Other arguments of `UniMixer`.

    Input shape:
        As `UniMixer`.

    Output shape:
        As `UniMixer`.

    Example:
    ```python
    model = keras_unirec.applications.UniMixerLite(schema, rank=16)
    ```

    Reference: [UniMixer, 2026](https://arxiv.org/abs/2604.00590), eq. 18.
    """

    def __init__(self, schema, mixer="uni_mixing_lite", **kwargs):
        super().__init__(schema, mixer=mixer, **kwargs)


@register_model
def unimixer_tiny(schema, **kwargs):
    """16 tokens of width 32, 2 blocks: trains on a laptop CPU in minutes."""
    arguments = {
        "num_tokens": 16,
        "dim": 32,
        "hidden_ratio": 2.25,
        "sequence_dim": 32,
    }
    return UniMixer(schema, **{**arguments, **kwargs})


@register_model
def unimixer_lite_tiny(schema, **kwargs):
    """`unimixer_tiny`, where networks have what the mixing saves."""
    arguments = {
        "num_tokens": 16,
        "dim": 32,
        "hidden_ratio": 2.5,
        "sequence_dim": 32,
    }
    return UniMixerLite(schema, **{**arguments, **kwargs})


# The published sizes are inferred from all six small rows of Tables 3 and 4
# and the large ones of Table 2 together (`docs/sizes.md`).


@register_model
def unimixer_6m(schema, **kwargs):
    """The paper's 6.57M of Table 3: T = 32, D = 128, B = 4."""
    arguments = {"dim": 128, "default_recipe": "adam"}
    return UniMixer(schema, **{**arguments, **kwargs})


@register_model
def unimixer_67m(schema, **kwargs):
    """The paper's 67.5M: T = 32, D = 512, B = 4."""
    arguments = {
        "dim": 512,
        "hidden_ratio": 2 / 3,
        "default_recipe": "adam",
    }
    return UniMixer(schema, **{**arguments, **kwargs})


@register_model
def unimixer_101m(schema, **kwargs):
    """The paper's 101.5M: T = 32, D = 512, B = 4."""
    arguments = {"dim": 512, "default_recipe": "adam"}
    return UniMixer(schema, **{**arguments, **kwargs})


@register_model
def unimixer_lite_5m(schema, **kwargs):
    """The paper's 4.97M: T = 32, D = 128, B = 4, b = 2, r = 128.

    `num_layers=4` and `8` are its 9.72M and 19.21M.
    """
    arguments = {
        "dim": 128,
        "num_bases": 2,
        "rank": 128,
        "default_recipe": "adam",
    }
    return UniMixerLite(schema, **{**arguments, **kwargs})


@register_model
def unimixer_lite_38m(schema, **kwargs):
    """The paper's 38.2M: 4 blocks, T = 32, D = 256, B = 4, r = 256."""
    arguments = {
        "dim": 256,
        "num_layers": 4,
        "rank": 256,
        "default_recipe": "adam",
    }
    return UniMixerLite(schema, **{**arguments, **kwargs})


@register_model
def unimixer_lite_42m(schema, **kwargs):
    """The paper's 42.4M: 2 blocks, T = 32, D = 512, B = 4, r = 512."""
    arguments = {
        "dim": 512,
        "hidden_ratio": 2 / 3,
        "rank": 512,
        "default_recipe": "adam",
    }
    return UniMixerLite(schema, **{**arguments, **kwargs})


@register_model
def unimixer_lite_76m(schema, **kwargs):
    """The paper's 76.2M: as the 42.4M, with networks twice as wide."""
    arguments = {"dim": 512, "rank": 512, "default_recipe": "adam"}
    return UniMixerLite(schema, **{**arguments, **kwargs})


@register_model
def unimixer_lite_84m(schema, **kwargs):
    """The paper's 84.5M: as the 42.4M, with 4 blocks."""
    arguments = {
        "dim": 512,
        "num_layers": 4,
        "hidden_ratio": 2 / 3,
        "rank": 512,
        "default_recipe": "adam",
    }
    return UniMixerLite(schema, **{**arguments, **kwargs})
