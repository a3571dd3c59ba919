from keras_unirec import layers
from keras_unirec.applications.ranking_model import RankingModel
from keras_unirec.applications.registry import register_model
from keras_unirec.layers._checks import check_positive_integers


class OneTrans(RankingModel):
    """OneTrans: one causal Transformer over events and feature tokens.

    The events of all histories and N feature tokens of each candidate are one
    sequence. Events share their parameters, every feature token has its own;
    feature tokens read the events and the feature tokens before them, events
    read older events alone. So the keys and values of the events, in every
    layer, are the state of a request. In a pyramid each layer passes fewer
    events on, down to none.

    What the paper leaves open: the feed-forward has two matrices and GELU
    (5.6 D wide, which fits its parameters); `W^O` is one for all tokens;
    positions are learned and counted from the newest event; the towers read
    the mean of the feature tokens. In place of [SEP] tokens between the
    histories the map of each history has a bias.

    Args:
        schema: `keras_unirec.Schema`, adapted, with at least one history and
            one item column.
        num_tokens: int. N. Defaults to `12`.
        dim: int. D. Defaults to `256`.
        num_layers: int. Defaults to `6`.
        pyramid: int or None. The numbers of events that layers pass on fall
            linearly to 0, rounded up to multiples of it; `None` is the
            ablation without pyramid. Defaults to `32`.
        tokenizer: `"projected"` (Auto-Split), or `"even"` or a
            `layers.FeatureTokenizer` with `groups` (groupwise). Defaults to
            `"projected"`.
        events: `layers.Events`. Its `join` is `"concatenate"` by default;
            `"time"`, where every history has a `Timestamp`, is the better one
            in the paper. Defaults to `Events(position="newest_first",
            use_bias=True)`.
        block: `layers.OneTransBlock`. Defaults to
            `OneTransBlock(num_heads=4, feed_forward=PerTokenFFN(ratio=5.6))`.
        **kwargs: `readout`, `tower`, `history_lengths`, `output_activation`,
            `default_recipe`, `dtype` and `name` of `RankingModel`.

    Input shape:
        dict of encoded columns: request columns `(num_requests,)`, histories
        `(num_requests, num_events)`, candidate columns
        `(num_requests, num_candidates)`.

    Output shape:
        dict of `(num_requests, num_candidates)` float32 by label.

    Example:
    ```python
    model = keras_unirec.applications.OneTrans(schema, num_tokens=8, dim=64)
    ```

    Reference: [OneTrans, 2025](https://arxiv.org/abs/2510.26104)
    """

    def __init__(
        self,
        schema,
        num_tokens=12,
        dim=256,
        num_layers=6,
        pyramid=32,
        tokenizer="projected",
        events=layers.Events(position="newest_first", use_bias=True),
        block=layers.OneTransBlock(feed_forward=layers.PerTokenFFN(ratio=5.6)),
        **kwargs,
    ):
        super().__init__(schema, **kwargs)
        check_positive_integers(
            num_tokens=num_tokens, dim=dim, num_layers=num_layers
        )
        check_positive_integers(optional=True, pyramid=pyramid)
        self.pyramid = 0 if pyramid is None else pyramid  # What weights mean.
        self.events = self.part("events", events, dim=dim, join="concatenate")
        self.tokenizer = self.part(
            "tokenizer",
            tokenizer,
            sizes={"num_tokens": num_tokens, "dim": dim},
        )
        longest = sum(sequence.max_length for sequence in schema.sequences)
        longest = min(longest, self.events.max_length or longest)
        self.blocks = [
            self.part(
                "block",
                block,
                f"block_{i}",
                sizes={"num_tokens": num_tokens},
                num_queries=queries,
            )
            for i, queries in enumerate(schedule(longest, num_layers, pyramid))
        ]

    def request(self, context, histories):
        history = self.events.project_to_one(histories)
        events, mask, state = history.events, history.mask, []
        for block in self.blocks:
            events, mask, kept = block.request(events, mask)
            state.append(kept)
        return {"context": context, "layers": state}

    def candidates(self, items, state):
        features = self.beside(state["context"], items)
        tokens = self.tokenizer.tokens(features)  # (R, C, N, D)
        for block, kept in zip(self.blocks, state["layers"]):
            tokens = block.candidates(tokens, kept)
        return tokens


def schedule(longest, num_layers, multiple):
    """How many events each layer passes on; None is all.

    Args:
        longest: int. The most events that there can be.
        num_layers: int.
        multiple: int or None, to whose multiples the numbers are rounded up.
            Without it every layer but the last passes all events on.

    Returns:
        List of ints or None, the last one 0.
    """
    if multiple is None:
        return [None] * (num_layers - 1) + [0]
    left = [
        longest * (num_layers - i) // num_layers
        for i in range(1, num_layers + 1)
    ]
    return [min(-(-n // multiple) * multiple, longest) for n in left]


@register_model
def onetrans_tiny(schema, **parts):
    """8 feature tokens of width 32, 2 layers: trains on a laptop CPU."""
    network = layers.PerTokenFFN(ratio=2)
    sizes = {
        "num_tokens": 8,
        "dim": 32,
        "num_layers": 2,
        "pyramid": 8,
        "block": layers.OneTransBlock(num_heads=2, feed_forward=network),
    }
    return OneTrans(schema, **{**sizes, **parts})
