"""Queries of several histories: how many, made of what, reading what."""

import dataclasses

import keras
from keras import ops

from keras_unirec import layers
from keras_unirec.applications import _histories
from keras_unirec.applications import _parts
from keras_unirec.applications._histories import by_history
from keras_unirec.applications.ranking_model import state_inputs
from keras_unirec.layers._residual import check_norm

CONTEXTS = ("all", "without_pooling", "target")


def queries_by_history(schema, num_queries, merge_histories):
    """Numbers of queries: a list, one for each history that is read."""
    numbers = by_history(
        schema, "num_queries", num_queries, _parts.check_positive_integers
    ).values()
    return [sum(numbers)] if merge_histories else list(numbers)


def check_tokens(num_tokens, num_queries, query_tokens, query_context):
    """The number of feature tokens that the queries leave."""
    num_features = num_tokens - sum(num_queries)
    if num_features < 1:
        raise ValueError(
            "`num_tokens` must exceed the number of queries, "
            f"{sum(num_queries)} (`num_queries` of every history): the rest "
            "are the tokens of the other features. "
            f"Received: num_tokens={num_tokens}"
        )
    if query_tokens is None:
        return num_features
    if query_context == "target":
        raise ValueError(
            "`query_tokens` selects the feature tokens that queries are made "
            'of; with `query_context="target"` they are made of the item '
            f"columns alone. Received: query_tokens={query_tokens}"
        )
    if (
        not isinstance(query_tokens, (list, tuple))
        or not query_tokens
        or not all(isinstance(i, int) for i in query_tokens)
        or not set(query_tokens) <= set(range(num_features))
        or len(set(query_tokens)) != len(query_tokens)
    ):
        raise ValueError(
            "`query_tokens` must be a list of different indices of the "
            f"{num_features} feature tokens. "
            f"Received: query_tokens={query_tokens}"
        )
    return num_features


def head_width(num_heads, head_dim, dim):
    """`head_dim`, or the usual `dim / num_heads`."""
    if head_dim is not None:
        _parts.check_positive_integers(head_dim=head_dim)
        return head_dim
    if dim % num_heads:
        raise ValueError(
            "`num_heads` must divide the width of a token, or `head_dim` be "
            f"given. Received: num_heads={num_heads}, dim={dim}"
        )
    return dim // num_heads


@dataclasses.dataclass
class Stage:
    """Both halves up to the first queries.

    Attributes:
        user_model: The user half.
        inputs: dict of the inputs of the item half: state and item columns.
        state: dict of the state tensors among them.
        features: Feature tokens `(R, C, M, D)`.
        queries: List of tensors `(R, C, N_s, D)`, one for each history.
        num_queries: List of the N_s.
        decoders: `Decoders`.
    """

    user_model: object
    inputs: dict
    state: dict
    features: object
    queries: list
    num_queries: list
    decoders: object


def begin(
    schema,
    dim,
    num_tokens,
    num_decoders,
    num_queries,
    num_heads,
    head_dim,
    query_context,
    query_tokens,
    query_hidden_dim,
    query_compression_dim,
    token_groups,
    norm,
    norm_argument,
    attention,
    kv_mode,
    merge_histories,
    history_lengths,
    dtype,
    **histories,
):
    """Encodes the histories, embeds the features, generates the queries.

    Args:
        dim: int. Width of a token.
        num_decoders: int. How often the queries read.
        norm_argument: What the application calls `norm`, for messages.
        **histories: Other arguments of `_histories.encode_histories`.

    The others are arguments of `HyFormer`; the caller has checked those that
    its own layers need, `num_tokens` and `num_heads` among them.

    Returns:
        `Stage`.
    """
    _parts.check_positive_integers(query_hidden_dim=query_hidden_dim)
    _parts.check_positive_integers(
        optional=True, query_compression_dim=query_compression_dim
    )
    _parts.check_options(
        query_context=(query_context, CONTEXTS),
        merge_histories=(merge_histories, (False, True)),
    )
    check_norm(norm, norm_argument)
    numbers_of_queries = queries_by_history(
        schema, num_queries, merge_histories
    )
    num_features = check_tokens(
        num_tokens, numbers_of_queries, query_tokens, query_context
    )
    embed = layers.FeatureEmbedding(schema, dtype=dtype)
    beside = layers.BesideCandidates(dtype=dtype, name="beside_candidates")

    # === The user half ===
    user_inputs, item_inputs = schema.inputs()
    encoded = _histories.encode_histories(
        embed,
        schema,
        user_inputs,
        num_layers=num_decoders,
        merge_histories=merge_histories,
        dtype=dtype,
        **histories,
    )
    decoders = Decoders(
        encoded,
        num_decoders,
        num_heads,
        head_width(num_heads, head_dim, dim),
        attention=attention,
        kv_mode=kv_mode,
        norm=norm,
        dtype=dtype,
    )
    state = decoders.state(encoded)
    if query_context == "all":
        state["state_summary"] = _histories.summaries(encoded, dtype)
    request = _parts.request_features(
        embed, schema, user_inputs, history_lengths
    )
    if request:
        state["state_request"] = layers.concatenate(request.values())
    user_model = keras.Model(user_inputs, state, name="user_model")

    # === The item half ===
    state = state_inputs(state)
    candidates = embed.candidates(item_inputs)
    target = layers.concatenate(candidates.values())
    x = beside(state["state_request"], target) if request else target
    features = _parts.tokenize(
        {**request, **candidates},
        x,
        dim,
        num_features,
        token_groups,
        dtype,
        argument="`num_tokens` less the queries",
    )
    queries = _generate(
        features,
        target,
        state,
        query_context,
        query_tokens,
        numbers_of_queries,
        hidden_dim=query_hidden_dim,
        compression_dim=query_compression_dim,
        dtype=dtype,
    )
    return Stage(
        user_model,
        {**state, **item_inputs},
        state,
        features,
        queries,
        numbers_of_queries,
        decoders,
    )


