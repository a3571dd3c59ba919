"""What the families share between the embeddings and the logits."""

import math
import numbers

import keras
from keras import ops

from keras_unirec import layers
from keras_unirec.layers._checks import (
    check_positive_integers as check_positive_integers,
)
from keras_unirec.layers.embedding.feature_embedding import layer_name
from keras_unirec.layers.mixing._by_name import check_mixer
from keras_unirec.layers.mixing._by_name import resolve_mixer
from keras_unirec.layers.mixing.head_mixing import check_width
from keras_unirec.schema import Schema


def check_schema(schema, family, histories=True):
    """A ranking model needs something to rank, to predict and to read."""
    if not isinstance(schema, Schema):
        raise ValueError(
            "`schema` must be a `keras_unirec.Schema`. "
            f"Received: schema of type {type(schema).__name__}"
        )
    needs = [
        (schema.item, "at least one `item` column: what is ranked"),
        (schema.labels, "at least one `Label`: what is predicted"),
    ]
    if histories:
        what = f"at least one `Sequence`: {family} reads histories"
        needs.insert(0, (schema.sequences, what))
    for columns, what in needs:
        if not columns:
            raise ValueError(f"The schema needs {what}. Received: none")
    schema.require_adapted()


def check_hidden_ratio(dim, **arguments):
    """A ratio of widths must leave a hidden width of at least 1."""
    for argument, value in arguments.items():
        legal = isinstance(value, numbers.Real) and math.isfinite(value)
        if not legal or isinstance(value, bool) or value * dim < 0.5:
            raise ValueError(
                f"`{argument}` must be a number that gives a hidden width of "
                f"at least 1 over a width of {dim}. "
                f"Received: {argument}={value!r}"
            )


def hidden_units(tower_units, dim):
    """Hidden widths of a tower, `(dim,)` where they are None."""
    if tower_units is None:
        return (dim,)
    if not isinstance(tower_units, (list, tuple)):
        raise ValueError(
            "`tower_units` must be a list of widths, or None. "
            f"Received: tower_units={tower_units!r}"
        )
    for width in tower_units:
        check_positive_integers(tower_units=width)
    return tuple(tower_units)


def check_options(**arguments):
    """Each argument is a pair: what was given, and what is legal."""
    for argument, (value, legal) in arguments.items():
        if value not in legal:
            raise ValueError(
                f"`{argument}` must be one of {legal}. "
                f"Received: {argument}={value!r}"
            )


def token_width(dim, mixer, **num_tokens):
    """`dim`, checked, or a legal width where it is None.

    Args:
        dim: int or None.
        mixer: As in `mixer_layer`.
        **num_tokens: The number of tokens under the name of its argument.
    """
    ((argument, number),) = num_tokens.items()
    if dim is None:
        return 8 * number
    check_positive_integers(dim=dim)
    if mixer == "head_mixing":
        check_width(number, dim, argument)
    return dim


def mixer_config(mixer):
    """What stands for a mixer in the config of an application.

    Args:
        mixer: Name of a mixer, a layer, the config of one, or None.
    """
    check_mixer(_layer_of(mixer))
    if isinstance(mixer, keras.layers.Layer) and mixer.weights:
        raise ValueError(
            "`mixer` must be a layer without weights yet: every block gets a "
            f"new copy. Received: mixer={mixer}, which is built"
        )
    config = keras.saving.serialize_keras_object(mixer)
    layer = _layer_of(config)  # Whether it can be copied.
    if isinstance(layer, layers.DecoupledHeadMixing):
        raise ValueError(
            "`mixer` must mix the tokens of a whole model: give "
            '`mixer="head_mixing"`, and `num_item_heads` to `MixFormer` to '
            "decouple it. Received: mixer=DecoupledHeadMixing"
        )
    return config


def _layer_of(config):
    """The layer of a config; what is none as it is."""
    if not isinstance(config, dict):
        return config
    try:
        return keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            "`mixer` must be a layer that its config describes (registered, "
            "if it is yours): every block gets a copy. "
            f"Received: mixer={config}: {error}"
        ) from error


