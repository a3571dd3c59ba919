import dataclasses
import types

from keras_unirec import layers
from keras_unirec.applications._sizes import token_width
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.registry import register_model
from keras_unirec.layers._checks import check_positive_integers
from keras_unirec.layers.feed_forward._by_name import is_per_token
from keras_unirec.layers.history._by_name import encode


class MixFormer(RankingModel):
    """MixFormer: one backbone that reads histories and crosses features.

    The non-sequential features become N heads of width D. Each of the L
    blocks mixes the heads (Query Mixer), lets every head read the history
    (Cross Attention), and refines each head on its own (Output Fusion); the
    result feeds one tower per label.

    What the paper leaves open: events are projected to a common width E per
    history, and a bias-free map E -> N * D, shared by all blocks, gives each
    head its view of an event. Every block starts from the same events
    (eq. 5 as written). The towers read the mean over heads.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one history and
            one item column.
        num_heads: int. N. Defaults to `16`.
        dim: int or None. D; a multiple of N where heads are mixed. Defaults
            to `None`: `8 * num_heads`.
        num_layers: int. L. Defaults to `4`.
        tokenizer: `layers.FeatureTokenizer`, or `"even"`: AutoSplit, the
            concatenation cut into N even pieces; its `groups` are the semantic
            groups that become the heads. Defaults to `"even"`.
        events: `layers.Events`. Its `dim` is E, by default D; `num_heads * dim`
            is the literal paper: head i reads the i-th slice of an event,
            without the map. Its `join` is `"concatenate"` by default. Defaults
            to `Events()`.
        encoder: What refines the events for each block: `"swiglu"`,
            `"transformer"`, `"longer"`, a layer, or `None`;
            `Shared("swiglu")` is the ablation "PL-FFN -> FFN". Defaults to
            `"swiglu"`, with hidden width D.
        mixer: How heads are mixed: `"head_mixing"`, `"self_attention"`
            (ablation HM -> SA), `"heterogeneous_attention"`, `"fm"`,
            `"uni_mixing"`, `"uni_mixing_lite"`, `"identity"`, a layer, or
            `None` (ablation without HM). Defaults to `"head_mixing"`.
        feed_forward: The networks of the Query Mixer: `"swiglu"`, `"gelu"`, a
            layer, or `None` (ablation "[QM] wo FFN"). Defaults to
            `SwiGLU(ratio=5, per_token=True)`.
        reader: `"head_cross_attention"`, `"query_decoding"`, or a layer.
            Defaults to `"head_cross_attention"`.
        fusion: The networks of Output Fusion; `SwiGLU(ratio=5)`, one for all
            heads, is the ablation "PFFN -> FFN". Defaults to
            `SwiGLU(ratio=5, per_token=True)`.
        residual: `"pre_rms"`, `"post_layer"` (ablation Pre-RN -> Post-LN), or
            another residual scheme of one stream. Defaults to `"pre_rms"`.
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
    model = keras_unirec.applications.MixFormer(schema, num_heads=8, dim=32)
    model.compile()
    model.fit(keras_unirec.data.from_pandas(df, schema, shuffle=True))
    ```

    Reference: [Huang et al., MixFormer](https://arxiv.org/abs/2602.14110)
    """

    def __init__(
        self,
        schema,
        num_heads=16,
        dim=None,
        num_layers=4,
        tokenizer="even",
        events=layers.Events(),
        encoder="swiglu",
        mixer="head_mixing",
        feed_forward=layers.SwiGLU(ratio=5, per_token=True),
        reader="head_cross_attention",
        fusion=layers.SwiGLU(ratio=5, per_token=True),
        residual="pre_rms",
        **kwargs,
    ):
        super().__init__(schema, **kwargs)
        check_positive_integers(num_layers=num_layers)
        self.one_stream(residual)
        dim = token_width(
            dim, self.prototype("mixer", mixer), num_heads=num_heads
        )
        self.num_heads, self.dim, self.num_layers = num_heads, dim, num_layers
        self.events = self.part("events", events, dim=dim, join="concatenate")
        width, *_ = self.events.widths(
            [sequence.name for sequence in schema.sequences]
        ).values()
        # Head i reads the i-th slice of an event, without a map.
        self.literal = width == num_heads * dim and isinstance(
            self.unshared("reader", reader), layers.HeadCrossAttention
        )
        self.history_maps = []
        self.encoders = self.parts(
            "encoder",
            encoder,
            [f"history_encoder_{i}" for i in range(num_layers)],
            ratio=dim / width,
            residual=self.serialized("residual", residual),
        )
        self.mixers = self.parts(
            "mixer", mixer, ["mixer"] * num_layers, num_heads=num_heads
        )
        self.residuals = {
            name: self.parts("residual", residual, ["residual"] * num_layers)
            for name in ("query_mixer", "output_fusion")
        }
        self._choice = types.SimpleNamespace(
            tokenizer=tokenizer,
            feed_forward=feed_forward,
            reader=reader,
            fusion=fusion,
        )
        self.make_sides()

    def make_sides(self):
        """The tokenizer and the blocks of all heads."""
        self.tokenizer = self.part(
            "tokenizer",
            self._choice.tokenizer,
            sizes={"num_tokens": self.num_heads, "dim": self.dim},
        )
        self.blocks = self.make_blocks("", self.num_heads)

    def make_blocks(self, prefix, num_heads, twins=None, **fixed):
        """The blocks of some of the heads.

        Args:
            prefix: str. Begins the names of their layers.
            num_heads: int.
            twins: None, or the blocks of the other heads: networks that serve
                all heads are theirs.
            **fixed: Arguments of the reader that are not a choice.
        """
        dim, policy = self.dim, self.dtype_policy
        history_map = None
        if not self.literal:  # Its weight is no part of one block.
            history_map = layers.HistoryMap(
                num_heads, dim, dtype=policy, name=f"{prefix}history_map"
            )
            self.history_maps.append(history_map)
        readers = self.parts(
            "reader",
            self._choice.reader,
            [f"{prefix}cross_attention_{i}" for i in range(self.num_layers)],
            fixed=fixed,
            history_map=history_map,
        )
        names = ["feed_forward"] * self.num_layers
        networks = self.parts("feed_forward", self._choice.feed_forward, names)
        fusions = self.parts("fusion", self._choice.fusion, names)
        for i, twin in enumerate(twins or ()):
            if not is_per_token(networks[i]):
                networks[i] = twin.query_mixer.feed_forward
            if not is_per_token(fusions[i]):
                fusions[i] = twin.output_fusion.feed_forward
        return [
            Block(
                layers.QueryMixer(
                    self.mixers[i],
                    networks[i],
                    self.residuals["query_mixer"][i],
                    dtype=policy,
                    name=f"{prefix}query_mixer_{i}",
                ),
                readers[i],
                layers.OutputFusion(
                    fusions[i],
                    self.residuals["output_fusion"][i],
                    dtype=policy,
                    name=f"{prefix}output_fusion_{i}",
                ),
            )
            for i in range(self.num_layers)
        ]

    def encode(self, histories):
        """The joined events for each block (eq. 5), and their mask."""
        history = self.events.project_to_one(histories)
        events, mask = encode(
            self.encoders,
            history.events,
            history.mask,
            history.max_length,
            from_events=True,
        )
        for history_map in self.history_maps:
            history_map.build((None, None, events[0].shape[-1]))
        return events, mask

    def request(self, context, histories):
        events, mask = self.encode(histories)
        shape = (None, None, self.num_heads, self.dim)
        events = [
            b.reader.request(x, shape) for b, x in zip(self.blocks, events)
        ]
        return {"context": context, "history": {"events": events, "mask": mask}}

    def candidates(self, items, state):
        features = self.beside(state["context"], items)
        heads = self.tokenizer.tokens(features, "`num_heads`")  # (R, C, N, D)
        history = state["history"]
        for block, events in zip(self.blocks, history["events"]):
            heads = block(heads, events, history["mask"])
        return heads


