import keras

from keras_unirec import layers
from keras_unirec.applications import _parts
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.ranking_model import state_inputs
from keras_unirec.applications.registry import register_model
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
            groups that become the heads. Defaults to `None`: AutoSplit, the
            concatenation cut into N even pieces.
        mixer: `"head_mixing"`; `"self_attention"` (ablation HM -> SA),
            `"heterogeneous_attention"`, `"fm"`, `"uni_mixing"`,
            `"uni_mixing_lite"` or `"identity"`; a layer, of which every block
            gets a copy with weights of its own, as
            `layers.UniMixing(block_size=8)`; or `None` (ablation without HM).
            Defaults to `"head_mixing"`.
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
            values are computed; the result is the same. Defaults to `"auto"`:
            what costs fewer multiplications at the shapes of the call.
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

        # === Layers ===
        embed = layers.FeatureEmbedding(schema, dtype=dtype)
        beside = layers.BesideCandidates(dtype=dtype, name="beside_candidates")
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
        history_map = (
            None
            if literal
            else layers.HistoryMap(
                num_heads, width, dtype=dtype, name="history_map"
            )
        )
        if history_map is not None:  # Its weight is no part of one block.
            history_map.build((None, None, event_width))
        _parts.check_hidden_ratio(width, hidden_ratio=hidden_ratio)
        hidden_dim = round(hidden_ratio * width)
        blocks = [
            (
                layers.QueryMixer(
                    hidden_dim,
                    mixer=_parts.mixer_layer(mixer, num_heads, dtype),
                    feed_forward="swiglu" if query_feed_forward else None,
                    norm=norm,
                    dtype=dtype,
                    name=f"query_mixer_{i}",
                ),
                layers.HeadCrossAttention(
                    history_map=history_map,
                    attention=attention,
                    kv_mode=kv_mode,
                    dtype=dtype,
                    name=f"cross_attention_{i}",
                ),
                layers.OutputFusion(
                    hidden_dim,
                    per_head=not shared_output_fusion,
                    norm=norm,
                    dtype=dtype,
                    name=f"output_fusion_{i}",
                ),
            )
            for i in range(num_layers)
        ]

        # === Halves ===
        user_inputs, item_inputs = schema.inputs()
        request = _parts.request_features(
            embed, schema, user_inputs, history_lengths
        )
        histories, masks, gaps = [], [], []
        for sequence in schema.sequences:
            events, mask = embed.history(user_inputs, sequence.name)
            histories.append(event_projections[sequence.name](events))
            masks.append(mask)
            gaps.append(embed.gaps(user_inputs, sequence.name))
        if (
            len(histories) > 1
            or max_history_length is not None
            or history_order == "time"
        ):
            by_time = gaps if history_order == "time" else None
            history, mask = merge(histories, masks, by_time)
        else:
            history, mask = histories[0], masks[0]
        if position_embedding:
            total = sum(sequence.max_length for sequence in schema.sequences)
            history = layers.NewestFirstPosition(
                max_history_length or total, dtype=dtype, name="position"
            )(history, mask=mask)
        state = {"state_history_mask": mask}
        if request:
            state["state_request"] = layers.concatenate(request.values())
        for i, encoder in enumerate(encoders):
            state[f"state_history_{i}"] = encoder(history)
        user_model = keras.Model(user_inputs, state, name="user_model")

        state = state_inputs(state)
        candidates = embed.candidates(item_inputs)
        x = layers.concatenate(candidates.values())
        if request:
            x = beside(state["state_request"], x)
        x = _parts.tokenize(
            {**request, **candidates},
            x,
            width,
            num_heads,
            token_groups,
            dtype,
            argument="`num_heads`",
        )
        for i, (query_mixer, cross_attention, output_fusion) in enumerate(
            blocks
        ):
            history = state[f"state_history_{i % len(encoders)}"]
            x = query_mixer(x)
            x = cross_attention(x, history, mask=state["state_history_mask"])
            x = output_fusion(x)
        outputs = _parts.towers(
            _parts.read_out(x, readout),
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
