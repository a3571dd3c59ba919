import keras

from keras_unirec.applications.mixformer import MixFormer
from keras_unirec.applications.registry import register_model


@keras.saving.register_keras_serializable(package="keras_unirec")
class UIMixFormer(MixFormer):
    """UI-MixFormer: the heads of the user are computed once per request.

    `MixFormer` whose N heads are split: N_U are made of user and context
    columns, N_G of item columns. The mixing lets the heads of the items read
    those of the user and not the other way round (eq. 10-11), so that the
    heads of the user in every layer, and what they read of the histories, are
    part of the state of a request; a candidate costs N_G heads. The blocks
    have the parameters of `MixFormer`; each side has a tokenizer of its own.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one history, one
            item column, and one user or context column (a history length is
            one).
        num_item_heads: int, from 1 to `num_heads - 1`, or `"by_width"`: N_G is
            the share that the items have of the width of all embeddings,
            rounded down (3.4.1). Defaults to `"by_width"`.
        **kwargs: Other arguments of `MixFormer`. Its `mixer` must be
            `"head_mixing"`, `"self_attention"` (masked), `"identity"` or
            `None`.

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

    def __init__(self, schema, *, num_item_heads="by_width", **kwargs):
        if num_item_heads is None:
            raise ValueError(
                '`num_item_heads` must be an int or "by_width"; without it '
                "the model is a `MixFormer`. Received: num_item_heads=None"
            )
        super().__init__(schema, num_item_heads=num_item_heads, **kwargs)


@register_model
def ui_mixformer_tiny(schema, **kwargs):
    """`mixformer_tiny`, decoupled: 4 of the 8 heads belong to the items.

    That is the 1:1 of the paper; by width the items would get 2 on KuaiRand,
    which ranks worse (`docs/mixformer.md`).
    """
    arguments = {
        "num_heads": 8,
        "num_item_heads": 4,
        "dim": 32,
        "num_layers": 2,
        "hidden_ratio": 2,
        "attention": "sigmoid",
    }
    return UIMixFormer(schema, **{**arguments, **kwargs})


@register_model
def ui_mixformer_small(schema, **kwargs):
    """`mixformer_small`, decoupled: N = 16, L = 4, D = 368."""
    arguments = {"num_heads": 16, "dim": 368, "default_recipe": "paper"}
    return UIMixFormer(schema, **{**arguments, **kwargs})


@register_model
def ui_mixformer_medium(schema, **kwargs):
    """`mixformer_medium`, decoupled: N = 16, L = 4, D = 768."""
    arguments = {"num_heads": 16, "dim": 768, "default_recipe": "paper"}
    return UIMixFormer(schema, **{**arguments, **kwargs})
