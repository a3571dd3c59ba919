"""Histories as features: the mean of the events of each."""

import keras

from keras_unirec import layers
from keras_unirec.applications import _histories
from keras_unirec.applications import _parts
from keras_unirec.applications.ranking_model import state_inputs
from keras_unirec.layers.embedding.feature_embedding import layer_name


def begin(
    schema,
    dim,
    num_tokens,
    sequence_dim,
    token_groups,
    history_lengths,
    dtype,
):
    """Both halves up to the tokens; arguments as in `RankMixer`.

    Args:
        dim: int. Width of a token.

    Returns:
        Tuple of the user half, the dict of inputs of the item half, and the
        tokens `(R, C, num_tokens, dim)`.
    """
    dims = _histories.by_history(
        schema, "sequence_dim", sequence_dim, _parts.check_positive_integers
    )
    embed = layers.FeatureEmbedding(schema, dtype=dtype)
    beside = layers.BesideCandidates(dtype=dtype, name="beside_candidates")

    # === The user half ===
    user_inputs, item_inputs = schema.inputs()
    request = _parts.request_features(
        embed, schema, user_inputs, history_lengths
    )
    for sequence in schema.sequences:
        name = layer_name(sequence.name)
        events, mask = embed.history(user_inputs, sequence.name)
        mean = layers.HistoryMean(dtype=dtype, name=f"{name}_mean")
        if f"{sequence.name}.mean" in request:
            raise ValueError(
                f"The mean of history `{sequence.name}` is the feature "
                f"`{sequence.name}.mean`; rename the column of that name. "
                f"Received: column {sequence.name}.mean"
            )
        # Linear: the mean of projections is the projection of the mean.
        request[f"{sequence.name}.mean"] = keras.layers.Dense(
            dims[sequence.name],
            use_bias=False,
            dtype=dtype,
            name=f"{name}_projection",
        )(mean(events, mask=mask))
    if not request:  # A state has the axis of the requests.
        raise ValueError(
            "The schema needs a user or context column or a history. "
            "Received: item columns only"
        )
    state = {"state_request": layers.concatenate(request.values())}
    user_model = keras.Model(user_inputs, state, name="user_model")

    # === The item half ===
    state = state_inputs(state)
    candidates = embed.candidates(item_inputs)
    x = beside(state["state_request"], layers.concatenate(candidates.values()))
    tokens = _parts.tokenize(
        {**request, **candidates},
        x,
        dim,
        num_tokens,
        token_groups,
        dtype,
        argument="`num_tokens`",
    )
    return user_model, {**state, **item_inputs}, tokens
