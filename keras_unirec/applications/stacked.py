from keras_unirec import layers
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.registry import register_model
from keras_unirec.layers.embedding import concatenate


class Stacked(RankingModel):
    """Two stages: histories are read, then one vector of features is crossed.

    What the reader makes of the histories joins the embedded user, context and
    item columns of each candidate; the interaction crosses their
    concatenation, and the towers read what it returns. Information flows one
    way.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one item column.
        history_reader: `"mean"`, `"target_attention"`, `"din"`, `"decoding"`
            (with a `dim`), or a layer with their options. Defaults to `"mean"`.
        interaction: `"dcn_v2"`, or a layer that maps `(..., width)` to
            `(..., another)`. Defaults to `"dcn_v2"`.
        **kwargs: `tower` (by default the logit alone), `history_lengths`,
            `output_activation`, `default_recipe`, `dtype` and `name` of
            `RankingModel`.

    Input shape:
        dict of encoded columns: request columns `(num_requests,)`, histories
        `(num_requests, num_events)`, candidate columns
        `(num_requests, num_candidates)`.

    Output shape:
        dict of `(num_requests, num_candidates)` float32 by label.

    Example:
    ```python
    model = keras_unirec.applications.Stacked(
        schema,
        history_reader="target_attention",
        interaction=keras_unirec.layers.DCN(num_layers=3, units=(256,)),
    )
    ```

    Reference: [DCN V2](https://arxiv.org/abs/2008.13535);
    [MixFormer](https://arxiv.org/abs/2602.14110), Table 1.
    """

    needs_histories = False
    defaults = {"tower": layers.Tower(units=())}

    def __init__(
        self, schema, history_reader="mean", interaction="dcn_v2", **kwargs
    ):
        super().__init__(schema, **kwargs)
        self.reading = self.part("history_reader", history_reader)
        self.reading.check_schema(schema)
        self.interaction = self.part("interaction", interaction)

    def request(self, context, histories):
        return self.reading.request(context, histories)

    def candidates(self, items, state):
        features = self.reading.columns(items, state)
        read = self.reading.read_vectors(items, state)
        return self.interaction(concatenate([features.tensor, *read]))


@register_model
def ta_dcnv2_tiny(schema, **parts):
    """Target attention, then two cross layers: trains on a laptop CPU."""
    reader = layers.QueryDecoding(num_heads=2, head_dim=16, residual="none")
    sizes = {
        "history_reader": layers.TargetAttention(reader),
        "interaction": layers.DCN(num_layers=2, units=(128, 64)),
    }
    return Stacked(schema, **{**sizes, **parts})
