"""A column of numbers."""

import dataclasses

from keras_unirec.schema._arguments import check_name
from keras_unirec.schema._arguments import check_number
from keras_unirec.schema._arguments import check_positive
from keras_unirec.schema._config import Config
from keras_unirec.schema._feature import Feature


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Numerical(Feature, Config):
    """A column of numbers, normalized to `(x - mean) / std`.

    Args:
        name: string. The column.
        embedding_dim: int. The width the model gives it. Defaults to `None`,
            one number.
        mean: float. Learned.
        std: float. Learned; 1 for a constant column.
    """

    name: str
    embedding_dim: int | None = None
    mean: float | None = None
    std: float | None = None

    def __post_init__(self):
        check_name(self.name, "name")
        check_positive(self, "embedding_dim")
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                f"`mean` and `std` of `Numerical({self.name!r})` must be given "
                f"together. Received: mean={self.mean}, std={self.std}"
            )
        if self.mean is not None:
            check_number(self, "mean")
            check_number(self, "std")
            if self.std <= 0:
                raise ValueError(
                    f"`std` of `Numerical({self.name!r})` must be positive. "
                    f"Received: std={self.std}"
                )

    @property
    def unlearned(self):
        return "mean and std" if self.mean is None else None
