import keras

from keras_unirec import layers
from keras_unirec.applications import _parts
from keras_unirec.applications import _pooled
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.registry import register_model


@keras.saving.register_keras_serializable(package="keras_unirec")
class RankMixer(RankingModel):
    """RankMixer: token mixing and per-token networks on pooled histories.

    A baseline: each history enters as the mean of its events, beside the
    other features; the concatenation is cut into T tokens. Every block mixes
    them and gives each its own network, with post-LayerNorm, and the towers
    read the mean of the tokens.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one item column.
        num_tokens: int. T. Defaults to `16`.
        dim: int or None. D; a multiple of T where tokens are mixed. Defaults
            to `None`: `8 * num_tokens`.
        num_layers: int. L. Defaults to `2`.
        hidden_ratio: float. k, the hidden width of the per-token networks,
            over D. Defaults to `4`.
        feed_forward: `"gelu"`, or `"swiglu"`. Defaults to `"gelu"`.
        mixer: As in `MixFormer`. Defaults to `"head_mixing"`.
        num_heads: int. Heads of `"self_attention"`. Defaults to `4`.
        norm: `"post_layer"`, `"pre_rms"` or `None`. Defaults to
            `"post_layer"`.
        sequence_dim: int, or dict of int by history: width of its pooled
            events. Defaults to `64`.
        token_groups: None, or a list of T lists of column names, the semantic
            groups; the mean of a history is named `"<history>.mean"`. Defaults
            to `None`: AutoSplit.
        history_lengths: bool. Whether the numbers of events are features.
            Defaults to `True`.
        readout: `"mean"` or `"concatenate"` of the tokens. Defaults to
            `"mean"`.
        tower_units: Tuple of int or None. Hidden widths of each label's
            tower. Defaults to `None`: `(dim,)`.
        output_activation: `None` (logits) or `"sigmoid"`. Defaults to `None`.
        dtype: Dtype policy. Defaults to the global policy.
        **kwargs: `name`, and `default_recipe` of `RankingModel`.

    Input shape:
        dict of encoded columns: request columns `(num_requests,)`, histories
        `(num_requests, num_events)`, candidate columns
        `(num_requests, num_candidates)`.

    Output shape:
        dict of `(num_requests, num_candidates)` float32 by label.

    Example:
    ```python
    model = keras_unirec.applications.RankMixer(schema, num_tokens=8, dim=64)
    ```

    Reference: [Zhu et al., RankMixer](https://arxiv.org/abs/2507.15551)
    """

    def __init__(
        self,
        schema,
        num_tokens=16,
        dim=None,
        num_layers=2,
        hidden_ratio=4,
        feed_forward="gelu",
        mixer="head_mixing",
        num_heads=4,
        norm="post_layer",
        sequence_dim=64,
        token_groups=None,
        history_lengths=True,
        readout="mean",
        tower_units=None,
        output_activation=None,
        dtype=None,
        **kwargs,
    ):
        _parts.check_schema(schema, "RankMixer", histories=False)
        _parts.check_positive_integers(
            num_tokens=num_tokens, num_layers=num_layers, num_heads=num_heads
        )
        _parts.check_options(readout=(readout, _parts.READOUTS))
        mixer = _parts.mixer_config(mixer)
        width = _parts.token_width(dim, mixer, num_tokens=num_tokens)
        _parts.check_hidden_ratio(width, hidden_ratio=hidden_ratio)
        units = _parts.hidden_units(tower_units, width)

        # === Layers ===
        blocks = [
            layers.QueryMixer(
                round(hidden_ratio * width),
                mixer=_parts.mixer_layer(mixer, num_heads, dtype),
                feed_forward=feed_forward,
                norm=norm,
                dtype=dtype,
                name=f"block_{i}",
            )
            for i in range(num_layers)
        ]

        # === Halves ===
        user_model, inputs, x = _pooled.begin(
            schema,
            width,
            num_tokens,
            sequence_dim,
            token_groups,
            history_lengths,
            dtype,
        )
        for block in blocks:
            x = block(x)
        outputs = _parts.towers(
            _parts.read_out(x, readout, dtype),
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
        self.num_heads = num_heads
        self.norm = norm
        self.sequence_dim = sequence_dim
        self.token_groups = token_groups
        self.history_lengths = history_lengths
        self.readout = readout
        self.tower_units = tower_units

    def get_config(self):
        return {
            **super().get_config(),
            "num_tokens": self.num_tokens,
            "dim": self.dim,
            "num_layers": self.num_layers,
            "hidden_ratio": self.hidden_ratio,
            "feed_forward": self.feed_forward,
            "mixer": self.mixer,
            "num_heads": self.num_heads,
            "norm": self.norm,
            "sequence_dim": self.sequence_dim,
            "token_groups": self.token_groups,
            "history_lengths": self.history_lengths,
            "readout": self.readout,
            "tower_units": self.tower_units,
        }


@register_model
def rankmixer_tiny(schema, **kwargs):
    """16 tokens of width 32, 2 blocks: trains on a laptop CPU in a minute."""
    arguments = {"dim": 32, "num_layers": 2, "sequence_dim": 32}
    return RankMixer(schema, **{**arguments, **kwargs})


@register_model
def rankmixer_4m(schema, **kwargs):
    """What UniMixer is compared with: 4.44M on its reference schema.

    T = 32, D = 128, L = 2 and k = 2 are inferred: the one choice that fits the
    six published small sizes (`docs/sizes.md`). `num_layers=4` is the 8.66M.
    """
    arguments = {
        "num_tokens": 32,
        "dim": 128,
        "hidden_ratio": 2,
        "default_recipe": "adam",
    }
    return RankMixer(schema, **{**arguments, **kwargs})


@register_model
def rankmixer_100m(schema, **kwargs):
    """The paper's 107M: T = 16, D = 768, L = 2 as published; k fits them."""
    arguments = {
        "dim": 768,
        "hidden_ratio": 2.75,
        "default_recipe": "paper",
    }
    return RankMixer(schema, **{**arguments, **kwargs})


@register_model
def rankmixer_1b(schema, **kwargs):
    """The paper's 1.1B: T = 32, D = 1536, L = 2 as published; k fits them."""
    arguments = {
        "num_tokens": 32,
        "dim": 1536,
        "hidden_ratio": 3.625,
        "default_recipe": "paper",
    }
    return RankMixer(schema, **{**arguments, **kwargs})
