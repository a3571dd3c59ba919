"""A column of targets."""

import dataclasses

from keras_unirec.schema._arguments import check_name
from keras_unirec.schema._config import Config


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Label(Config):
    """A column of targets in `[0, 1]`.

    Args:
        name: string. The column.
    """

    name: str

    def __post_init__(self):
        check_name(self.name, "name")
