"""Embedded columns and histories of a small batch, for tests of readers."""

import numpy as np

from keras_unirec import layers
from tests.small_log import small_batch
from tests.small_log import small_schema

R, C = 4, 3


class Requests:
    """A batch of R requests of C candidates.

    Attributes:
        schema: Of two histories, `"watched"` and `"liked"`.
        batch: dict of arrays; request 0 has no event, request 1 has liked none.
        context, items, histories: What a model gets.
    """

    def __init__(self, dtype="float32"):
        self.schema = small_schema()
        self.batch, *_ = small_batch(self.schema, R, C)
        self.batch["liked.length"][1] = 0
        self._embed = layers.FeatureEmbedding(self.schema, dtype)
        self.context = self._embed.context(self.batch)
        self.items = self._embed.items(self.batch)
        self.histories = self.histories_of(self.batch)

    def histories_of(self, batch):
        return self._embed.histories(batch)

    def padded(self, length):
        """The histories with more padding, of random content."""
        rng = np.random.default_rng(1)
        batch = dict(self.batch)
        for feature in self.schema.encoded:
            if feature.sequence is None or None not in feature.shape:
                continue
            values = batch[feature.key]
            more = rng.choice(values.ravel(), (len(values), length))
            batch[feature.key] = np.concatenate([values, more], axis=1)
        return self.histories_of(batch)
