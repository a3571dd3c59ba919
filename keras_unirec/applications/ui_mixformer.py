from keras import ops

from keras_unirec.applications.mixformer import TINY
from keras_unirec.applications.mixformer import MixFormer
from keras_unirec.applications.ranking_model import Outputs
from keras_unirec.applications.registry import register_model
from keras_unirec.layers._checks import is_integer
from keras_unirec.layers.mixing._by_name import takes_context
from keras_unirec.layers.mixing.decoupled_head_mixing import decoupled


class UIMixFormer(MixFormer):
    """UI-MixFormer: the heads of the user are computed once per request.

    `MixFormer` whose N heads are split: N_U are made of user and context
    columns, N_G of item columns. The mixing lets the heads of the items read
    those of the user and not the other way round (eq. 10-11), so that the
    heads of the user in every layer, and what they read of the histories, are
    part of the state of a request; a candidate costs N_G heads. The blocks
    have the parameters of `MixFormer`, except for a `QueryDecoding` as reader,
    of which each side has one; each side has a tokenizer of its own.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one history, one
            item column, and one user or context column (a history length is
            one).
        num_item_heads: int, from 1 to `num_heads - 1`, or `"by_width"`: N_G is
            the share that the items have of the width of all embeddings (or of
            the `groups` of the tokenizer), rounded down (3.4.1). Defaults to
            `"by_width"`.
        **kwargs: Other arguments of `MixFormer`. Its `mixer` must be
            `"head_mixing"`, `"self_attention"` (masked), `"identity"` or
            `None`; the groups of its tokenizer are first those of the user.

    Attributes:
        num_user_heads: int. N_U.

    Input shape:
        As `MixFormer`.

    Output shape:
        As `MixFormer`.

    Example:
    ```python
    model = keras_unirec.applications.UIMixFormer(schema, num_item_heads=8)
    model.compile()
    model.fit(keras_unirec.data.from_pandas(df, schema, requests=True))
    ```

    Reference: [Huang et al., MixFormer](https://arxiv.org/abs/2602.14110), 3.4
    """

    def __init__(self, schema, num_item_heads="by_width", **kwargs):
        self.num_item_heads = num_item_heads  # What `make_sides` starts from.
        super().__init__(schema, **kwargs)

    def make_sides(self):
        tokenizer = self.prototype("tokenizer", self._choice.tokenizer)
        groups = getattr(tokenizer, "groups", None)
        number = self._number_of_item_heads(groups)
        users = self.num_heads - number
        self.num_user_heads, self.num_item_heads = users, number
        self.mixers = [decoupled(m, users, number) for m in self.mixers]
        self.tokenizers = [
            self.part(
                "tokenizer",
                self._choice.tokenizer,
                f"{side}_tokenizer",
                sizes={"num_tokens": heads, "dim": self.dim},
                fixed={"groups": groups and of_side},
            )
            for side, heads, of_side in (
                ("user", users, groups and groups[:users]),
                ("item", number, groups and groups[users:]),
            )
        ]
        # One query of the user is cheaper than its events.
        self.user_blocks = self.make_blocks("user_", users, kv_mode="absorbed")
        self.blocks = self.make_blocks("item_", number, self.user_blocks)

    def request(self, context, histories):
        events, mask = self.encode(histories)
        cut = self.num_user_heads * self.dim if self.literal else None
        of_user = [x[..., :cut] for x in events] if cut else events
        of_items = [x[..., cut:] for x in events] if cut else events
        shape = (None, None, self.num_user_heads, self.dim)
        of_user = [
            block.reader.request(x, shape)
            for block, x in zip(self.user_blocks, of_user)
        ]
        shape = (None, None, self.num_item_heads, self.dim)
        state = {
            "user_heads": [],
            "history": {
                "events": [
                    block.reader.request(x, shape)
                    for block, x in zip(self.blocks, of_items)
                ],
                "mask": mask,
            },
        }
        heads = self.tokenizers[0].tokens(
            context.for_candidates(), "`num_heads` less those of the items"
        )  # (R, 1, N_U, D)
        reads_user = [takes_context(mixer) for mixer in self.mixers]
        for block, x, kept in zip(self.user_blocks, of_user, reads_user):
            state["user_heads"].append(
                ops.squeeze(heads, axis=1) if kept else None
            )
            heads = block(heads, x, mask)
        state["user_heads"].append(ops.squeeze(heads, axis=1))
        return state

    def candidates(self, items, state):
        heads = self.tokenizers[1].tokens(items, "`num_item_heads`")
        history = state["history"]
        for block, events, user in zip(
            self.blocks, history["events"], state["user_heads"]
        ):
            context = {}
            if user is not None:
                context = {"context": ops.expand_dims(user, axis=1)}
            heads = block(heads, events, history["mask"], **context)
        return Outputs(heads, request_tokens=state["user_heads"][-1])

    def _number_of_item_heads(self, groups):
        """N_G, so that N_G = floor(D_G N / D_ns), the items' share."""
        of_request, of_items = self.column_widths()
        _check_groups(groups, self.num_heads, of_request, of_items)
        if self.num_item_heads != "by_width":
            number, why = self.num_item_heads, ""
        elif groups is None:
            width_of_items = sum(of_items.values())
            width = width_of_items + sum(of_request.values())
            number = width_of_items * self.num_heads // width
            why = (
                f", by width {number}: the items have {width_of_items} of the "
                f"{width} numbers of all embeddings"
            )
        else:
            number = sum(bool(set(group) & set(of_items)) for group in groups)
            why = f", by `groups` {number}"
        if not is_integer(number) or not 1 <= number <= self.num_heads - 1:
            raise ValueError(
                "`num_item_heads` must leave at least one head to the user and "
                "one to the items: an int from 1 to `num_heads` less 1, or "
                f'"by_width". Received: num_item_heads={self.num_item_heads!r}'
                f"{why}; num_heads={self.num_heads}"
            )
        if not of_request:
            raise ValueError(
                "The heads of the user are made of user and context columns "
                "and history lengths; the schema needs some. Received: none"
            )
        return number


