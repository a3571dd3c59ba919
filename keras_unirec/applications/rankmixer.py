from keras import ops

from keras_unirec import layers
from keras_unirec.applications._sizes import token_width
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.registry import register_model
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers.mixing._by_name import build_mixer


class RankMixer(RankingModel):
    """RankMixer: token mixing and per-token networks, after a reader.

    A baseline: what is read of the histories joins the other features; their
    concatenation is cut into T tokens. Every block mixes them and gives each
    its own network, with post-LayerNorm, and the towers read the mean of the
    tokens. With a `layers.DecodingReader` it is LONGER + RankMixer.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one item column.
        num_tokens: int. T. Defaults to `16`.
        dim: int or None. D; a multiple of T where tokens are mixed. Defaults
            to `None`: `8 * num_tokens`.
        num_layers: int. L. Defaults to `2`.
        history_reader: `"mean"`: each history is the mean of its events;
            `"target_attention"`, `"din"`, `"decoding"`, or a layer with their
            options.
            Defaults to `"mean"`.
        tokenizer: `layers.FeatureTokenizer`, or `"even"`: AutoSplit; its
            `groups` are the semantic groups that become tokens, where the mean
            of a history is named `"<history>.mean"`. Defaults to `"even"`.
        mixer: As in `MixFormer`. Defaults to `"head_mixing"`.
        feed_forward: The per-token networks: `"gelu"`, `"swiglu"`, a layer, or
            `None`. Defaults to `PerTokenFFN(ratio=4)`.
        residual: `"post_layer"`, `"pre_rms"`, `"no_norm"`, `"siamese"` or
            another residual scheme. Defaults to `"post_layer"`.
        **kwargs: `readout`, `tower`, `history_lengths`, `output_activation`,
            `default_recipe`, `dtype` and `name` of `RankingModel`.

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

    needs_histories = False

    def __init__(
        self,
        schema,
        num_tokens=16,
        dim=None,
        num_layers=2,
        history_reader="mean",
        tokenizer="even",
        mixer="head_mixing",
        feed_forward=layers.PerTokenFFN(ratio=4),
        residual="post_layer",
        **kwargs,
    ):
        super().__init__(schema, **kwargs)
        check_positive_integers(num_layers=num_layers)
        dim = token_width(
            dim, self.prototype("mixer", mixer), num_tokens=num_tokens
        )
        self.reading = self.part("history_reader", history_reader, dim=dim)
        self.tokenizer = self.part(
            "tokenizer",
            tokenizer,
            sizes={
                "num_tokens": self.reading.num_features(schema, num_tokens),
                "dim": dim,
            },
        )
        self.sublayers = self.blocks(mixer, feed_forward, num_layers)
        self.residual = self.part("residual", residual)

    def blocks(self, mixer, feed_forward, num_layers):
        """The sublayers of all blocks by name, one after the other."""
        sublayers = {}
        for i, pair in enumerate(
            zip(
                self.parts("mixer", mixer, num_layers),
                self.parts("feed_forward", feed_forward, num_layers),
            )
        ):
            for name, layer in zip(("mixer", "feed_forward"), pair):
                if layer is not None:
                    sublayers[f"{name}_{i}"] = layer
        return sublayers

    def request(self, context, histories):
        return self.reading.request(context, histories)

    def candidates(self, items, state):
        features = self.reading.columns(items, state)
        tokens = self.tokenizer.tokens(features)
        read = self.reading.read_tokens(tokens, items, state)
        if read:
            tokens = ops.concatenate([*read, tokens], axis=-2)
        for sublayer in self.sublayers.values():
            build_mixer(sublayer, tokens.shape)
        streams = self.residual.start(tokens)
        for name, sublayer in self.sublayers.items():
            streams = self.residual.step(streams, sublayer, name)
        return self.residual.finish(streams)


class LongerRankMixer(RankMixer):
    """LONGER then RankMixer: the two stages that HyFormer is compared with.

    First the candidate reads every history through a stack of layers; then
    what it read joins the other feature tokens, and RankMixer blocks cross
    them. Information flows one way. It is the "BaseArch" of the HyFormer
    paper; queries with `context="all"` are its row "w/ Global Tokens", and
    other encoders and mixers are other rows of its Table 1.

    Unlike in LONGER, the candidate's query is not among the events that it
    reads (its residual is), and only the events have feed-forward networks
    between the layers, so that the histories are encoded once per user; the
    recent events of every layer read the whole history, not themselves; the
    candidate reads what they became; and they read newer events too, without
    `Longer(causal=True)`.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one history and
            one item column.
        history_reader: `layers.DecodingReader`. Defaults to `"decoding"`.
        **kwargs: Other arguments of `RankMixer`.

    Input shape:
        As `RankMixer`.

    Output shape:
        As `RankMixer`.

    Example:
    ```python
    model = keras_unirec.applications.LongerRankMixer(schema, dim=64)
    ```

    Reference: [Chai et al., LONGER](https://arxiv.org/abs/2505.04421);
    [HyFormer](https://arxiv.org/abs/2601.12681), Tables 1-2.
    """

    defaults = {"history_reader": "decoding"}


@register_model
def rankmixer_tiny(schema, **parts):
    """16 tokens of width 32, 2 blocks: trains on a laptop CPU in a minute."""
    sizes = {"dim": 32, "history_reader": layers.MeanReader(32)}
    return RankMixer(schema, **{**sizes, **parts})


@register_model
def rankmixer_4m(schema, **parts):
    """What UniMixer is compared with: 4.44M on its reference schema.

    T = 32, D = 128, L = 2 and k = 2 are inferred: the one choice that fits the
    six published small sizes (`docs/sizes.md`). `num_layers=4` is the 8.66M.
    """
    sizes = {
        "num_tokens": 32,
        "dim": 128,
        "feed_forward": layers.PerTokenFFN(ratio=2),
        "default_recipe": "adam",
    }
    return RankMixer(schema, **{**sizes, **parts})


@register_model
def rankmixer_100m(schema, **parts):
    """The paper's 107M: T = 16, D = 768, L = 2 as published; k fits them."""
    sizes = {
        "dim": 768,
        "feed_forward": layers.PerTokenFFN(ratio=2.75),
        "default_recipe": "paper",
    }
    return RankMixer(schema, **{**sizes, **parts})


@register_model
def rankmixer_1b(schema, **parts):
    """The paper's 1.1B: T = 32, D = 1536, L = 2 as published; k fits them."""
    sizes = {
        "num_tokens": 32,
        "dim": 1536,
        "feed_forward": layers.PerTokenFFN(ratio=3.625),
        "default_recipe": "paper",
    }
    return RankMixer(schema, **{**sizes, **parts})


@register_model
def longer_rankmixer_tiny(schema, **parts):
    """16 tokens of width 32, 2 + 2 layers: trains on a laptop CPU."""
    sizes = {
        "dim": 32,
        "history_reader": layers.DecodingReader(
            events=layers.Events(32, position="newest_first"),
            encoder=layers.Longer(recent_length=20, num_heads=2),
            queries=layers.QueryGeneration(hidden_dim=32, context="target"),
            reader=layers.QueryDecoding(num_heads=2, residual="pre_rms"),
        ),
        "feed_forward": layers.PerTokenFFN(ratio=2),
    }
    return LongerRankMixer(schema, **{**sizes, **parts})


@register_model
def longer_rankmixer_base(schema, **parts):
    """What `hyformer_base` is compared with: 386M on its reference schema.

    The paper gives 16 tokens. The widths are those of `hyformer_base`, except
    that the candidate reads the histories at the width of an event (4 heads
    of 16), as in LONGER: that is the difference of 32M between the two
    published sizes. Four encoder layers fit the published FLOPs.
    """
    sizes = {
        "dim": 1280,
        "num_layers": 5,
        "history_reader": layers.DecodingReader(
            num_layers=4,
            encoder=layers.Longer(recent_length=200),
            queries=layers.QueryGeneration(hidden_dim=80, context="target"),
            reader=layers.QueryDecoding(head_dim=16, residual="pre_rms"),
        ),
        "feed_forward": layers.PerTokenFFN(ratio=1.425),
        "default_recipe": "paper",
    }
    return LongerRankMixer(schema, **{**sizes, **parts})
