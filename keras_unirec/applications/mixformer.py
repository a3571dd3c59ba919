import dataclasses

import keras
from keras import ops

from keras_unirec import layers
from keras_unirec.applications import _decoupling
from keras_unirec.applications import _parts
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.ranking_model import state_inputs
from keras_unirec.applications.registry import register_model
from keras_unirec.layers._checks import check_bools
from keras_unirec.layers.embedding.feature_embedding import layer_name


@keras.saving.register_keras_serializable(package="keras_unirec")
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
        hidden_ratio: float. Hidden width of the per-head SwiGLUs, over D.
            Defaults to `5`.
        sequence_dim: int or None. E, the width of an event. `num_heads * dim`
            is the literal paper: head i reads the i-th slice of an event,
            without the map. Defaults to `None`: D.
        sequence_hidden_dim: int or None. Hidden width of the SwiGLU on
            events. Defaults to `None`: D.
        token_groups: None, or a list of N lists of column names: the semantic
            groups that become the heads; with `num_item_heads`, those of the
            user first. Defaults to `None`: AutoSplit, the concatenation cut
            into N even pieces.
        mixer: `"head_mixing"`; `"self_attention"` (ablation HM -> SA),
            `"heterogeneous_attention"`, `"fm"`, `"uni_mixing"`,
            `"uni_mixing_lite"` or `"identity"`; a layer, of which every block
            gets a copy with weights of its own, as
            `layers.UniMixing(block_size=8)`; or `None` (ablation without HM).
            With `num_item_heads`: `"head_mixing"`, `"self_attention"`,
            `"identity"` or `None`. Defaults to `"head_mixing"`.
        num_item_heads: None, int or `"by_width"`. How many of the heads belong
            to the items, from 1 to N - 1 (3.4, eq. 10-11): the others are made
            of user and context columns alone, see nothing of the items, and
            are computed once per request. `"by_width"` gives the items the
            share that they have of the width of all embeddings (or, with
            `token_groups`, of the groups). Defaults to `None`: every head
            sees everything.
        query_feed_forward: bool. `False` is the ablation "[QM] wo FFN".
            Defaults to `True`.
        shared_history_encoder: bool. `True` is the ablation "PL-FFN -> FFN":
            one SwiGLU on events for all blocks. Defaults to `False`.
        shared_output_fusion: bool. `True` is the ablation "PFFN -> FFN": one
            SwiGLU for all heads in Output Fusion. Defaults to `False`.
        norm: `"pre_rms"` or `"post_layer"` (ablation Pre-RN -> Post-LN).
            Defaults to `"pre_rms"`.
        attention: `"softmax"` or `"sigmoid"`. Softmax forgets how many events
            there are; sigmoid does not. Defaults to `"softmax"`.
        kv_mode: `"absorbed"`, `"projected"` or `"auto"`: whether keys and
            values are computed; the result is the same. Projected ones are
            part of the state of a request, in place of its events. Defaults
            to `"auto"`: absorbed, unless the shapes of a call are static and
            projected ones cost fewer multiplications.
        history_order: `"concatenate"` or `"time"` (histories merged by time;
            each needs a `Timestamp`). Defaults to `"concatenate"`.
        max_history_length: int or None. Number of most recent events of the
            joined history to keep. Defaults to `None`: all.
        position_embedding: bool. Adds learned positions to events, counted
            from the newest. Defaults to `False`.
        history_lengths: bool. Whether the numbers of events are features.
            Defaults to `True`.
        readout: `"mean"` or `"concatenate"` of the heads. Defaults to
            `"mean"`.
        tower_units: Tuple of int or None. Hidden widths of each label's
            tower. Defaults to `None`: `(dim,)`.
        output_activation: `None` (logits) or `"sigmoid"`. Defaults to `None`.
        dtype: Dtype policy. Defaults to the global policy.
        **kwargs: `name`, and `default_recipe` of `RankingModel`.

    Attributes:
        num_user_heads: int. N_U, 0 without `num_item_heads`.

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
        hidden_ratio=5,
        sequence_dim=None,
        sequence_hidden_dim=None,
        token_groups=None,
        mixer="head_mixing",
        num_item_heads=None,
        query_feed_forward=True,
        shared_history_encoder=False,
        shared_output_fusion=False,
        norm="pre_rms",
        attention="softmax",
        kv_mode="auto",
        history_order="concatenate",
        max_history_length=None,
        position_embedding=False,
        history_lengths=True,
        readout="mean",
        tower_units=None,
        output_activation=None,
        dtype=None,
        **kwargs,
    ):
        _parts.check_schema(schema, "MixFormer")
        _parts.check_positive_integers(
            num_heads=num_heads, num_layers=num_layers
        )
        _parts.check_positive_integers(
            optional=True,
            sequence_dim=sequence_dim,
            sequence_hidden_dim=sequence_hidden_dim,
            max_history_length=max_history_length,
        )
        check_bools(
            query_feed_forward=query_feed_forward,
            shared_history_encoder=shared_history_encoder,
            shared_output_fusion=shared_output_fusion,
            position_embedding=position_embedding,
            history_lengths=history_lengths,
        )
        _parts.check_options(
            history_order=(history_order, ("concatenate", "time")),
            norm=(norm, ("pre_rms", "post_layer")),
            readout=(readout, _parts.READOUTS),
        )
        if history_order == "time":
            _check_times(schema)
        mixer = _parts.mixer_config(mixer)
        width = _parts.token_width(dim, mixer, num_heads=num_heads)
        event_width = width if sequence_dim is None else sequence_dim
        literal = event_width == num_heads * width
        decoupled = num_item_heads is not None

        # === Layers ===
        embed = layers.FeatureEmbedding(schema, dtype=dtype)
        user_inputs, item_inputs = schema.inputs()
        request = _parts.request_features(
            embed, schema, user_inputs, history_lengths
        )
        candidates = embed.candidates(item_inputs)
        num_user_heads = 0
        if decoupled:
            num_user_heads = _decoupling.num_user_heads(
                num_item_heads, num_heads, request, candidates, token_groups
            )
        num_candidate_heads = num_heads - num_user_heads
        side = "item_" if decoupled else ""
        event_projections = {
            sequence.name: keras.layers.Dense(
                event_width,
                use_bias=False,
                dtype=dtype,
                name=f"{layer_name(sequence.name)}_projection",
            )
            for sequence in schema.sequences
        }
        merge = layers.HistoryMerge(
            max_history_length, dtype=dtype, name="history_merge"
        )
        encoders = [
            layers.HistoryEncoder(
                sequence_hidden_dim or width,
                norm=norm,
                dtype=dtype,
                name=f"history_encoder_{i}",
            )
            for i in range(1 if shared_history_encoder else num_layers)
        ]
        _parts.check_hidden_ratio(width, hidden_ratio=hidden_ratio)
        hidden_dim = round(hidden_ratio * width)
        # The two sides of a block share its mixer and its norms.
        mixers = [
            _parts.mixer_layer(mixer, num_heads, dtype)
            for _ in range(num_layers)
        ]
        if decoupled:
            mixers = [
                _decoupling.mixer(m, num_user_heads, num_candidate_heads)
                for m in mixers
            ]
        reads_user = decoupled and _decoupling.reads_user(mixers[0])

        def make_blocks(side, heads, kv_mode, twins=None):
            history_map = None
            if not literal:  # Its weight is no part of one block.
                history_map = layers.HistoryMap(
                    heads, width, dtype=dtype, name=f"{side}history_map"
                )
                history_map.build((None, None, event_width))
            blocks = []
            for i in range(num_layers):
                twin = twins and twins[i]
                query_mixer = layers.QueryMixer(
                    hidden_dim,
                    mixer=mixers[i],
                    feed_forward="swiglu" if query_feed_forward else None,
                    norm=norm,
                    norms=twin and twin.query_mixer.norms,
                    dtype=dtype,
                    name=f"{side}query_mixer_{i}",
                )
                cross_attention = layers.HeadCrossAttention(
                    history_map=history_map,
                    attention=attention,
                    kv_mode=kv_mode,
                    dtype=dtype,
                    name=f"{side}cross_attention_{i}",
                )
                output_fusion = twin and twin.output_fusion
                if twin is None or not shared_output_fusion:
                    output_fusion = layers.OutputFusion(
                        hidden_dim,
                        per_head=not shared_output_fusion,
                        norm=norm,
                        norms=twin and twin.output_fusion.norms,
                        dtype=dtype,
                        name=f"{side}output_fusion_{i}",
                    )
                # Now: some weights are shared, or no part of one half.
                tokens = (None, None, heads, width)
                query_mixer.build(tokens)
                cross_attention.build(
                    tokens,
                    (None, None, heads * width if literal else event_width),
                )
                if not output_fusion.built:
                    output_fusion.build(tokens)
                blocks.append(
                    _Block(query_mixer, cross_attention, output_fusion)
                )
            return blocks

        user_blocks = None
        if decoupled:
            # One query of the user is cheaper than its events.
            user_blocks = make_blocks("user_", num_user_heads, "absorbed")
        blocks = make_blocks(side, num_candidate_heads, kv_mode, user_blocks)

        # === Halves ===
        history, mask = _joined_history(
            embed,
            schema,
            user_inputs,
            event_projections,
            merge,
            max_history_length,
            history_order,
        )
        if position_embedding:
            total = sum(sequence.max_length for sequence in schema.sequences)
            history = layers.NewestFirstPosition(
                max_history_length or total, dtype=dtype, name="position"
            )(history, mask=mask)
        encoded = [encoder(history) for encoder in encoders]
        of_user = encoded
        if literal and decoupled:  # A slice of an event for each head.
            cut = num_user_heads * width
            of_user = [events[..., :cut] for events in encoded]
            encoded = [events[..., cut:] for events in encoded]

        state = {"state_history_mask": mask}
        if decoupled:
            heads = _parts.tokenize(
                request,
                ops.expand_dims(layers.concatenate(request.values()), axis=1),
                width,
                num_user_heads,
                token_groups and token_groups[:num_user_heads],
                dtype,
                argument="`num_heads` less those of the items",
                name="user_tokenizer",
            )  # (R, 1, N_U, D)
            for i, block in enumerate(user_blocks):
                if reads_user:
                    state[f"state_user_heads_{i}"] = ops.squeeze(heads, axis=1)
                heads = block(heads, of_user[i % len(encoders)], mask)
            state[f"state_user_heads_{num_layers}"] = ops.squeeze(heads, axis=1)
        elif request:
            state["state_request"] = layers.concatenate(request.values())
        for i, block in enumerate(blocks):
            events = encoded[i % len(encoders)]
            if kv_mode == "projected":
                keys, values = layers.HeadKeyValue(
                    block.cross_attention, dtype=dtype, name=f"key_value_{i}"
                )(events)
                state[f"state_keys_{i}"] = keys
                state[f"state_values_{i}"] = values
            elif i < len(encoders):
                state[f"state_history_{i}"] = events
        user_model = keras.Model(user_inputs, state, name="user_model")

        state = state_inputs(state)
        x = layers.concatenate(candidates.values())
        features = candidates
        if request and not decoupled:
            features = {**request, **candidates}
            x = layers.BesideCandidates(dtype=dtype, name="beside_candidates")(
                state["state_request"], x
            )
        x = _parts.tokenize(
            features,
            x,
            width,
            num_candidate_heads,
            token_groups and token_groups[num_user_heads:],
            dtype,
            argument="`num_item_heads`" if decoupled else "`num_heads`",
            name=f"{side}tokenizer",
        )
        for i, block in enumerate(blocks):
            if kv_mode == "projected":
                history = (state[f"state_keys_{i}"], state[f"state_values_{i}"])
            else:
                history = state[f"state_history_{i % len(encoders)}"]
            context = None
            if reads_user:
                context = ops.expand_dims(
                    state[f"state_user_heads_{i}"], axis=1
                )
            x = block(x, history, state["state_history_mask"], context)
        if decoupled:
            x = _decoupling.read_out(
                state[f"state_user_heads_{num_layers}"], x, readout, dtype
            )
        else:
            x = _parts.read_out(x, readout, dtype)
        outputs = _parts.towers(
            x,
            schema,
            _parts.hidden_units(tower_units, width),
            output_activation,
            dtype,
        )
        item_model = keras.Model(
            {**state, **item_inputs}, outputs, name="item_model"
        )
        super().__init__(
            schema,
            user_model,
            item_model,
            output_activation=output_activation,
            dtype=dtype,
            **kwargs,
        )

        # === Config ===
        self.num_heads = num_heads
        self.dim = dim
        self.num_layers = num_layers
        self.hidden_ratio = hidden_ratio
        self.sequence_dim = sequence_dim
        self.sequence_hidden_dim = sequence_hidden_dim
        self.token_groups = token_groups
        self.mixer = mixer
        self.num_item_heads = num_item_heads
        self.num_user_heads = num_user_heads
        self.query_feed_forward = query_feed_forward
        self.shared_history_encoder = shared_history_encoder
        self.shared_output_fusion = shared_output_fusion
        self.norm = norm
        self.attention = attention
        self.kv_mode = kv_mode
        self.history_order = history_order
        self.max_history_length = max_history_length
        self.position_embedding = position_embedding
        self.history_lengths = history_lengths
        self.readout = readout
        self.tower_units = tower_units

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dim": self.dim,
            "num_layers": self.num_layers,
            "hidden_ratio": self.hidden_ratio,
            "sequence_dim": self.sequence_dim,
            "sequence_hidden_dim": self.sequence_hidden_dim,
            "token_groups": self.token_groups,
            "mixer": self.mixer,
            "num_item_heads": self.num_item_heads,
            "query_feed_forward": self.query_feed_forward,
            "shared_history_encoder": self.shared_history_encoder,
            "shared_output_fusion": self.shared_output_fusion,
            "norm": self.norm,
            "attention": self.attention,
            "kv_mode": self.kv_mode,
            "history_order": self.history_order,
            "max_history_length": self.max_history_length,
            "position_embedding": self.position_embedding,
            "history_lengths": self.history_lengths,
            "readout": self.readout,
            "tower_units": self.tower_units,
        }