def _check_groups(groups, num_heads, of_request, of_items):
    """Groups of the user first, then those of the items; none is mixed."""
    if groups is None:
        return
    named = sorted(key for group in groups for key in group)
    sides = [{key in of_items for key in group} for group in groups]
    if (
        len(groups) != num_heads
        or named != sorted([*of_request, *of_items])
        or any(len(side) > 1 for side in sides)
        or sides != sorted(sides, key=max)
    ):
        raise ValueError(
            f"`groups` must be {num_heads} lists (`num_heads`) that name each "
            "column exactly once: first lists of columns of the user, "
            f"{sorted(of_request)}, then of the items, {sorted(of_items)}. "
            f"Received: groups={groups}"
        )


@register_model
def ui_mixformer_tiny(schema, **parts):
    """`mixformer_tiny`, decoupled: 4 of the 8 heads belong to the items.

    That is the 1:1 of the paper; by width the items would get 2 on KuaiRand,
    which ranks worse (`docs/mixformer.md`).
    """
    return UIMixFormer(schema, **{**TINY, "num_item_heads": 4, **parts})


@register_model
def ui_mixformer_small(schema, **parts):
    """`mixformer_small`, decoupled: N = 16, L = 4, D = 368."""
    sizes = {"dim": 368, "default_recipe": "paper"}
    return UIMixFormer(schema, **{**sizes, **parts})


@register_model
def ui_mixformer_medium(schema, **parts):
    """`mixformer_medium`, decoupled: N = 16, L = 4, D = 768."""
    sizes = {"dim": 768, "default_recipe": "paper"}
    return UIMixFormer(schema, **{**sizes, **parts})
