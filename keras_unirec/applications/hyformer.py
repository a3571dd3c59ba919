from keras import ops

from keras_unirec import layers
from keras_unirec.applications._sizes import token_width
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.registry import register_model
from keras_unirec.layers._checks import check_positive_integers


class HyFormer(RankingModel):
    """HyFormer: queries that read histories and cross features, in turns.

    Queries are generated once from all features and the means of all
    histories. In every layer each query reads its own history (Query
    Decoding); then queries and feature tokens are mixed and refined (Query
    Boosting), and the first rows, the boosted queries, go on to the next
    layer. Histories keep their own columns, widths and lengths and meet only
    in boosting.

    What the paper leaves open: layer l encodes what layer l - 1 has encoded,
    the first one the events; the feature tokens of every layer are those of
    the first (eq. 10, 17); there is a residual around decoding; the towers
    read the concatenation of all boosted tokens.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one history and
            one item column.
        num_tokens: int. T = N + M, queries and feature tokens together.
            Defaults to `16`.
        dim: int or None. D, the width of a token; a multiple of T where heads
            are mixed. Defaults to `None`: `8 * num_tokens`.
        num_layers: int. L. Defaults to `4`.
        tokenizer: `layers.FeatureTokenizer`, or `"even"`: AutoSplit; its
            `groups` are the semantic groups that become the M feature tokens.
            Defaults to `"even"`.
        events: `layers.Events`: widths and positions of events. Its
            `join="time"` or `"concatenate"` is the ablation "Merge Seq": one
            history, read by all queries. Defaults to
            `Events(64, position="newest_first")`.
        encoder: `"longer"`, `"transformer"`, `"swiglu"`, a layer, `None`, or
            dict of them by history. LONGER encodes the most recent events,
            which read the whole history; the Transformer encodes all events,
            at a cost that grows with the square of the length; SwiGLU refines
            every event on its own (`HistoryEncoder(residual="none")` is the
            network of eq. 7, without residual). Defaults to `"longer"`.
        queries: `layers.QueryGeneration`: what the queries are made from, by
            networks of which width. Defaults to `"query_generation"`.
        reader: `layers.QueryDecoding`, with the number of queries that read a
            history, or dict of them by history. Defaults to
            `"query_decoding"`.
        mixer: How boosting exchanges information between tokens, as in
            `MixFormer`. Defaults to `"head_mixing"`.
        feed_forward: The per-token networks: `"gelu"`, `"swiglu"` or a layer.
            Defaults to `PerTokenFFN(ratio=1.5)`.
        residual: `"no_norm"`, `"pre_rms"`, `"post_layer"` or another residual
            scheme of one stream, around decoding and boosting. Defaults to
            `"no_norm"`, as the paper is written.
        **kwargs: `readout` (by default `"concatenate"`), `tower`,
            `history_lengths`, `output_activation`, `default_recipe`, `dtype`
            and `name` of `RankingModel`.

    Input shape:
        dict of encoded columns: request columns `(num_requests,)`, histories
        `(num_requests, num_events)`, candidate columns
        `(num_requests, num_candidates)`.

    Output shape:
        dict of `(num_requests, num_candidates)` float32 by label.

    Example:
    ```python
    model = keras_unirec.applications.HyFormer(schema, num_tokens=8, dim=64)
    model.compile()
    model.fit(keras_unirec.data.from_pandas(df, schema, shuffle=True))
    ```

    Reference: [Huang et al., HyFormer](https://arxiv.org/abs/2601.12681)
    """

    defaults = {"readout": "concatenate"}

    def __init__(
        self,
        schema,
        num_tokens=16,
        dim=None,
        num_layers=4,
        tokenizer="even",
        events=layers.Events(64, position="newest_first"),
        encoder="longer",
        queries="query_generation",
        reader="query_decoding",
        mixer="head_mixing",
        feed_forward=layers.PerTokenFFN(ratio=1.5),
        residual="no_norm",
        **kwargs,
    ):
        super().__init__(schema, **kwargs)
        check_positive_integers(num_layers=num_layers)
        self.one_stream(residual)
        dim = token_width(
            dim, self.prototype("mixer", mixer), num_tokens=num_tokens
        )
        self.reading = layers.DecodingReader(
            num_layers,
            dim,
            self.part("events", events),
            self.prototype("encoder", encoder),
            self.part("queries", queries, "query_generation"),
            self.prototype("reader", reader),
            residual=self.unshared("residual", residual),
            dtype=self.dtype_policy,
        )
        self.made_by(self.reading, "encoder", "reader")
        self.tokenizer = self.part(
            "tokenizer",
            tokenizer,
            sizes={
                "num_tokens": self.reading.num_features(schema, num_tokens),
                "dim": dim,
            },
        )
        blocks = [
            self.parts(argument, part, [argument] * num_layers)
            for argument, part in (
                ("mixer", mixer),
                ("feed_forward", feed_forward),
                ("residual", residual),
            )
        ]
        self.boostings = [
            layers.QueryBoosting(
                *parts, dtype=self.dtype_policy, name=f"query_boosting_{i}"
            )
            for i, parts in enumerate(zip(*blocks))
        ]

    def request(self, context, histories):
        return self.reading.request(context, histories)  # eq. 5-8

    def candidates(self, items, state):
        features = self.tokenizer.tokens(
            self.beside(state["context"], items),
            "`num_tokens` less the queries",
        )  # (R, C, M, D)
        queries = self.reading.generate(features, items, state)  # eq. 3-4
        for i, boosting in enumerate(self.boostings):
            decoded = self.reading.decode(i, queries, state)  # eq. 9
            tokens = ops.concatenate([*decoded.values(), features], axis=-2)
            tokens = boosting(tokens)  # eq. 10-15
            queries = self.reading.split(tokens)  # eq. 16-17
        return tokens


@register_model
def hyformer_tiny(schema, **parts):
    """16 tokens of width 32, 2 layers: trains on a laptop CPU in minutes.

    Its attention is `"sigmoid"`, as that of `mixformer_tiny`; its towers read
    the mean of the tokens, and it has norms around decoding and boosting.
    """
    sizes = {
        "dim": 32,
        "num_layers": 2,
        "events": layers.Events(32, position="newest_first"),
        "encoder": "swiglu",
        "queries": layers.QueryGeneration(hidden_dim=32),
        "reader": layers.QueryDecoding(num_heads=2, attention="sigmoid"),
        "residual": "pre_rms",
        "readout": "mean",
    }
    return HyFormer(schema, **{**sizes, **parts})


@register_model
def hyformer_base(schema, **parts):
    """The paper's size: 418M parameters on its reference schema.

    Of the sizes, the paper gives 16 tokens, 13 of features and one query for
    each of three histories. The rest is what its other rows leave over
    (`docs/sizes.md`): D = 1280 and 5 layers, as self-attention in place of
    head mixing adds about 4 L D^2; decoding 768 wide, as merging the histories
    saves two thirds of it; L_H = 200, as a full Transformer costs that much
    more than LONGER; queries from 80 hidden units, as those from the candidate
    alone save that much; and 1,824 hidden units (1.425 D) in every per-token
    network, which completes 418M.
    """
    sizes = {
        "dim": 1280,
        "num_layers": 5,
        "encoder": layers.Longer(recent_length=200),
        "queries": layers.QueryGeneration(hidden_dim=80),
        "reader": layers.QueryDecoding(num_heads=8, head_dim=96),
        "feed_forward": layers.PerTokenFFN(ratio=1.425),
        "tower": layers.Tower(units=(256,)),
        "default_recipe": "paper",
    }
    return HyFormer(schema, **{**sizes, **parts})
