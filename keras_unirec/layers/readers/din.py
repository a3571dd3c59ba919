import keras

from keras_unirec.layers import _parts
from keras_unirec.layers.embedding._columns import column
from keras_unirec.layers.embedding.feature_embedding import layer_name
from keras_unirec.layers.history.events import by_history
from keras_unirec.layers.readers.history_reader import HistoryReader
from keras_unirec.layers.readers.history_reader import make_each
from keras_unirec.layers.readers.local_activation import LocalActivation


@keras.saving.register_keras_serializable(package="keras_unirec")
class DIN(HistoryReader):
    """The candidate weighs the events of every history with a network.

    `LocalActivation` with the candidate, embedded in the columns that events
    have (zeros in those that only events have), as the target. What was read
    is a column of the candidate, `"<history>.read"`, as wide as an event. It
    is computed anew for every candidate, in chunks.

    Args:
        activation: `LocalActivation`, or dict of them by history. Defaults to
            `None`: `LocalActivation()`.

    Example:
    ```python
    reader = keras_unirec.layers.DIN()
    keras_unirec.applications.RankMixer(schema, history_reader=reader)
    ```

    Reference: [DIN, 2018](https://arxiv.org/abs/1706.06978)
    """

    parts = ("activation",)

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        if activation is None:
            activation = "local_activation"
        self.activation = make_each(
            "activation",
            activation,
            {"local_activation": LocalActivation},
            self.dtype_policy,
            shared=False,
            needs=("chunk_size",),
        )
        self._activations = {}

    def request(self, context, histories):
        activations = by_history("activation", self.activation, histories)
        for name, prototype in activations.items():
            self._activations[name] = _parts.copy(
                "activation",
                prototype,
                self.dtype_policy,
                f"local_activation_{layer_name(name)}",
            )
        return {
            "context": context,
            "histories": {
                name: {"events": history.events, "mask": history.mask}
                for name, history in histories.items()
            },
        }

    def columns(self, items, state):
        read = []
        for name, kept in state["histories"].items():
            x = self._activations[name](
                items.aligned(name), kept["events"], mask=kept["mask"]
            )
            read.append(column(f"{name}.read", "sequence", "vector", x))
        return super().columns(items, state).joined(*read)
