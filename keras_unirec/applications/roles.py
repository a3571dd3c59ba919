"""The parts that a model is a choice of, by the argument that takes them."""

import dataclasses

from keras_unirec import layers
from keras_unirec.layers import _parts
from keras_unirec.layers.feed_forward._by_name import FEED_FORWARDS
from keras_unirec.layers.heads._by_name import READOUTS
from keras_unirec.layers.heads._by_name import TOWERS
from keras_unirec.layers.history._by_name import ENCODERS
from keras_unirec.layers.interaction._by_name import BLOCKS
from keras_unirec.layers.interaction._by_name import INTERACTIONS
from keras_unirec.layers.mixing._by_name import MIXERS
from keras_unirec.layers.readers._by_name import HISTORY_READERS
from keras_unirec.layers.readers._by_name import READERS
from keras_unirec.layers.residual._by_name import RESIDUALS
from keras_unirec.layers.tokens._by_name import QUERIES
from keras_unirec.layers.tokens._by_name import TOKENIZERS


@dataclasses.dataclass(frozen=True)
class Role:
    """What an argument of a model may be.

    Attributes:
        known: dict from names to functions that make a layer.
        optional: bool. Whether None is legal: no such part.
        needs: Names of the methods that a model calls, beside a plain call.
    """

    known: dict
    optional: bool = False
    needs: tuple = ()

    def make(self, argument, part, dtype=None):
        """The prototype for a name, or what is given; a dict by history."""
        if isinstance(part, dict):
            return {k: self.make(argument, v, dtype) for k, v in part.items()}
        return _parts.make(
            argument,
            part,
            self.known,
            dtype,
            self.optional,
            needs=self.needs,
        )

    def all(self):
        """A layer for each name."""
        return [make(name=name) for name, make in self.known.items()]


ROLES = {
    "block": Role(BLOCKS, needs=("request", "candidates")),
    "encoder": Role(ENCODERS, optional=True),
    "events": Role({"events": layers.Events}, needs=("project", "widths")),
    "feed_forward": Role(FEED_FORWARDS, optional=True),
    "fusion": Role(FEED_FORWARDS),
    "history_reader": Role(
        HISTORY_READERS,
        needs=("request", "columns", "read_tokens", "num_features"),
    ),
    "interaction": Role(INTERACTIONS),
    "mixer": Role(MIXERS, optional=True),
    "queries": Role(QUERIES),
    "reader": Role(READERS, needs=("request", "candidates")),
    "readout": Role(READOUTS),
    "residual": Role(RESIDUALS, needs=("start", "step", "finish")),
    "tokenizer": Role(TOKENIZERS, needs=("tokens",)),
    "tower": Role(TOWERS, needs=("outputs",)),
}
