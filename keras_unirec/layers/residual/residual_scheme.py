import keras
from keras import ops

from keras_unirec.layers.residual._streams import Streams

NORMS = {
    "rms": keras.layers.RMSNormalization,
    "layer": keras.layers.LayerNormalization,
}


class ResidualScheme(keras.layers.Layer):
    """How sublayers are joined: residual connections and normalizations.

    `start` makes the streams of the tokens, `step` runs one sublayer on what
    it reads of the streams and adds what it returns, `finish` makes the tokens
    again. A model or a layer calls the three as methods; the scheme itself is
    not called. It holds the normalizations, one or more for each name of a
    step: two passes with the same names share them.

    A subclass writes `read` and `write`, and lists the normalizations of a
    step in `step_norms`, those of the end in `final_norms`. Their kind is
    `norm`, one of `NORMS`.
    """

    num_streams = 1
    norm = "rms"
    step_norms = ()
    final_norms = ()

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norms = {}

    def start(self, inputs):
        """The streams of the tokens, before the first step."""
        inputs = _cast(inputs, self.compute_dtype)
        return Streams((inputs,) * self.num_streams, 0)

    def step(self, streams, sublayer, name=None):
        """Runs one sublayer.

        Args:
            streams: What `start` or `step` returned.
            sublayer: Layer or function that keeps the shape of the tokens.
            name: str. What names the normalizations of this step. Defaults to
                `None`: the name of the sublayer.

        Returns:
            The next streams.

        Raises:
            ValueError: If neither says the name.
        """
        name = name or getattr(sublayer, "name", None)
        if name is None:
            raise ValueError(
                "`name` must be given where the sublayer is a function. "
                "Received: name=None"
            )
        update = sublayer(self.read(streams, name))
        # A sublayer may have a dtype policy of its own.
        update = _cast(update, streams.tensors[0].dtype)
        _check_shape(update, streams.tensors[0], sublayer)
        return Streams(self.write(streams, update, name), streams.depth + 1)

    def finish(self, streams):
        """The tokens, after the last step."""
        return streams.tensors[0]

    def apply(self, inputs, *sublayers, names):
        """`start`, a step for each sublayer, and `finish`."""
        streams = self.start(inputs)
        for sublayer, name in zip(sublayers, names, strict=True):
            streams = self.step(streams, sublayer, name)
        return self.finish(streams)

    def read(self, streams, name):
        """What the sublayer of this name reads."""
        return streams.tensors[0]

    def write(self, streams, update, name):
        """The tensors of the next streams."""
        return (streams.tensors[0] + update,)

    def build_steps(self, input_shape, names):
        """Builds all normalizations, for a layer that runs its own steps."""
        keys = [f"{name}_{key}" for name in names for key in self.step_norms]
        for key in (*keys, *self.final_norms):
            norm = self._norm_layer(key)
            if not norm.built:
                norm.build(input_shape)

    def normalize(self, inputs, name):
        return self._norm_layer(name)(inputs)

    def _norm_layer(self, name):
        if name not in self.norms:
            self.norms[name] = NORMS[self.norm](
                dtype=self.dtype_policy, name=name
            )
        return self.norms[name]

    def call(self, inputs):
        raise ValueError(
            "A residual scheme is not called: its `start`, `step` and `finish` "
            f"are. Received: a call of {type(self).__name__}"
        )


def _cast(x, dtype):
    dtype = keras.backend.standardize_dtype(dtype)
    if keras.backend.standardize_dtype(x.dtype) == dtype:
        return x  # No operation in the graph of a model.
    return ops.cast(x, dtype)


def _check_shape(update, tokens, sublayer):
    """What is added to the tokens has their shape: nothing broadcasts."""
    for mine, expected in zip(update.shape, tokens.shape, strict=True):
        if None not in (mine, expected) and mine != expected:
            raise ValueError(
                "A sublayer must keep the shape of the tokens, "
                f"{tuple(tokens.shape)}. Received: {sublayer}, which returns "
                f"{tuple(update.shape)}"
            )
