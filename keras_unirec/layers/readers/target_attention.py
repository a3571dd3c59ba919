import keras
from keras import ops

from keras_unirec.layers import _parts
from keras_unirec.layers.embedding._columns import column
from keras_unirec.layers.embedding.feature_embedding import layer_name
from keras_unirec.layers.history.events import by_history
from keras_unirec.layers.readers.history_reader import HistoryReader
from keras_unirec.layers.readers.history_reader import make_each
from keras_unirec.layers.readers.query_decoding import QueryDecoding


@keras.saving.register_keras_serializable(package="keras_unirec")
class TargetAttention(HistoryReader):
    """The candidate reads every history once, with multi-head attention.

    `v = Attention(t W_Q, S W_K, S W_V) W_O` for each history: the query is the
    candidate `t`, embedded in the columns that events have (zeros in those
    that only events have), keys and values are the events `S`. No layers, no
    feed-forward: the "TA" that papers compare with. An empty history reads
    zeros; one that shares no column with the items is read evenly. What was
    read is a column of the candidate, `"<history>.read"`, as wide as an event.

    Args:
        reader: `QueryDecoding`, or dict of them by history; without residual
            where it leaves that open. Defaults to `None`: 4 heads of width 16.

    Example:
    ```python
    reader = keras_unirec.layers.TargetAttention()
    keras_unirec.applications.RankMixer(schema, history_reader=reader)
    ```

    Reference: [MixFormer, 2026](https://arxiv.org/abs/2602.14110), Table 1;
    [DIN, 2018](https://arxiv.org/abs/1706.06978), whose weights are not
    normalized (`QueryDecoding(attention="sigmoid")` is nearer to it).
    """

    parts = ("reader",)

    def __init__(self, reader=None, **kwargs):
        super().__init__(**kwargs)
        if reader is None:
            reader = QueryDecoding(head_dim=16, dtype=self.dtype_policy)
        self.reader = make_each(
            "reader",
            reader,
            {"query_decoding": QueryDecoding},
            self.dtype_policy,
            shared=False,
            needs=("request", "candidates"),
        )
        self.made = {"reader": {}}

    def request(self, context, histories):
        state = {"context": context, "histories": {}}
        for name, prototype in by_history(
            "reader", self.reader, histories
        ).items():
            history = histories[name]
            reader = _parts.copy(
                "reader",
                prototype,
                self.dtype_policy,
                f"target_attention_{layer_name(name)}",
                residual="none",
            )
            self.made["reader"][name] = [reader]
            shape = (None, None, 1, history.events.shape[-1])
            state["histories"][name] = {
                "events": reader.request(history.events, shape),
                "mask": history.mask,
            }
        return state

    def columns(self, items, state):
        read = []
        for name, kept in state["histories"].items():
            query = ops.expand_dims(items.aligned(name), axis=2)
            (reader,) = self.made["reader"][name]
            x = reader.candidates(query, kept["events"], mask=kept["mask"])
            x = ops.squeeze(x, axis=2)
            read.append(column(f"{name}.read", "sequence", "vector", x))
        return super().columns(items, state).joined(*read)