@dataclasses.dataclass
class _Block:
    """Eq. 3-9 for some of the heads."""

    query_mixer: object
    cross_attention: object
    output_fusion: object

    def __call__(self, heads, history, mask, context=None):
        if context is None:
            heads = self.query_mixer(heads)
        else:
            heads = self.query_mixer(heads, context=context)
        heads = self.cross_attention(heads, history, mask=mask)
        return self.output_fusion(heads)


def _joined_history(
    embed,
    schema,
    user_inputs,
    projections,
    merge,
    max_history_length,
    history_order,
):
    """The projected events of all histories, and their mask."""
    histories, masks, gaps = [], [], []
    for sequence in schema.sequences:
        events, mask = embed.history(user_inputs, sequence.name)
        histories.append(projections[sequence.name](events))
        masks.append(mask)
        gaps.append(embed.gaps(user_inputs, sequence.name))
    by_time = history_order == "time"
    if len(histories) == 1 and max_history_length is None and not by_time:
        return histories[0], masks[0]
    return merge(histories, masks, gaps if by_time else None)


def _check_times(schema):
    untimed = [
        sequence.name
        for sequence in schema.sequences
        if not any(
            feature.sequence == sequence.name and feature.kind == "gap"
            for feature in schema.encoded
        )
    ]
    if untimed:
        raise ValueError(
            '`history_order="time"` needs a `Timestamp` in every sequence. '
            f"Received: sequences without one: {untimed}"
        )


@register_model
def mixformer_tiny(schema, **kwargs):
    """8 heads of width 32, 2 blocks: trains on a laptop CPU in minutes.

    Its attention is `"sigmoid"`, which on KuaiRand's short histories ranks
    better than the paper's softmax.
    """
    arguments = {
        "num_heads": 8,
        "dim": 32,
        "num_layers": 2,
        "hidden_ratio": 2,
        "attention": "sigmoid",
    }
    return MixFormer(schema, **{**arguments, **kwargs})


@register_model
def mixformer_small(schema, **kwargs):
    """The paper's small size: N = 16, L = 4, 282M on its own features.

    The paper prints D = 386, which 16 does not divide; D = 368 has the
    parameters that it reports.
    """
    arguments = {"num_heads": 16, "dim": 368, "default_recipe": "paper"}
    return MixFormer(schema, **{**arguments, **kwargs})


@register_model
def mixformer_medium(schema, **kwargs):
    """The paper's medium size: N = 16, L = 4, D = 768, 1,226M parameters."""
    arguments = {"num_heads": 16, "dim": 768, "default_recipe": "paper"}
    return MixFormer(schema, **{**arguments, **kwargs})
