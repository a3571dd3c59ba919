import keras

from keras_unirec import layers
from keras_unirec.applications import _parts
from keras_unirec.applications import _queries
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.registry import register_model


@keras.saving.register_keras_serializable(package="keras_unirec")
class LongerRankMixer(RankingModel):
    """LONGER then RankMixer: the two stages that HyFormer is compared with.

    First the candidate reads every history through a stack of layers; then
    what it read joins the other feature tokens, and RankMixer blocks cross
    them. Information flows one way. It is the "BaseArch" of the HyFormer
    paper; `query_context="all"` is its row "w/ Global Tokens", and other
    encoders and mixers are other rows of its Table 1.

    Unlike in LONGER, the candidate's query is not among the events that it
    reads (its residual is), and only the events have feed-forward networks
    between the layers, so that the histories are encoded once per user.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one history and
            one item column.
        num_tokens: int. T, what was read and feature tokens together.
            Defaults to `16`.
        dim: int or None. D, the width of a token; a multiple of T where tokens
            are mixed. Defaults to `None`: `8 * num_tokens`.
        num_encoder_layers: int. Layers that encode and read the histories.
            Defaults to `2`.
        num_layers: int. RankMixer blocks. Defaults to `2`.
        num_queries: int, or dict of int by history: queries that read each
            history. Defaults to `1`.
        hidden_ratio: float. Hidden width of the per-token networks, over D.
            Defaults to `4`.
        feed_forward: `"gelu"` or `"swiglu"`. Defaults to `"gelu"`.
        mixer: As in `MixFormer`. Defaults to `"head_mixing"`.
        norm: `"post_layer"`, `"pre_rms"` or `None`, in the RankMixer blocks.
            Defaults to `"post_layer"`.
        query_context: `"target"`, or, as in `HyFormer`, `"all"` or
            `"without_pooling"`. Defaults to `"target"`.
        readout: `"mean"` or `"concatenate"` of the tokens. Defaults to
            `"mean"`.
        num_heads, head_dim, sequence_dim, encoder, encoder_heads,
            encoder_hidden_ratio, encoder_norm, encoder_causal, recent_length,
            token_merge, inner_transformer, query_tokens, query_hidden_dim,
            query_compression_dim, merge_histories, token_groups, attention,
            kv_mode, position_embedding, history_lengths, tower_units,
            output_activation, dtype: As in `HyFormer`.
        decoding_norm: The `norm` of `QueryDecoding`. Defaults to `"pre_rms"`.
        **kwargs: `name`, and `default_recipe` of `RankingModel`.

    Input shape:
        dict of encoded columns: request columns `(num_requests,)`, histories
        `(num_requests, num_events)`, candidate columns
        `(num_requests, num_candidates)`.

    Output shape:
        dict of `(num_requests, num_candidates)` float32 by label.

    Example:
    ```python
    model = keras_unirec.applications.LongerRankMixer(schema, dim=64)
    ```

    Reference: [Chai et al., LONGER](https://arxiv.org/abs/2505.04421);
    [Zhu et al., RankMixer](https://arxiv.org/abs/2507.15551);
    [HyFormer](https://arxiv.org/abs/2601.12681), Tables 1-2.
    """

    def __init__(
        self,
        schema,
        num_tokens=16,
        dim=None,
        num_encoder_layers=2,
        num_layers=2,
        num_queries=1,
        hidden_ratio=4,
        feed_forward="gelu",
        mixer="head_mixing",
        norm="post_layer",
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
        query_context="target",
        query_tokens=None,
        query_hidden_dim=64,
        query_compression_dim=None,
        merge_histories=False,
        token_groups=None,
        decoding_norm="pre_rms",
        attention="softmax",
        kv_mode="auto",
        position_embedding=True,
        history_lengths=True,
        readout="mean",
        tower_units=None,
        output_activation=None,
        dtype=None,
        **kwargs,
    ):
        _parts.check_schema(schema, "LongerRankMixer")
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
        user_model, inputs, x = _queries.read(
            schema,
            width,
            num_tokens,
            num_encoder_layers=num_encoder_layers,
            num_queries=num_queries,
            num_heads=num_heads,
            head_dim=head_dim,
            query_context=query_context,
            query_tokens=query_tokens,
            query_hidden_dim=query_hidden_dim,
            query_compression_dim=query_compression_dim,
            token_groups=token_groups,
            decoding_norm=decoding_norm,
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
        self.num_encoder_layers = num_encoder_layers
        self.num_layers = num_layers
        self.num_queries = num_queries
        self.hidden_ratio = hidden_ratio
        self.feed_forward = feed_forward
        self.mixer = mixer
        self.norm = norm
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
        self.decoding_norm = decoding_norm
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
            "num_encoder_layers": self.num_encoder_layers,
            "num_layers": self.num_layers,
            "num_queries": self.num_queries,
            "hidden_ratio": self.hidden_ratio,
            "feed_forward": self.feed_forward,
            "mixer": self.mixer,
            "norm": self.norm,
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
            "decoding_norm": self.decoding_norm,
            "attention": self.attention,
            "kv_mode": self.kv_mode,
            "position_embedding": self.position_embedding,
            "history_lengths": self.history_lengths,
            "readout": self.readout,
            "tower_units": self.tower_units,
        }


@register_model
def longer_rankmixer_tiny(schema, **kwargs):
    """16 tokens of width 32, 2 + 2 layers: trains on a laptop CPU."""
    arguments = {
        "dim": 32,
        "num_heads": 2,
        "sequence_dim": 32,
        "encoder_heads": 2,
        "recent_length": 20,
        "hidden_ratio": 2,
        "query_hidden_dim": 32,
    }
    return LongerRankMixer(schema, **{**arguments, **kwargs})


@register_model
def longer_rankmixer_base(schema, **kwargs):
    """What `hyformer_base` is compared with: 386M on its reference schema.

    The paper gives 16 tokens. The widths are those of `hyformer_base`, except
    that the candidate reads the histories at the width of an event (4 heads
    of 16), as in LONGER: that is the difference of 32M between the two
    published sizes. Four encoder layers fit the published FLOPs.
    """
    arguments = {
        "dim": 1280,
        "num_encoder_layers": 4,
        "num_layers": 5,
        "hidden_ratio": 1.425,
        "num_heads": 4,
        "head_dim": 16,
        "recent_length": 200,
        "query_hidden_dim": 80,
        "default_recipe": "paper",
    }
    return LongerRankMixer(schema, **{**arguments, **kwargs})
