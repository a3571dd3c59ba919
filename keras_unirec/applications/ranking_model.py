import dataclasses
import os

import keras
from keras import ops

from keras_unirec import layers
from keras_unirec import optimizers
from keras_unirec.applications import _construction
from keras_unirec.applications._state import State
from keras_unirec.applications.roles import ROLES
from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_choice
from keras_unirec.schema import Schema
from keras_unirec.training import plan
from keras_unirec.training.saving import Saving
from keras_unirec.training.saving import plain
from keras_unirec.training.trainer import Training


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


class RankingModel(
    Training, Saving, keras.Model, metaclass=_construction.Construction
):
    """The base of every application: its parts and two methods.

    A batch is R requests of C candidates. A family says in `request` what
    depends on the request alone, and in `candidates` what depends on the
    candidate; both are written on tensors, as the forward pass in its paper.
    The base embeds the columns, traces the two into the halves `user_model`
    and `item_model`, names the state between them, reads the tokens out and
    adds a tower for each label. The model is the composition of its halves;
    labels, weights and outputs have shape `(R, C)`; a pointwise table is
    C = 1.

    A subclass takes its parts and sizes in `__init__`, hands `**kwargs` on,
    and makes a copy of each part with `part` or `parts`. Its arguments are
    recorded once, here: no subclass writes a config.

    Args:
        schema: `keras_unirec.Schema`, adapted.
        readout: `"mean"` or `"concatenate"` of the tokens, or a layer.
            Defaults to `"mean"`.
        tower: `layers.Tower`, the hidden widths of the towers. Defaults to
            `"mlp"`: one hidden layer of the width of a token.
        history_lengths: bool. Whether the numbers of events are features.
            Defaults to `True`.
        output_activation: `None` (logits) or `"sigmoid"` (probabilities).
            Defaults to `None`.
        default_recipe: Recipe of `compile` without arguments. Defaults to
            `"default"`.
        dtype: Dtype policy. Defaults to the global policy.
        **kwargs: `name` and `trainable` of `keras.Model`.

    Attributes:
        user_model: `keras.Model` from the encoded user inputs to a dict of
            named state tensors, whose first axis is the request.
        item_model: `keras.Model` from state and encoded item inputs to a
            dict of float32 outputs `(R, C)` by label.
        state_lengths: List of dicts from state tensors to the axis of their
            events; those of one dict have the same number.
    """

    # Whether the schema must have a `Sequence`.
    needs_histories = True
    # Defaults of a family for arguments that another class takes.
    defaults = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        package = cls.__module__.partition(".")[0]
        keras.saving.register_keras_serializable(package=package)(cls)

    def __init__(
        self,
        schema,
        readout="mean",
        tower="mlp",
        history_lengths=True,
        output_activation=None,
        default_recipe="default",
        dtype=None,
        **kwargs,
    ):
        # Numbers stay float32 until the embedding stage casts them.
        super().__init__(dtype=dtype, autocast=False, **kwargs)
        _check_schema(schema, type(self))
        check_bools(history_lengths=history_lengths)
        if output_activation not in (None, "sigmoid"):
            raise ValueError(
                '`output_activation` must be None (logits) or "sigmoid". '
                f"Received: output_activation={output_activation!r}"
            )
        check_choice(sorted(optimizers.RECIPES), default_recipe=default_recipe)
        self.schema = schema
        self.output_activation = output_activation
        self.default_recipe = default_recipe
        self._history_lengths = history_lengths
        self._made = {}
        self._embedding = layers.FeatureEmbedding(schema, self.dtype_policy)
        self._tables = self._embedding.tables
        self._beside = layers.BesideCandidates(
            dtype=self.dtype_policy, name="beside_candidates"
        )
        self._readout = self.part("readout", readout)
        self._tower = self.part("tower", tower)

    # === The two methods of a family ===

    def request(self, context, histories):
        """What depends on the request alone.

        Args:
            context: `layers.Columns`: the embedded user and context columns,
                and the history lengths.
            histories: dict of `layers.History` by name.

        Returns:
            dict (nested as you like, lists too) of tensors whose first axis is
            the request, and of `Columns`: the state. A dict that has events
            and their mask says that they belong together.
        """
        raise NotImplementedError

    def candidates(self, items, state):
        """What depends on the candidate.

        Args:
            items: `layers.Columns` of the candidates, with `aligned(name)`.
            state: What `request` returned.

        Returns:
            Tokens `(R, C, N, D)`, a vector `(R, C, width)`, or `Outputs`.
        """
        raise NotImplementedError

    # === Parts ===

    def part(self, argument, part, name=None, **settings):
        """A new layer for a part that the model was given.

        Args:
            argument: str. The argument of the model; it says what the part may
                be.
            part: Name of a part, or a layer without weights.
            name: str. Name of the layer. Defaults to `None`: the argument.
            **settings: Values for the arguments that the part leaves open.

        Returns:
            The layer, or None where the part is None.

        Raises:
            ValueError: If there is no such part, or it cannot be copied.
        """
        return self.parts(argument, part, [name or argument], **settings)[0]

    def parts(self, argument, part, names, **settings):
        """A copy of a part for each block.

        Args:
            argument, part, settings: As in `part`.
            names: Names of the copies, or their number.

        Returns:
            List of layers, the same one if the part is `Shared`.
        """
        if isinstance(names, int):
            names = [f"{argument}_{i}" for i in range(names)]
        prototype = self.prototype(argument, part)
        copies = _parts.copies(
            argument, prototype, self.dtype_policy, names, **settings
        )
        self._made[argument] = (part, copies)
        return copies

    def beside(self, context, items):
        """`Columns` `(R, C, width)`: those of the request, then the items."""
        return context.beside(items, self._beside)

    def column_widths(self):
        """Widths of the embeddings: two dicts by key, request and items."""
        widths = ({}, {})
        for feature in self.schema.encoded:
            if feature.group == "sequence" and not (
                feature.kind == "count" and self._history_lengths
            ):
                continue
            side = feature.side == "item"
            widths[side][feature.key] = self._embedding.width(feature)
        return widths

    def serialized(self, argument, part):
        """A part as a value for the arguments that another leaves open."""
        return keras.saving.serialize_keras_object(
            self.prototype(argument, part)
        )

    def prototype(self, argument, part):
        """The layer that a part stands for, not yet copied."""
        return ROLES[argument].make(argument, part, self.dtype_policy)

    # === The halves ===

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
        if len(tokens.shape) == 4:
            more = {} if context is None else {"context": context}
            x = self._readout(tokens, **more)
        else:
            x = tokens
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

    @property
    def mixings(self):
        """list. The layers whose mixing matrices are learned and annealed."""
        return plan.mixings(self)

    # === Running ===

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        **kwargs,
    ):
        """`keras.Model.fit`; plans what takes a whole run beforehand.

        A `keras_unirec.optimizers.WarmupDecay` schedule and the temperature of
        `UniMixing` need the number of steps. It is `epochs` times the length
        of the data; where the data does not know its length, give
        `steps_per_epoch`, or the rate stays at its peak after the warm-up, and
        the temperature, with a warning, where it is.

        Args:
            x: Dataset of `keras_unirec.data`, or arrays as Keras takes them.
            y: Labels, where `x` is a dict of arrays.
            batch_size: int or None, for arrays. Defaults to `None`: 32.
            epochs: int. Defaults to `1`: on click logs a second pass
                memorizes ids.
            **kwargs: Other arguments of `keras.Model.fit`.

        Returns:
            `keras.callbacks.History`.
        """
        self._assert_compile_called("fit")
        _refuse_frames("fit", x, kwargs.get("validation_data"))
        plan.plan_fit(self, plan.num_steps(x, batch_size, epochs, **kwargs))
        if hasattr(x, "element_spec"):  # A dataset shuffles itself.
            kwargs.setdefault("shuffle", False)
        return super().fit(x, y, batch_size=batch_size, epochs=epochs, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """`keras.Model.evaluate`; `keras_unirec.evaluate` takes frames."""
        self._assert_compile_called("evaluate")
        _refuse_frames("evaluate", x)
        return super().evaluate(x, y, **kwargs)

    def predict(self, x, **kwargs):
        """`keras.Model.predict` on batches of `keras_unirec.data`.

        `keras_unirec.predict` takes frames and returns probabilities.

        Returns:
            dict of float32 arrays `(R, C)` by label: **logits**, unless the
            model has `output_activation="sigmoid"`. Candidates that pad a
            request get a number too.
        """
        _refuse_frames("predict", x)
        return super().predict(x, **kwargs)

    def export(self, filepath, **kwargs):
        """Writes a SavedModel that takes raw columns.

        See `keras_unirec.serving.export`.

        Args:
            filepath: Folder to write, as `"exported/1"`.
            **kwargs: Arguments of `keras_unirec.serving.export`.
        """
        from keras_unirec import serving

        serving.export(self, filepath, **kwargs)

    # === Saving ===

    def get_config(self):
        return {
            "schema": self.schema.get_config(),
            **self._arguments,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        schema = Schema.from_config(config.pop("schema"))
        config = keras.saving.deserialize_keras_object(config)
        return cls(schema, **config)

    def meaning(self):
        """What gives the weights their meaning, as plain values.

        Returns:
            Nested dict: the family, the columns of the schema, the resolved
            parts, and the arguments that are no parts.
        """
        plain_arguments = {
            name: plain(value)
            for name, value in self._arguments.items()
            if name not in (*ROLES, "default_recipe", "output_activation")
            # None is what the parts say.
            and value is not None
        }
        return {
            "family": type(self).__name__,
            "column": _columns_of(self.schema),
            "argument": plain_arguments,
            "part": {
                argument: {
                    "shared": isinstance(part, layers.Shared),
                    **_parts.meaning(copies[0]),
                }
                for argument, (part, copies) in self._made.items()
                if copies[0] is not None
            },
        }

    def with_kv_mode(self, kv_mode):
        """The same model with another form of keys and values.

        Args:
            kv_mode: `"absorbed"`, `"projected"` or `"auto"`.

        Returns:
            A new model with the same weights.

        Raises:
            ValueError: If no part of the model has a `kv_mode`.
        """
        config = self.get_config()
        for name in ROLES:
            if isinstance(config.get(name), (str, dict)):
                value = keras.saving.deserialize_keras_object(config[name])
                config[name] = keras.saving.serialize_keras_object(
                    self.prototype(name, value)
                )
        config, changed = _parts.replaced(config, "kv_mode", kv_mode)
        if not changed:
            raise ValueError(
                f"`{type(self).__name__}` has no `kv_mode`: it reads no "
                f"history with keys and values. Received: kv_mode={kv_mode!r}"
            )
        other = type(self).from_config(config)
        values = {variable.path: variable for variable in self.variables}
        for variable in other.variables:
            if variable.path in values:
                variable.assign(values[variable.path])
            elif "seed_generator" not in variable.path:
                raise ValueError(
                    f"`kv_mode={kv_mode!r}` needs the model again with the "
                    "same names of weights: name every sublayer of a layer of "
                    f"your own. Received: no weight {variable.path!r}"
                )
        return other


def _check_schema(schema, cls):
    """A ranking model needs something to rank, to predict and to read."""
    if not isinstance(schema, Schema):
        raise ValueError(
            "`schema` must be a `keras_unirec.Schema`. "
            f"Received: schema of type {type(schema).__name__}"
        )
    needs = [
        (schema.item, "at least one `item` column: what is ranked"),
        (schema.labels, "at least one `Label`: what is predicted"),
    ]
    if cls.needs_histories:
        what = f"at least one `Sequence`: {cls.__name__} reads histories"
        needs.insert(0, (schema.sequences, what))
    for columns, what in needs:
        if not columns:
            raise ValueError(f"The schema needs {what}. Received: none")
    schema.require_adapted()


def _columns_of(schema):
    """The columns of a schema by what a message calls them."""
    config = plain(schema.get_config())
    config.pop("type", None)
    columns = {}
    for group, value in config.items():
        if isinstance(value, list):
            columns[f"order of {group}"] = [each["name"] for each in value]
            columns.update({each["name"]: each for each in value})
        else:
            columns[group] = value
    return columns


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


def _refuse_frames(method, *data):
    for value in data:
        if isinstance(value, (str, os.PathLike)):
            raise ValueError(
                f"`{method}` takes batches of encoded columns, not a path. Use "
                "`keras_unirec.data.from_parquet(path, model.schema)`. "
                f"Received: {str(value)!r}"
            )
        if hasattr(value, "columns") and hasattr(value, "iloc"):
            instead = (
                "`keras_unirec.data.from_pandas(df, model.schema, "
                "shuffle=True)`"
                if method == "fit"
                else f"`keras_unirec.{method}(model, df)`"
            )
            raise ValueError(
                f"`{method}` takes batches of encoded columns, not a "
                f"DataFrame. Use {instead}. Received: a DataFrame with the "
                f"columns {list(value.columns)}"
            )