@dataclasses.dataclass
class Block:
    """Eq. 3-9 for some of the heads."""

    query_mixer: object
    reader: object
    output_fusion: object

    def __call__(self, heads, events, mask, **context):
        heads = self.query_mixer(heads, **context)  # eq. 3-4
        heads = self.reader.candidates(heads, events, mask=mask)  # eq. 6-8
        return self.output_fusion(heads)  # eq. 9


@register_model
def mixformer_tiny(schema, **parts):
    """8 heads of width 32, 2 blocks: trains on a laptop CPU in minutes.

    Its attention is `"sigmoid"`, which on KuaiRand's short histories ranks
    better than the paper's softmax.
    """
    return MixFormer(schema, **{**TINY, **parts})


TINY = {
    "num_heads": 8,
    "dim": 32,
    "num_layers": 2,
    "feed_forward": layers.SwiGLU(ratio=2, per_token=True),
    "reader": layers.HeadCrossAttention(attention="sigmoid"),
    "fusion": layers.SwiGLU(ratio=2, per_token=True),
}


@register_model
def mixformer_small(schema, **parts):
    """The paper's small size: N = 16, L = 4, 282M on its own features.

    The paper prints D = 386, which 16 does not divide; D = 368 has the
    parameters that it reports.
    """
    sizes = {"dim": 368, "default_recipe": "paper"}
    return MixFormer(schema, **{**sizes, **parts})


@register_model
def mixformer_medium(schema, **parts):
    """The paper's medium size: N = 16, L = 4, D = 768, 1,226M parameters."""
    sizes = {"dim": 768, "default_recipe": "paper"}
    return MixFormer(schema, **{**sizes, **parts})
