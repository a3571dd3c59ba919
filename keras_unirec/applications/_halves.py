"""The two halves of a ranking model: traced, run and checked."""

import dataclasses

import keras
from keras import ops

from keras_unirec import layers
from keras_unirec.applications._state import State
from keras_unirec.layers import _parts


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What `candidates` may return in place of a tensor.

    Attributes:
        tokens: Tensor `(R, C, N, D)`, read out by the `readout`, or a vector
            `(R, C, width)`.
        request_tokens: None, or tensor `(R, M, D)`: tokens of the request that
            the readout counts for each candidate.
        auxiliary: Tuple of pairs of a tensor like `tokens` and the weight of
            its loss. They have towers of their own and are there in training
            alone.
    """

    tokens: object
    request_tokens: object = None
    auxiliary: tuple = ()


class Halves:
    """What depends on the request, what on the candidate, and both.

    A mixin of a `keras.Model` with a `schema`, an embedding stage, the two
    methods of a family, and the parts that read its tokens out.
    """

    def _connect(self):
        """Traces the two methods into the halves."""
        user_inputs, item_inputs = self.schema.inputs()
        embed = self._embedding
        taken = [key for key in item_inputs if key.startswith("state_")]
        if taken:
            raise ValueError(
                'Columns whose names begin with "state_" would clash with the '
                f"state of the user half; rename them. Received: {taken}"
            )
        state = State(
            self.request(
                embed.context(user_inputs, self._history_lengths),
                embed.histories(user_inputs),
            )
        )
        self.user_model = keras.Model(
            user_inputs, state.tensors, name="user_model"
        )
        self.state_lengths = state.lengths
        state_inputs = state.inputs()
        inputs = {**state_inputs, **item_inputs}
        outputs = self.candidates(
            embed.items(item_inputs), state.nested(state_inputs)
        )
        if not isinstance(outputs, Outputs):
            outputs = Outputs(outputs)
        logits = self._read_out(outputs.tokens, outputs.request_tokens)
        self.item_model = keras.Model(inputs, logits, name="item_model")
        self._training_model = None
        if outputs.auxiliary:
            self.auxiliary_weights = tuple(w for _, w in outputs.auxiliary)
            auxiliary = {
                f"auxiliary_{i}": self._read_out(
                    tokens, outputs.request_tokens, f"auxiliary_{i}_"
                )
                for i, (tokens, _) in enumerate(outputs.auxiliary)
            }
            self._training_model = keras.Model(
                inputs, {**logits, **auxiliary}, name="training_model"
            )
        self._user_keys = tuple(user_inputs)
        self._item_keys = tuple(item_inputs)
        self.build()

    def _read_out(self, tokens, context, prefix=""):
        """Outputs by label of the tokens, or the vector, of a candidate."""
        if not isinstance(tokens, keras.KerasTensor):
            raise ValueError(
                "`candidates` must return a tensor that is made of its "
                f"arguments, or `Outputs`. Received: {type(tokens).__name__}"
            )
        if len(tokens.shape) == 4:
            more = {} if context is None else {"context": context}
            x = self._readout(tokens, **more)
        elif not isinstance(self._readout, layers.MeanReadout):
            raise ValueError(
                f"`readout` reads tokens, and `{type(self).__name__}` returns "
                "one vector for each candidate. Received: "
                f"readout={_parts.written(self._readout)}"
            )
        else:
            x = tokens
        if len(x.shape) != 3 or tuple(x.shape[:2]) != (None, None):
            raise ValueError(
                "Of each candidate one vector is read out, (R, C, width): "
                "`candidates` returns tokens (R, C, N, D) or a vector, the "
                "`readout` and the `interaction` keep both first axes. "
                f"Received: {tuple(tokens.shape)}, read out as "
                f"{tuple(x.shape)}"
            )
        return self._tower.outputs(
            x,
            self.schema.label_names,
            tokens.shape[-1],
            self.output_activation,
            prefix,
        )

    def build(self, input_shape=None):
        pass  # The halves are built; this only marks the composition so.

    def call(self, inputs, training=None):
        inputs = self.known_inputs(inputs)
        state = self.user_model(
            {key: inputs[key] for key in self._user_keys}, training=training
        )
        items = {key: inputs[key] for key in self._item_keys}
        score = self.item_model
        if training and self._training_model is not None:
            score = self._training_model
        return score({**state, **items}, training=training)

    def encode_user(self, inputs):
        """Computes what depends on the request alone.

        Args:
            inputs: dict of encoded user inputs (arrays or tensors, first
                axis R). Other keys are ignored.

        Returns:
            dict of named state tensors, first axis R.

        Raises:
            ValueError: If a user input is missing.
        """
        return self.user_model(self._pick(inputs, self._user_keys))

    def score_items(self, state, inputs):
        """Scores the candidates of each request against its state.

        Args:
            state: What `encode_user` returned, with one row per request.
            inputs: dict of encoded item inputs of shape `(R, C, ...)`.

        Returns:
            dict of float32 `(R, C)` outputs by label.

        Raises:
            ValueError: If an item input or state tensor is missing, or their
                numbers of requests differ.
        """
        items = self._pick(inputs, self._item_keys)
        expected = list(self.user_model.output)
        if not isinstance(state, dict):
            raise ValueError(
                "`state` must be the dict that `encode_user` returned. "
                f"Received: {type(state).__name__}"
            )
        missing = [key for key in expected if key not in state]
        if missing:
            raise ValueError(
                f"The state lacks {missing}. It is what `encode_user` of this "
                "model returns; another `kv_mode` has another state. "
                f"Received: {sorted(state)}"
            )
        state = self._pick(state, expected)
        rows = {x.shape[0] for x in (*state.values(), *items.values())}
        rows.discard(None)  # Inside a traced function.
        if len(rows) > 1:
            raise ValueError(
                "State and items must have the same number of requests: row "
                "r of the items is scored against row r of the state. "
                f"Received: numbers of requests {sorted(rows)}"
            )
        for axes in self.state_lengths:
            _check_sizes("events", {k: state[k] for k in axes}, axes)
        return self.item_model({**state, **items})

    def known_inputs(self, inputs):
        """Keeps the columns that the model reads; names what is missing."""
        return self._pick(inputs, self._user_keys + self._item_keys)

    def _pick(self, inputs, keys):
        if not isinstance(inputs, dict):
            raise ValueError(
                "The inputs of a ranking model are a dict of encoded columns, "
                "as `keras_unirec.data.from_pandas(df, schema)` yields them. "
                f"Received: {type(inputs).__name__}"
            )
        missing = [key for key in keys if key not in inputs]
        if missing:
            raise ValueError(
                f"Columns {missing} are missing from the inputs. The schema "
                f"expects {list(keys)}. Received: {sorted(inputs)}"
            )
        tensors = {key: ops.convert_to_tensor(inputs[key]) for key in keys}
        self._check_axes(tensors)
        return tensors

    def _check_axes(self, tensors):
        """What would broadcast, or fail without a name, is an error."""
        groups = {}
        for feature in self.schema.encoded:
            if feature.key not in tensors:
                continue
            groups.setdefault(("requests", 0), []).append(feature.key)
            if feature.side == "item":
                groups.setdefault(("candidates", 1), []).append(feature.key)
            elif len(feature.shape) and feature.shape[0] is None:
                what = f"events of `{feature.sequence}`"
                groups.setdefault((what, 1), []).append(feature.key)
        for (what, axis), keys in groups.items():
            _check_sizes(
                what,
                {key: tensors[key] for key in keys},
                dict.fromkeys(keys, axis),
            )


def _check_sizes(what, tensors, axes):
    """The static sizes of one axis of each tensor must be equal."""
    sizes = {}
    for name, tensor in tensors.items():
        if len(tensor.shape) <= axes[name]:
            raise ValueError(
                f"`{name}` must have an axis for the {what}. "
                f"Received: shape {tuple(tensor.shape)}"
            )
        if tensor.shape[axes[name]] is not None:
            sizes[name] = int(tensor.shape[axes[name]])
    if len(set(sizes.values())) > 1:
        common = max(sizes.values(), key=list(sizes.values()).count)
        other = {k: size for k, size in sizes.items() if size != common}
        raise ValueError(
            f"All inputs must have the same number of {what}, {common} in "
            f"most of them. Received: {other}"
        )
