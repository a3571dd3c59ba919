"""A history of events."""

import dataclasses

from keras_unirec.schema._arguments import check_name
from keras_unirec.schema._arguments import check_positive
from keras_unirec.schema._arguments import set_features
from keras_unirec.schema._config import Config
from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.numerical import Numerical
from keras_unirec.schema.timestamp import Timestamp


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sequence(Config):
    """A history: list columns of equal lengths, one entry an event.

    The lists run from the oldest to the newest event, and the most recent
    `max_length` events count.

    Args:
        name: string. Name of the history.
        max_length: int. The number of events to keep.
        features: list of `Categorical`, `Numerical` and `Timestamp`. A
            categorical with its own `max_length` is a list of lists.
        sort_by: string. A timestamp among `features` by which the events are
            sorted. Defaults to `None`, the order of the lists.
    """

    name: str
    max_length: int
    features: tuple
    sort_by: str | None = None

    def __post_init__(self):
        check_name(self.name, "name")
        check_positive(self, "max_length", required=True)
        set_features(self, "features", (Categorical, Numerical, Timestamp))
        if not self.features:
            raise ValueError(
                f"`features` of `Sequence({self.name!r})` must name at least "
                "one list column. Received: features=()"
            )
        times = [f.name for f in self.features if isinstance(f, Timestamp)]
        if self.sort_by is not None and self.sort_by not in times:
            raise ValueError(
                f"`sort_by` of `Sequence({self.name!r})` must name one of its "
                f"`Timestamp` features, {times}. Received: {self.sort_by!r}"
            )
