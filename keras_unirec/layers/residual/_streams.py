"""What the steps of a residual scheme hand on."""

from typing import NamedTuple


class Streams(NamedTuple):
    """What goes from one step of a residual scheme to the next.

    Attributes:
        tensors: tuple. The residual streams.
        depth: int. Number of steps so far.
    """

    tensors: tuple
    depth: int