def mixer_layer(mixer, num_heads, dtype, **options):
    """A new mixer, for one block.

    Args:
        mixer: What `mixer_config` returned.
        num_heads: int, for the mixers by attention that are given by name.
        dtype: Dtype policy.
        **options: Arguments of a mixer that is given by name.
    """
    if isinstance(mixer, dict):
        config = {**mixer["config"], "name": "mixer", "dtype": dtype}
        mixer = _layer_of({**mixer, "config": config})
    return resolve_mixer(mixer, dtype, num_heads, **options)


def request_features(embed, schema, user_inputs, history_lengths):
    """Embedded user and context columns, by key."""
    request = embed.request(user_inputs)
    if history_lengths:
        return request
    counts = {f"{sequence.name}.count" for sequence in schema.sequences}
    return {key: x for key, x in request.items() if key not in counts}


def tokenize(
    features,
    x,
    dim,
    num_tokens,
    token_groups,
    dtype,
    argument,
    name="tokenizer",
):
    """Tokens `(R, C, num_tokens, dim)` of the concatenated features.

    Args:
        features: dict of tensors by key, in the order of `x`.
        x: Tensor `(R, C, width)`, their concatenation.
        dim, num_tokens: ints.
        token_groups: None (AutoSplit), or `num_tokens` lists of keys.
        dtype: Dtype policy.
        argument: What decides `num_tokens`, for messages.
        name: str. Name of the layer.
    """
    widths = {key: value.shape[-1] for key, value in features.items()}
    if num_tokens > sum(widths.values()):
        raise ValueError(
            f"The features are {sum(widths.values())} wide together and "
            f"cannot be cut into {num_tokens} tokens ({argument}). Give fewer "
            "tokens or wider embeddings"
        )
    x, group_dims = _grouped(x, widths, token_groups, num_tokens, argument)
    return layers.FeatureTokenizer(
        dim,
        num_tokens=num_tokens if group_dims is None else None,
        group_dims=group_dims,
        dtype=dtype,
        name=name,
    )(x)


def check_lists_of_names(token_groups):
    if not isinstance(token_groups, (list, tuple)) or not all(
        isinstance(group, (list, tuple))
        and len(group)
        and all(isinstance(key, str) for key in group)
        for group in token_groups
    ):
        raise ValueError(
            "`token_groups` must be a list of lists of column names. "
            f"Received: token_groups={token_groups!r}"
        )


def _grouped(x, widths, token_groups, num_tokens, argument):
    """Reorders the concatenated features so that groups are contiguous."""
    if token_groups is None:
        return x, None
    check_lists_of_names(token_groups)
    named = [key for group in token_groups for key in group]
    if len(token_groups) != num_tokens or sorted(named) != sorted(widths):
        raise ValueError(
            f"`token_groups` must be {num_tokens} lists ({argument}) that "
            f"name each of {sorted(widths)} exactly once. "
            f"Received: token_groups={token_groups}"
        )
    start, ranges = 0, {}
    for key, width in widths.items():
        ranges[key] = list(range(start, start + width))
        start += width
    order = [index for key in named for index in ranges[key]]
    group_dims = [sum(widths[key] for key in group) for group in token_groups]
    return ops.take(x, order, axis=-1), group_dims


READOUTS = ("mean", "concatenate")


def read_out(tokens, readout, dtype):
    """`(R, C, tokens, dim)` to one vector for each candidate."""
    if readout == "mean":
        return ops.mean(tokens, axis=-2)
    num_tokens, dim = tokens.shape[-2:]
    return keras.layers.Reshape((-1, num_tokens * dim), dtype=dtype)(tokens)


def towers(x, schema, units, output_activation, dtype):
    """One tower for each label: a dict of `(R, C)` float32 outputs."""
    return {
        name: _tower(x, layer_name(name), units, output_activation, dtype)
        for name in schema.label_names
    }


def _tower(x, label, units, output_activation, dtype):
    for i, width in enumerate(units):
        x = keras.layers.Dense(
            width, activation="silu", dtype=dtype, name=f"{label}_tower_{i}"
        )(x)
    # Logits stay float32 in mixed precision.
    x = keras.layers.Dense(
        1, activation=output_activation, dtype="float32", name=f"{label}_logit"
    )(x)
    return ops.squeeze(x, axis=-1)
