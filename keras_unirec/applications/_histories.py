"""From the events of several histories to what a model reads in each layer."""

import dataclasses

import keras

from keras_unirec import layers
from keras_unirec.applications import _parts
from keras_unirec.layers._residual import check_norm
from keras_unirec.layers.embedding.feature_embedding import layer_name

ENCODERS = ("longer", "transformer", "swiglu")


@dataclasses.dataclass
class EncodedHistory:
    """One history, as the layers of a model read it.

    Attributes:
        name: str. Part of the names of layers and state tensors.
        events: Tensor `(R, T, E)`: the projected events with their positions,
            before they are merged or encoded.
        encoded: List of tensors `(R, T', E')`, one a layer.
        mask: Bool tensor `(R, T)` of `events`.
        encoded_mask: Bool tensor `(R, T')` of every tensor of `encoded`.
    """

    name: str
    events: object
    encoded: list
    mask: object
    encoded_mask: object


def by_history(schema, argument, value, check):
    """One value for all histories, or a dict by name, as a dict by name."""
    names = [sequence.name for sequence in schema.sequences]
    values = value if isinstance(value, dict) else dict.fromkeys(names, value)
    if set(values) != set(names):
        raise ValueError(
            f"`{argument}` must be one value, or a dict with one for each "
            f"history of {names}. Received: {argument}={value}"
        )
    for each in values.values():
        check(**{argument: each})
    return {name: values[name] for name in names}


def encode_histories(
    embed,
    schema,
    user_inputs,
    num_layers,
    sequence_dim,
    encoder,
    encoder_heads,
    encoder_hidden_ratio,
    encoder_norm,
    encoder_causal,
    recent_length,
    token_merge,
    inner_transformer,
    position_embedding,
    merge_histories,
    dtype,
):
    """Runs the chosen encoders; arguments as in `HyFormer`.

    Layer `l` reads `H_l = Encoder_l(H_(l-1))` with `H_0 = S`; the LONGER
    encoder reads `H_l = Encoder_l(H_(l-1), S)`, where `H_0` are the most recent
    events of `S`.

    Returns:
        List of `EncodedHistory`, one for each history, or one for all.
    """
    _parts.check_positive_integers(
        encoder_heads=encoder_heads,
        recent_length=recent_length,
        token_merge=token_merge,
    )
    check_norm(encoder_norm, "encoder_norm")
    if inner_transformer and token_merge == 1:
        raise ValueError(
            "`inner_transformer` reads the events that `token_merge` joins; "
            "give a `token_merge` of at least 2. Received: token_merge=1"
        )
    dims = by_history(
        schema, "sequence_dim", sequence_dim, _parts.check_positive_integers
    )
    encoders = by_history(
        schema,
        "encoder",
        encoder,
        lambda encoder: _parts.check_options(encoder=(encoder, ENCODERS)),
    )
    sources = []  # (name, events, mask, longest, encoder)
    gaps = [embed.gaps(user_inputs, s.name) for s in schema.sequences]
    for sequence in schema.sequences:
        name = layer_name(sequence.name)
        events, mask = embed.history(user_inputs, sequence.name)
        events = keras.layers.Dense(
            dims[sequence.name],
            use_bias=False,
            dtype=dtype,
            name=f"{name}_projection",
        )(events)
        kind = encoders[sequence.name]
        sources.append((name, events, mask, sequence.max_length, kind))
    if merge_histories:
        timed = all(gap is not None for gap in gaps)
        sources = [_merged(sources, gaps if timed else None, dtype)]

    def encode(name, events, mask, longest, kind):
        if position_embedding:
            events = layers.NewestFirstPosition(
                longest, dtype=dtype, name=f"{name}_position"
            )(events, mask=mask)
        # What the encoders start from: events, or groups of them.
        start, start_mask = events, mask
        if token_merge > 1:
            start, start_mask = layers.TokenMerge(
                token_merge,
                inner_transformer,
                num_heads=encoder_heads,
                dtype=dtype,
                name=f"{name}_token_merge",
            )(events, mask=mask)
            longest = -(-longest // token_merge)
        dim = start.shape[-1]
        _parts.check_hidden_ratio(
            dim, encoder_hidden_ratio=encoder_hidden_ratio
        )
        if kind != "swiglu" and dim % encoder_heads:
            raise ValueError(
                "`encoder_heads` must divide the width of what is encoded, "
                f"`sequence_dim` times `token_merge`, {dim} for history "
                f"{name!r}. Received: encoder_heads={encoder_heads}"
            )
        x, x_mask = start, start_mask
        if kind == "longer" and longest > recent_length:
            recent = layers.HistoryMerge(
                recent_length, dtype=dtype, name=f"{name}_recent"
            )
            x, x_mask = recent([start], [start_mask])
        encoded = []
        for i in range(num_layers):
            layer = _encoder(
                kind,
                encoder_heads,
                round(encoder_hidden_ratio * dim),
                encoder_norm,
                encoder_causal,
                dtype,
                f"{name}_encoder_{i}",
            )
            if kind == "longer":
                x = layer(x, start, mask=start_mask, events_mask=x_mask)
            elif kind == "transformer":
                x = layer(x, mask=start_mask)
            else:
                x = layer(x)
            encoded.append(x)
        return EncodedHistory(name, events, encoded, mask, x_mask)

    return [encode(*source) for source in sources]


def _merged(sources, gaps, dtype):
    names, histories, masks, lengths, kinds = zip(*sources)
    for argument, values in (
        ("sequence_dim", [history.shape[-1] for history in histories]),
        ("encoder", kinds),
    ):
        if len(set(values)) > 1:
            raise ValueError(
                f"With `merge_histories` all histories share one "
                f"`{argument}`. Received: {dict(zip(names, values))}"
            )
    merge = layers.HistoryMerge(dtype=dtype, name="history_merge")
    history, mask = merge(list(histories), list(masks), gaps)
    return "merged", history, mask, sum(lengths), kinds[0]


def _encoder(kind, num_heads, hidden_dim, norm, causal, dtype, name):
    if kind == "swiglu":
        return layers.HistoryEncoder(
            hidden_dim, norm=norm, dtype=dtype, name=name
        )
    return layers.TransformerEncoder(
        num_heads,
        hidden_dim,
        norm=norm,
        causal=causal,
        dtype=dtype,
        name=name,
    )


def summaries(histories, dtype):
    """The concatenated means of all histories, `(R, sum of widths)`."""
    return layers.concatenate(
        layers.HistoryMean(dtype=dtype, name=f"{history.name}_mean")(
            history.events, mask=history.mask
        )
        for history in histories
    )
