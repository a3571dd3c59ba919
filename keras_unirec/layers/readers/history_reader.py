import keras

from keras_unirec.layers import _parts
from keras_unirec.layers.tokens.beside_candidates import BesideCandidates


class HistoryReader(_parts.Composite):
    """Reads the histories, for a model that then crosses features.

    A subclass writes `request`, and `columns` or `read_tokens`, by what becomes
    of a history: a feature that is cut into tokens with the others, or tokens
    of their own. A model calls the methods; the layer itself is not called.
    """

    needs_histories = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._beside = BesideCandidates(
            dtype=self.dtype_policy, name="beside_candidates"
        )

    def check_schema(self, schema):
        """Raises unless the schema has the histories that are read."""
        if self.needs_histories and not schema.sequences:
            raise ValueError(
                "The schema needs at least one `Sequence`: "
                f"`{type(self).__name__}` reads histories. Received: none"
            )

    def num_features(self, schema, num_tokens):
        """The number of feature tokens beside those of `read_tokens`.

        Args:
            schema: `Schema`.
            num_tokens: int. All tokens together.

        Raises:
            ValueError: If there is no history to read, or no token left.
        """
        self.check_schema(schema)
        return num_tokens

    def request(self, context, histories):
        """What depends on the request alone.

        Args:
            context: `Columns` of the request.
            histories: dict of `History` by name.

        Returns:
            Nested dict of the state, `"context"` among it.
        """
        raise NotImplementedError

    def columns(self, items, state):
        """All features of a candidate: context, items, what was read."""
        return state["context"].beside(items, self._beside)

    def read_tokens(self, features, items, state):
        """List of tokens `(R, C, n, D)`, beside the feature tokens."""
        return []

    def read_vectors(self, items, state):
        """List of vectors `(R, C, width)`: tokens for a model without any."""
        read = self.read_tokens(None, items, state)
        return [
            keras.layers.Reshape(
                (-1, x.shape[-2] * x.shape[-1]), dtype=self.dtype_policy
            )(x)
            for x in read
        ]


def make_each(argument, part, known, *args, **kwargs):
    """`_parts.make`, for a part or for a dict of parts by history."""
    if not isinstance(part, dict):
        return _parts.make(argument, part, known, *args, **kwargs)
    return {
        name: _parts.make(argument, each, known, *args, **kwargs)
        for name, each in part.items()
    }
