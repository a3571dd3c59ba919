"""What the two methods of a model get: columns and histories, embedded."""

import dataclasses

from keras import ops


def concatenate(tensors):
    """Concatenates along the last axis; one tensor stays as it is."""
    tensors = list(tensors)
    return tensors[0] if len(tensors) == 1 else ops.concatenate(tensors, -1)


@dataclasses.dataclass(frozen=True)
class Column:
    """One embedded column.

    Attributes:
        key: str. As the encoded input, or what a model calls what it made.
        side: str. `"user"`, `"context"`, `"item"`, or `"sequence"` for what is
            made of a history.
        kind: str. `"id"`, `"number"`, `"count"`, or `"vector"`.
        width: int. Width of the embedding.
        source: Function that returns the embedding.
    """

    key: str
    side: str
    kind: str
    width: int
    source: object

    @property
    def embedding(self):
        """Tensor `(R, width)`, or `(R, C, width)` for candidates."""
        return self.source()


def column(key, side, kind, embedding):
    """A `Column` whose embedding is a tensor."""
    return Column(key, side, kind, embedding.shape[-1], lambda: embedding)


class Columns:
    """Embedded columns, in the order of the schema.

    Args:
        columns: Iterable of `Column`.
        aligned: Function that `aligned` calls, or None.
        tensor: The concatenation, where it exists. Defaults to `None`.
    """

    def __init__(self, columns, aligned=None, tensor=None):
        self.columns = tuple(columns)
        self._aligned = aligned
        self._tensor = tensor

    def __iter__(self):
        return iter(self.columns)

    def __len__(self):
        return len(self.columns)

    @property
    def widths(self):
        """dict. Width of each embedding, by key."""
        return {column.key: column.width for column in self.columns}

    @property
    def width(self):
        """int. Width of all embeddings together."""
        return sum(self.widths.values())

    @property
    def tensor(self):
        """Tensor `(R, width)` or `(R, C, width)`: all embeddings, joined."""
        if self._tensor is None:
            self._tensor = concatenate(c.embedding for c in self.columns)
        return self._tensor

    def aligned(self, name):
        """The candidates as the events of a history are written.

        Args:
            name: str. Name of the history.

        Returns:
            Tensor `(R, C, E)`, as wide as the events of the history and in the
            order of their columns; zeros in those that only events have.
        """
        if self._aligned is None:
            raise ValueError(
                "Only the columns of items can be aligned with the events of a "
                f"history. Received: name={name!r}"
            )
        return self._aligned(name)

    def joined(self, *more):
        """These columns and others, which stand behind them.

        Args:
            *more: `Column`s of the same leading axes.

        Raises:
            ValueError: If two columns have the same key.
        """
        columns = (*self.columns, *more)
        keys = [column.key for column in columns]
        taken = sorted({key for key in keys if keys.count(key) > 1})
        if taken:
            raise ValueError(
                "What a model makes of a history is a feature like a column; "
                f"rename the column of that name. Received: columns {taken}"
            )
        tensor = self._tensor
        if tensor is not None and more:
            tensor = concatenate([tensor, *(c.embedding for c in more)])
        return Columns(columns, self._aligned, tensor)

    def beside(self, items, layer):
        """The columns of a request beside those of its candidates.

        Args:
            items: `Columns` of the candidates.
            layer: `BesideCandidates`, which repeats the request.

        Returns:
            `Columns` `(R, C, width)`: those of the request, then `items`.
        """
        if not self.columns:
            return items
        tensor = layer(self.tensor, items.tensor)
        return cut(tensor, (*self.columns, *items), items._aligned)

    def for_candidates(self):
        """These columns with an axis of one candidate: `(R, 1, width)`."""
        return cut(ops.expand_dims(self.tensor, axis=1), self.columns)

    def in_order(self, keys):
        """Tensor of the columns in another order.

        Args:
            keys: The key of each column, once.
        """
        if list(keys) == list(self.widths):
            return self.tensor
        start, ranges = 0, {}
        for key, width in self.widths.items():
            ranges[key] = range(start, start + width)
            start += width
        index = [i for key in keys for i in ranges[key]]
        return ops.take(self.tensor, index, axis=-1)


def cut(tensor, columns, aligned=None):
    """The columns again, as slices of their concatenation.

    Args:
        tensor: Tensor `(..., sum of the widths)`.
        columns: `Column`s.
        aligned: As in `Columns`.
    """

    def piece(column, start):
        stop = start + column.width
        source = lambda: tensor[..., start:stop]  # noqa: E731
        return dataclasses.replace(column, source=source)

    pieces, start = [], 0
    for each in columns:
        pieces.append(piece(each, start))
        start += each.width
    return Columns(pieces, aligned, tensor)


@dataclasses.dataclass(frozen=True)
class History:
    """One history, as the method `request` of a model gets it.

    Attributes:
        name: str. Name of the `Sequence`; part of the names of layers.
        events: Tensor `(R, T, E)`: the embedded columns of each event.
        mask: Bool tensor `(R, T)`, true on real events.
        gaps: None, or integer tensor `(R, T)`: seconds from the event to the
            request, negative where missing.
        ids: dict of integer tensors `(R, T)` (or `(R, T, values)`) by column.
        max_length: int. The most events that the history can have.
    """

    name: str
    events: object
    mask: object
    gaps: object
    ids: dict
    max_length: int
