"""Queries of several histories: how many, made of what, reading what."""

from keras import ops

from keras_unirec import layers
from keras_unirec.applications import _parts
from keras_unirec.applications._histories import by_history

CONTEXTS = ("all", "without_pooling", "target")


def queries_by_history(schema, num_queries, merge_histories):
    """Numbers of queries: a list, one for each history that is read."""
    numbers = by_history(
        schema, "num_queries", num_queries, _parts.check_positive_integers
    ).values()
    return [sum(numbers)] if merge_histories else list(numbers)


def check_tokens(num_tokens, num_queries, query_tokens):
    """The number of feature tokens that the queries leave."""
    num_features = num_tokens - sum(num_queries)
    if num_features < 1:
        raise ValueError(
            "`num_tokens` must exceed the number of queries, "
            f"{sum(num_queries)} (`num_queries` of every history): the rest "
            "are the tokens of the other features. "
            f"Received: num_tokens={num_tokens}"
        )
    if query_tokens is not None and (
        not query_tokens
        or not set(query_tokens) <= set(range(num_features))
        or len(set(query_tokens)) != len(query_tokens)
    ):
        raise ValueError(
            "`query_tokens` must be different indices of the "
            f"{num_features} feature tokens. "
            f"Received: query_tokens={query_tokens}"
        )
    return num_features


def head_width(num_heads, head_dim, dim):
    """`head_dim`, or the usual `dim / num_heads`."""
    if head_dim is not None:
        return head_dim
    if dim % num_heads:
        raise ValueError(
            "`num_heads` must divide the width of a token, or `head_dim` be "
            f"given. Received: num_heads={num_heads}, dim={dim}"
        )
    return dim // num_heads


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
        self.key_values, self.decodings = [], []
        for i in range(num_layers):
            key_values, decodings = [], []
            for history in histories:
                key_value = layers.HistoryKeyValue(
                    num_heads,
                    head_dim,
                    dtype=dtype,
                    name=f"key_value_{i}_{history.name}",
                )
                # Its weights are no part of one half.
                key_value.build((None, None, history.encoded[i].shape[-1]))
                key_values.append(key_value)
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
            self.key_values.append(key_values)
            self.decodings.append(decodings)

    def state(self, histories):
        """What `decode` reads, as a dict of state tensors."""
        state = {}
        for history in histories:
            state[f"state_mask_{history.name}"] = history.encoded_mask
        for i, key_values in enumerate(self.key_values):
            for key_value, history in zip(key_values, histories):
                suffix = f"{i}_{history.name}"
                if self.in_state:
                    keys, values = key_value(history.encoded[i])
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


def generate(
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
        features = _parts.read_out(tokens, "concatenate")
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
