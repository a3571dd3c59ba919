import keras
from keras import ops

from keras_unirec import layers
from keras_unirec.applications import _parts
from keras_unirec.applications import _queries
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.registry import register_model


@keras.saving.register_keras_serializable(package="keras_unirec")
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
        num_queries: int, or dict of int by history: queries that read each
            history. Defaults to `1`.
        hidden_ratio: float. Hidden width of the per-token networks, over D.
            Defaults to `1.5`.
        feed_forward: `"gelu"` or `"swiglu"`, the per-token networks. Defaults
            to `"gelu"`.
        mixer: How boosting exchanges information between tokens, as in
            `MixFormer`. Defaults to `"head_mixing"`.
        num_heads: int. Heads of Query Decoding, and of the
            `"self_attention"` mixer. Defaults to `4`.
        head_dim: int or None. Width of a head. Defaults to `None`:
            `dim / num_heads`.
        sequence_dim: int, or dict of int by history: width of its events,
            before `token_merge` joins them. Defaults to `64`.
        encoder: `"longer"`, `"transformer"` or `"swiglu"`, or dict of them by
            history. LONGER encodes the most recent events, which read the
            whole history; the Transformer encodes all events, at a cost that
            grows with the square of the length; SwiGLU refines every event on
            its own. Defaults to `"longer"`.
        encoder_heads: int. Heads of the first two. Defaults to `4`.
        encoder_hidden_ratio: float. Hidden width of the encoders' networks,
            over the width of an event. Defaults to `2`.
        encoder_norm: `"pre_rms"`, `"post_layer"`, or `None`, with which a
            SwiGLU encoder is eq. 7 as written, without residual. Defaults to
            `"pre_rms"`.
        encoder_causal: bool. Whether an event that is encoded reads only
            itself and older ones, as in LONGER. Defaults to `False`: eq. 5-6
            have no such mask.
        recent_length: int. L_H, the number of recent events that LONGER
            encodes. Defaults to `100`.
        token_merge: int. Number of neighbouring events that are concatenated
            to one, before encoding. Defaults to `1`.
        inner_transformer: bool. Whether the merged events first read each
            other. Defaults to `False`.
        query_context: `"all"`; `"without_pooling"`, the ablation "Query w/o
            Seq Pooling Tokens"; or `"target"`, the ablation "Query w/o Nonseq
            and Seq Pooling Tokens", where queries come from the item columns
            alone. Defaults to `"all"`.
        query_tokens: None, or list of indices of the feature tokens that
            queries are generated from (not with `query_context="target"`).
            Defaults to `None`: all.
        query_hidden_dim: int. Hidden width of the networks that generate the
            queries. Defaults to `64`.
        query_compression_dim: int or None. Width to which all that queries
            are generated from is first compressed. Defaults to `None`.
        merge_histories: bool. `True` is the ablation "Merge Seq": one history
            of all events, read by all queries; ordered by time where every
            history has a `Timestamp`, else one after the other, where the
            last history of the schema counts as the most recent. Defaults to
            `False`.
        token_groups: None, or a list of M lists of column names: the semantic
            groups that become the feature tokens. Defaults to `None`:
            AutoSplit.
        norm: `None`, `"pre_rms"` or `"post_layer"`, around decoding and
            boosting. Defaults to `None`, as the paper is written.
        attention: `"softmax"` or `"sigmoid"`, see `HeadCrossAttention`.
            Defaults to `"softmax"`.
        kv_mode: `"absorbed"`, `"projected"` or `"auto"`. Keys and values are
            absorbed by the queries, or computed; the result is the same.
            `"projected"` computes them in the user half and keeps them in its
            state. Defaults to `"auto"`: the state holds the encoded history,
            and what costs fewer multiplications decides.
        position_embedding: bool. Adds learned positions to events, counted
            from the newest. Defaults to `True`.
        history_lengths: bool. Whether the numbers of events are features.
            Defaults to `True`.
        readout: `"concatenate"` or `"mean"` of the boosted tokens. Defaults to
            `"concatenate"`.
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
    model = keras_unirec.applications.HyFormer(schema, num_tokens=8, dim=64)
    model.compile()
    model.fit(keras_unirec.data.from_pandas(df, schema, shuffle=True))
    ```

    Reference: [Huang et al., HyFormer](https://arxiv.org/abs/2601.12681)
    """

    def __init__(
        self,
        schema,
        num_tokens=16,
        dim=None,
        num_layers=4,
        num_queries=1,
        hidden_ratio=1.5,
        feed_forward="gelu",
        mixer="head_mixing",
        num_heads=4,
        head_dim=None,
        sequence_dim=64,
        encoder="longer",
        encoder_heads=4,
        encoder_hidden_ratio=2,
        encoder_norm="pre_rms",
        encoder_causal=False,
        recent_length=100,
        token_merge=1,
        inner_transformer=False,
        query_context="all",
        query_tokens=None,
        query_hidden_dim=64,
        query_compression_dim=None,
        merge_histories=False,
        token_groups=None,
        norm=None,
        attention="softmax",
        kv_mode="auto",
        position_embedding=True,
        history_lengths=True,
        readout="concatenate",
        tower_units=None,
        output_activation=None,
        dtype=None,
        **kwargs,
    ):
        _parts.check_schema(schema, "HyFormer")
        _parts.check_positive_integers(
            num_tokens=num_tokens, num_layers=num_layers, num_heads=num_heads
        )
        _parts.check_options(readout=(readout, _parts.READOUTS))
        mixer = _parts.mixer_config(mixer)
        width = _parts.token_width(dim, mixer, num_tokens=num_tokens)
        _parts.check_hidden_ratio(width, hidden_ratio=hidden_ratio)
        units = _parts.hidden_units(tower_units, width)

        # === Layers ===
        boostings = [
            layers.QueryBoosting(
                round(hidden_ratio * width),
                mixer=_parts.mixer_layer(mixer, num_heads, dtype),
                feed_forward=feed_forward,
                norm=norm,
                dtype=dtype,
                name=f"query_boosting_{i}",
            )
            for i in range(num_layers)
        ]

        # === Halves ===
        stage = _queries.begin(
            schema,
            width,
            num_tokens,
            num_layers,
            num_queries=num_queries,
            num_heads=num_heads,
            head_dim=head_dim,
            query_context=query_context,
            query_tokens=query_tokens,
            query_hidden_dim=query_hidden_dim,
            query_compression_dim=query_compression_dim,
            token_groups=token_groups,
            norm=norm,
            norm_argument="norm",
            attention=attention,
            kv_mode=kv_mode,
            merge_histories=merge_histories,
            history_lengths=history_lengths,
            sequence_dim=sequence_dim,
            encoder=encoder,
            encoder_heads=encoder_heads,
            encoder_hidden_ratio=encoder_hidden_ratio,
            encoder_norm=encoder_norm,
            encoder_causal=encoder_causal,
            recent_length=recent_length,
            token_merge=token_merge,
            inner_transformer=inner_transformer,
            position_embedding=position_embedding,
            dtype=dtype,
        )
        queries = stage.queries
        for i, boosting in enumerate(boostings):
            decoded = stage.decoders.decode(i, queries, stage.state)
            tokens = ops.concatenate([*decoded, stage.features], axis=-2)
            tokens = boosting(tokens)
            queries = _queries.split(tokens, stage.num_queries)
        outputs = _parts.towers(
            _parts.read_out(tokens, readout, dtype),
            schema,
            units,
            output_activation,
            dtype,
        )
        item_model = keras.Model(stage.inputs, outputs, name="item_model")
        super().__init__(
            schema,
            stage.user_model,
            item_model,
            output_activation=output_activation,
            dtype=dtype,
            **kwargs,
        )

        # === Config ===
        self.num_tokens = num_tokens
        self.dim = dim
        self.num_layers = num_layers
        self.num_queries = num_queries
        self.hidden_ratio = hidden_ratio
        self.feed_forward = feed_forward
        self.mixer = mixer
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.sequence_dim = sequence_dim
        self.encoder = encoder
        self.encoder_heads = encoder_heads
        self.encoder_hidden_ratio = encoder_hidden_ratio
        self.encoder_norm = encoder_norm
        self.encoder_causal = encoder_causal
        self.recent_length = recent_length
        self.token_merge = token_merge
        self.inner_transformer = inner_transformer
        self.query_context = query_context
        self.query_tokens = query_tokens
        self.query_hidden_dim = query_hidden_dim
        self.query_compression_dim = query_compression_dim
        self.merge_histories = merge_histories
        self.token_groups = token_groups
        self.norm = norm
        self.attention = attention
        self.kv_mode = kv_mode
        self.position_embedding = position_embedding
        self.history_lengths = history_lengths
        self.readout = readout
        self.tower_units = tower_units

    def get_config(self):
        return {
            **super().get_config(),
            "num_tokens": self.num_tokens,
            "dim": self.dim,
            "num_layers": self.num_layers,
            "num_queries": self.num_queries,
            "hidden_ratio": self.hidden_ratio,
            "feed_forward": self.feed_forward,
            "mixer": self.mixer,
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "sequence_dim": self.sequence_dim,
            "encoder": self.encoder,
            "encoder_heads": self.encoder_heads,
            "encoder_hidden_ratio": self.encoder_hidden_ratio,
            "encoder_norm": self.encoder_norm,
            "encoder_causal": self.encoder_causal,
            "recent_length": self.recent_length,
            "token_merge": self.token_merge,
            "inner_transformer": self.inner_transformer,
            "query_context": self.query_context,
            "query_tokens": self.query_tokens,
            "query_hidden_dim": self.query_hidden_dim,
            "query_compression_dim": self.query_compression_dim,
            "merge_histories": self.merge_histories,
            "token_groups": self.token_groups,
            "norm": self.norm,
            "attention": self.attention,
            "kv_mode": self.kv_mode,
            "position_embedding": self.position_embedding,
            "history_lengths": self.history_lengths,
            "readout": self.readout,
            "tower_units": self.tower_units,
        }


@register_model
def hyformer_tiny(schema, **kwargs):
    """16 tokens of width 32, 2 layers: trains on a laptop CPU in minutes.

    Its attention is `"sigmoid"`, as that of `mixformer_tiny`; its towers read
    the mean of the tokens, and it has norms around decoding and boosting.
    """
    arguments = {
        "dim": 32,
        "num_layers": 2,
        "num_heads": 2,
        "sequence_dim": 32,
        "encoder_heads": 2,
        "encoder": "swiglu",
        "recent_length": 20,
        "query_hidden_dim": 32,
        "norm": "pre_rms",
        "attention": "sigmoid",
        "readout": "mean",
    }
    return HyFormer(schema, **{**arguments, **kwargs})


@register_model
def hyformer_base(schema, **kwargs):
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
    arguments = {
        "dim": 1280,
        "num_layers": 5,
        "hidden_ratio": 1.425,
        "num_heads": 8,
        "head_dim": 96,
        "recent_length": 200,
        "query_hidden_dim": 80,
        "tower_units": (256,),
        "default_recipe": "paper",
    }
    return HyFormer(schema, **{**arguments, **kwargs})
