"""Heads of the user, computed once per request, and heads of the items."""

import keras
from keras import ops

from keras_unirec import layers
from keras_unirec.applications import _parts
from keras_unirec.layers._checks import is_integer

# What can leave out the part from the items to the user.
MIXERS = ("head_mixing", "self_attention", "identity", None)


def num_user_heads(num_item_heads, num_heads, request, candidates, groups):
    """N_U, so that N_G = floor(D_G N / D), the items' share of the widths.

    Args:
        num_item_heads: int, or `"by_width"`.
        num_heads: int. N.
        request, candidates: dicts of embedded columns by key.
        groups: None, or a list of N lists of keys.

    Returns:
        int.

    Raises:
        ValueError: If one side would have no head.
    """
    _check_groups(groups, num_heads, request, candidates)
    if num_item_heads != "by_width":
        number, why = num_item_heads, ""
    elif groups is None:
        width_of_items = sum(x.shape[-1] for x in candidates.values())
        width = width_of_items + sum(x.shape[-1] for x in request.values())
        number = width_of_items * num_heads // width
        why = (
            f", by width {number}: the items have {width_of_items} of the "
            f"{width} numbers of all embeddings"
        )
    else:
        number = sum(bool(set(group) & set(candidates)) for group in groups)
        why = f", by `token_groups` {number}"
    if not is_integer(number) or not 1 <= number <= num_heads - 1:
        raise ValueError(
            "`num_item_heads` must leave at least one head to the user and one "
            "to the items: an int from 1 to `num_heads` less 1, or "
            f'"by_width". Received: num_item_heads={num_item_heads!r}{why}; '
            f"num_heads={num_heads}"
        )
    if not request:
        raise ValueError(
            "The heads of the user are made of user and context columns and "
            "history lengths; with `num_item_heads` the schema needs some. "
            "Received: none"
        )
    return num_heads - number


def _check_groups(groups, num_heads, request, candidates):
    """Groups of the user first, then those of the items; none is mixed."""
    if groups is None:
        return
    _parts.check_lists_of_names(groups)
    named = sorted(key for group in groups for key in group)
    known = sorted([*request, *candidates])
    of_items = [{key in candidates for key in group} for group in groups]
    if (
        len(groups) != num_heads
        or named != known
        or any(len(sides) > 1 for sides in of_items)
        or of_items != sorted(of_items, key=max)
    ):
        raise ValueError(
            f"`token_groups` must be {num_heads} lists (`num_heads`) that name "
            "each column exactly once: with `num_item_heads` first lists of "
            f"columns of the user, {sorted(request)}, then of the items, "
            f"{sorted(candidates)}. Received: token_groups={groups}"
        )


def mixer(layer, num_user_heads, num_item_heads):
    """The mixer for both sides, in place of one for all heads.

    Raises:
        ValueError: If the items would reach the user through it.
    """
    num_heads = num_user_heads + num_item_heads
    if type(layer) is layers.HeadMixing and layer.num_heads in (
        None,
        num_heads,
    ):
        return layers.DecoupledHeadMixing(
            num_user_heads,
            num_item_heads,
            dtype=layer.dtype_policy,
            name=layer.name,
        )
    identity = (keras.layers.Activation, keras.layers.Identity, type(None))
    if isinstance(layer, (*identity, layers.TokenSelfAttention)):
        return layer
    raise ValueError(
        "`num_item_heads` decouples the heads of the user from the items, "
        "which needs a mixer whose part from the items to the user can be "
        f"left out: one of {MIXERS}. The matrices of UniMixing are doubly "
        "stochastic, and none of those has a block of zeros there; FM and "
        "heterogeneous attention are defined on all tokens together. "
        f"Received: mixer={type(layer).__name__}"
    )


def reads_user(layer):
    """Whether the item side of a mixer reads the heads of the user."""
    return isinstance(
        layer, (layers.DecoupledHeadMixing, layers.TokenSelfAttention)
    )


def read_out(user_heads, item_heads, readout, dtype):
    """All heads as one vector for each candidate.

    Args:
        user_heads: Tensor `(R, N_U, D)`.
        item_heads: Tensor `(R, C, N_G, D)`.
        readout: `"mean"` or `"concatenate"`.
        dtype: Dtype policy.

    Returns:
        Tensor `(R, C, D)` or `(R, C, (N_U + N_G) D)`.
    """
    num_user_heads, dim = user_heads.shape[-2:]
    num_item_heads = item_heads.shape[-2]
    if readout == "mean":
        num_heads = num_user_heads + num_item_heads
        # Means of each side: a sum may exceed half precision.
        of_user = ops.mean(user_heads, axis=-2) * (num_user_heads / num_heads)
        of_items = ops.mean(item_heads, axis=-2) * (num_item_heads / num_heads)
        return ops.expand_dims(of_user, axis=1) + of_items
    return layers.BesideCandidates(dtype=dtype, name="beside_item_heads")(
        keras.layers.Reshape((num_user_heads * dim,), dtype=dtype)(user_heads),
        keras.layers.Reshape((-1, num_item_heads * dim), dtype=dtype)(
            item_heads
        ),
    )
