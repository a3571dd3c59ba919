"""Encoded requests: flat arrays and offsets."""

import dataclasses

import numpy as np

from keras_unirec.schema import reading


@dataclasses.dataclass(frozen=True)
class Events:
    """The encoded events of a history: flat values and offsets."""

    offsets: np.ndarray
    values: dict

    @property
    def lengths(self):
        return np.diff(self.offsets)

    def take(self, rows):
        index, lengths = reading.positions(self.offsets, rows)
        values = {key: value[index] for key, value in self.values.items()}
        return Events(reading.to_offsets(lengths), values)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Encoded requests.

    `user` holds an array per request by encoded key, `item` and `labels` one
    per candidate; the candidates of request `r` are `offsets[r:r + 2]`.
    """

    user: dict
    sequences: dict
    item: dict
    labels: dict
    offsets: np.ndarray

    def __len__(self):
        return len(self.offsets) - 1

    def take(self, requests):
        candidates, sizes = reading.positions(self.offsets, requests)
        return Chunk(
            {key: value[requests] for key, value in self.user.items()},
            {name: e.take(requests) for name, e in self.sequences.items()},
            {key: value[candidates] for key, value in self.item.items()},
            {key: value[candidates] for key, value in self.labels.items()},
            reading.to_offsets(sizes),
        )


def concatenate(chunks):
    """Joins chunks, in order."""
    if len(chunks) == 1:
        return chunks[0]

    def join(dicts):
        return {
            key: np.concatenate([one[key] for one in dicts]) for key in dicts[0]
        }

    def join_offsets(parts):
        return reading.to_offsets(np.concatenate([np.diff(p) for p in parts]))

    sequences = {}
    for name in chunks[0].sequences:
        parts = [chunk.sequences[name] for chunk in chunks]
        sequences[name] = Events(
            join_offsets([part.offsets for part in parts]),
            join([part.values for part in parts]),
        )
    return Chunk(
        join([chunk.user for chunk in chunks]),
        sequences,
        join([chunk.item for chunk in chunks]),
        join([chunk.labels for chunk in chunks]),
        join_offsets([chunk.offsets for chunk in chunks]),
    )