def read(
    schema,
    dim,
    num_tokens,
    token_groups,
    history_lengths,
    dtype,
    num_encoder_layers,
    decoding_norm,
    **reading,
):
    """Queries read the histories through all layers and join the features.

    Args:
        dim: int. Width of a token.
        **reading: Other arguments of `begin`.

    The others are arguments of `LongerRankMixer`.

    Returns:
        Tuple of the user half, the dict of inputs of the item half, and the
        tokens `(R, C, num_tokens, dim)`, queries first.
    """
    _parts.check_positive_integers(num_encoder_layers=num_encoder_layers)
    stage = begin(
        schema,
        dim,
        num_tokens,
        num_encoder_layers,
        token_groups=token_groups,
        history_lengths=history_lengths,
        norm=decoding_norm,
        norm_argument="decoding_norm",
        dtype=dtype,
        **reading,
    )
    queries = stage.queries
    for i in range(num_encoder_layers):
        queries = stage.decoders.decode(i, queries, stage.state)
    tokens = ops.concatenate([*queries, stage.features], axis=-2)
    return stage.user_model, stage.inputs, tokens


class Decoders:
    """The key-value and decoding layers of every model layer and history.

    Keys and values of the `"projected"` form depend on the request alone:
    they are computed in the user half and are part of its state.
    """

    def __init__(
        self,
        histories,
        num_layers,
        num_heads,
        head_dim,
        attention,
        kv_mode,
        norm,
        dtype,
    ):
        self.in_state = kv_mode == "projected"
        self.names = [history.name for history in histories]
        self.decodings = []
        for i in range(num_layers):
            decodings = []
            for history in histories:
                key_value = layers.HistoryKeyValue(
                    num_heads,
                    head_dim,
                    dtype=dtype,
                    name=f"key_value_{i}_{history.name}",
                )
                # Its weights are no part of one half.
                key_value.build((None, None, history.encoded[i].shape[-1]))
                decodings.append(
                    layers.QueryDecoding(
                        key_value,
                        attention=attention,
                        kv_mode=kv_mode,
                        norm=norm,
                        dtype=dtype,
                        name=f"query_decoding_{i}_{history.name}",
                    )
                )
            self.decodings.append(decodings)

    def state(self, histories):
        """What `decode` reads, as a dict of state tensors."""
        state = {}
        for history in histories:
            state[f"state_mask_{history.name}"] = history.encoded_mask
        for i, decodings in enumerate(self.decodings):
            for decoding, history in zip(decodings, histories):
                suffix = f"{i}_{history.name}"
                if self.in_state:
                    keys, values = decoding.key_value(history.encoded[i])
                    state[f"state_keys_{suffix}"] = keys
                    state[f"state_values_{suffix}"] = values
                else:
                    state[f"state_history_{suffix}"] = history.encoded[i]
        return state

    def decode(self, i, queries, state):
        """Layer `i`: each list of queries reads its own history.

        Args:
            i: int.
            queries: List of tensors `(R, C, N_s, D)`, one for each history.
            state: dict of state tensors.

        Returns:
            List like `queries`.
        """
        decoded = []
        for decoding, name, query in zip(
            self.decodings[i], self.names, queries
        ):
            suffix = f"{i}_{name}"
            if self.in_state:
                history = (
                    state[f"state_keys_{suffix}"],
                    state[f"state_values_{suffix}"],
                )
            else:
                history = state[f"state_history_{suffix}"]
            mask = state[f"state_mask_{name}"]
            decoded.append(decoding(query, history, mask=mask))
        return decoded


def _generate(
    tokens, candidates, state, context, query_tokens, num_queries, **layer
):
    """The queries of the first layer, a list with one tensor a history.

    Args:
        tokens: Feature tokens `(R, C, M, D)`.
        candidates: Concatenated item columns `(R, C, width)`.
        state: dict with `"state_summary"` where the context is `"all"`.
        context: One of `CONTEXTS`.
        query_tokens: None or list of indices of tokens.
        num_queries: List of ints, one for each history.
        **layer: Arguments of `QueryGeneration` and `dtype`.
    """
    generation = layers.QueryGeneration(
        sum(num_queries), tokens.shape[-1], name="query_generation", **layer
    )
    if context == "target":
        queries = generation(candidates)
    else:
        if query_tokens is not None:
            tokens = ops.take(tokens, list(query_tokens), axis=-2)
        features = _parts.read_out(tokens, "concatenate", layer["dtype"])
        if context == "all":
            queries = generation(features, state["state_summary"])
        else:
            queries = generation(features)
    return split(queries, num_queries)


def split(tokens, numbers):
    """The first `sum(numbers)` tokens, a list with `numbers[i]` in each."""
    parts, start = [], 0
    for number in numbers:
        parts.append(tokens[:, :, start : start + number])
        start += number
    return parts
