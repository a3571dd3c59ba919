"""A column of times."""

import dataclasses

from keras_unirec.schema import reading
from keras_unirec.schema._arguments import check_choice
from keras_unirec.schema._arguments import check_name
from keras_unirec.schema._arguments import check_positive
from keras_unirec.schema._config import Config
from keras_unirec.schema._feature import Feature


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Timestamp(Feature, Config):
    """A column of times: of the request, or of the events of a sequence.

    In a sequence the model sees the time from the event to the request, in
    whole seconds, bucketed by `GAP_BOUNDARIES`.

    Args:
        name: string. The column.
        unit: string. `"s"`, `"ms"`, `"us"` or `"ns"` of a column of integers.
            `None` only for columns of datetimes, where `adapt` learns it.
        embedding_dim: int. Width of the embedding of the bucketed gap.
    """

    name: str
    unit: str | None = None
    embedding_dim: int = 8

    def __post_init__(self):
        check_name(self.name, "name")
        check_choice(self, "unit", (None, *reading.UNITS_PER_SECOND))
        check_positive(self, "embedding_dim", required=True)

    @property
    def unlearned(self):
        return "unit" if self.unit is None else None
