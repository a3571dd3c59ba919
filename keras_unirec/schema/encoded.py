"""What the model sees: its inputs, and the tables that embed them."""

import dataclasses

import numpy as np

from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.numerical import Numerical
from keras_unirec.schema.timestamp import Timestamp


def _gap_boundaries():
    boundaries = []
    for half_octave in range(2, 61):
        seconds = int(np.float32(round(2 ** (half_octave / 2)) - 1))
        boundaries.append(seconds)
    return tuple(boundaries)


# Half octaves of 1 + seconds, up to 34 years: the model looks a time gap up in
# them. They are integers that float32 holds exactly, so every backend and
# precision puts a gap into the same bucket.
GAP_BOUNDARIES = _gap_boundaries()


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One encoded input of a model.

    Args:
        key: string. Its key in the batch.
        kind: string. `"id"`, `"number"`, `"gap"` (seconds), `"length"` (events
            kept) or `"count"` (log of all events).
        side: string. The half of the model that reads it: `"user"` (which
            includes context and sequences) or `"item"`.
        group: string. `"user"`, `"context"`, `"item"` or `"sequence"`.
        embedding: string. Its embedding table, for ids and gaps.
        multi: int. Values per entry of a multi-valued input, else `None`.
        pooling: string. How those are merged, else `None`.
        sequence: string. The history it belongs to, else `None`.
        feature: string. The feature it comes from: `f` for `c.f`; `None` for
            lengths and counts.
    """

    key: str
    kind: str
    side: str
    group: str
    embedding: str | None = None
    multi: int | None = None
    pooling: str | None = None
    sequence: str | None = None
    feature: str | None = None

    @property
    def dtype(self):
        return "float32" if self.kind in ("number", "count") else "int32"

    @property
    def shape(self):
        """Static shape without the batch axis."""
        per_request = self.kind in ("length", "count")
        events = self.sequence is not None and not per_request
        shape = (None,) if events or self.side == "item" else ()
        return shape + ((self.multi,) if self.multi else ())


@dataclasses.dataclass(frozen=True)
class EmbeddingSpec:
    """An embedding table: its name, and its numbers of rows and columns."""

    name: str
    rows: int
    dim: int


def encoded_inputs(schema):
    """Returns the inputs of a model of the schema, as a tuple of `Encoded`."""
    encoded = []
    for side in ("user", "context"):
        for feature in getattr(schema, side):
            encoded += _encoded(schema, feature, "user", side)
    for sequence in schema.sequences:
        for kind in ("length", "count"):
            key = f"{sequence.name}.{kind}"
            encoded.append(
                Encoded(key, kind, "user", "sequence", sequence=sequence.name)
            )
    for feature in schema.item:
        encoded += _encoded(schema, feature, "item", "item")
    for sequence in schema.sequences:
        for feature in sequence.features:
            encoded += _encoded(
                schema, feature, "user", "sequence", sequence.name
            )
    return tuple(encoded)


def _encoded(schema, feature, side, group, sequence=None, carrier=None):
    """A feature, followed by the features of the table that it carries."""
    if isinstance(feature, Numerical):
        kind, embedding = "number", None
    elif isinstance(feature, Timestamp):
        kind, embedding = "gap", feature.name
    elif isinstance(feature, Categorical):
        kind, embedding = "id", feature.share_with or feature.name
    multi = feature.max_length
    encoded = [
        Encoded(
            f"{carrier}.{feature.name}" if carrier else feature.name,
            kind,
            side,
            group,
            embedding,
            multi,
            feature.pooling if multi else None,
            sequence,
            feature.name,
        )
    ]
    table = schema.table(feature) if carrier is None else None
    for joined in table.features if table is not None else ():
        encoded += _encoded(
            schema, joined, side, group, sequence, carrier=feature.name
        )
    return encoded


def embedding_specs(schema):
    """Returns the embedding tables of the schema by name."""
    specs = {}
    for encoded in schema.encoded:
        name = encoded.embedding
        if name is None or name in specs:
            continue
        feature = schema.feature(name)
        if encoded.kind == "gap":
            rows, dim = len(GAP_BOUNDARIES) + 3, feature.embedding_dim
        else:
            if feature.num_values is None:
                schema.require_adapted()
            rows = feature.num_values + 2
            dim = feature.embedding_dim
            dim = dim or default_embedding_dim(feature.num_values)
        specs[name] = EmbeddingSpec(name, rows, dim)
    return specs


def default_embedding_dim(num_values):
    """The multiple of 4 nearest to `2 * num_values ** (1 / 3)`, 4 to 64."""
    return int(min(64, max(4, 4 * round(num_values ** (1 / 3) / 2))))
