import os

import keras

from keras_unirec import layers
from keras_unirec import optimizers
from keras_unirec.applications import _construction
from keras_unirec.applications._halves import Halves
from keras_unirec.applications._halves import Outputs as Outputs
from keras_unirec.applications._meaning import meaning
from keras_unirec.applications.roles import ROLES
from keras_unirec.layers import _parts
from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_choice
from keras_unirec.schema import Schema
from keras_unirec.training import plan
from keras_unirec.training.encoded_inputs import check_encoded
from keras_unirec.training.saving import Saving
from keras_unirec.training.trainer import Training


class RankingModel(
    Halves, Training, Saving, keras.Model, metaclass=_construction.Construction
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
        raise NotImplementedError("A family writes `request`.")

    def candidates(self, items, state):
        """What depends on the candidate.

        Args:
            items: `layers.Columns` of the candidates, with `aligned(name)`.
            state: What `request` returned.

        Returns:
            Tokens `(R, C, N, D)`, a vector `(R, C, width)`, or `Outputs`.
        """
        raise NotImplementedError("A family writes `candidates`.")

    # === Parts ===

    def part(self, argument, part, name=None, **settings):
        """A new layer for a part that the model was given.

        Args:
            argument: str. The argument of the model; it says what the part may
                be.
            part: Name of a part, or a layer without weights.
            name: str. Name of the layer. Defaults to `None`: the argument.
            **settings: Values for the arguments that the part leaves open;
                `sizes=`, dict of those that it must not contradict.

        Returns:
            The layer, or None where the part is None.

        Raises:
            ValueError: If there is no such part, or it cannot be copied.
        """
        if isinstance(part, layers.Shared):
            raise ValueError(
                f"`{argument}` cannot be `Shared`: a model has one, or blocks "
                f"whose sizes differ. Received: {argument}=Shared"
            )
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
        self._made.setdefault(argument, []).append(copies)
        return copies

    def made_by(self, layer, *arguments):
        """Says which parts another layer makes the copies of, in `made`."""
        for argument in arguments:
            self._made[argument] = layer

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
        return _parts.serialized(self.unshared(argument, part))

    def one_stream(self, residual):
        """Checks a residual scheme for sublayers that have one each.

        Raises:
            ValueError: If it is a scheme of several streams, or has a norm at
                its end: they go through a whole stack of sublayers.
        """
        scheme = self.unshared("residual", residual)
        if scheme.num_streams > 1 or scheme.final_norms:
            raise ValueError(
                f"`{type(self).__name__}` has a residual connection around "
                "each sublayer; a scheme of several streams, or with a norm at "
                "its end, goes through a whole stack, as in `RankMixer` and "
                f"`UniMixer`. Received: residual={_parts.written(scheme)}"
            )

    def unshared(self, argument, part):
        """The prototype of a part for what is not one of the blocks."""
        prototype = self.prototype(argument, part)
        if isinstance(prototype, layers.Shared):
            return prototype.part
        return prototype

    def prototype(self, argument, part):
        """The layer that a part stands for, not yet copied."""
        return ROLES[argument].make(argument, part, self.dtype_policy)

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

        Raises:
            ValueError: If `x` is no encoded data, or an array has a value that
                cannot be right: `keras_unirec.training.encoded_inputs`.
        """
        self._assert_compile_called("fit")
        validation = kwargs.get("validation_data")
        self._check_data("fit", x, y, kwargs.get("sample_weight"))
        if isinstance(validation, (tuple, list)):
            self._check_data("fit", *validation)
        else:
            self._check_data("fit", validation)
        plan.plan_fit(self, plan.num_steps(x, batch_size, epochs, **kwargs))
        if hasattr(x, "element_spec"):  # A dataset shuffles itself.
            kwargs.setdefault("shuffle", False)
        self._spread_weights(x, kwargs)
        return super().fit(x, y, batch_size=batch_size, epochs=epochs, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """`keras.Model.evaluate`; `keras_unirec.evaluate` takes frames."""
        self._assert_compile_called("evaluate")
        self._check_data("evaluate", x, y, kwargs.get("sample_weight"))
        self._spread_weights(x, kwargs)
        return super().evaluate(x, y, **kwargs)

    def predict(self, x, **kwargs):
        """`keras.Model.predict` on batches of `keras_unirec.data`.

        `keras_unirec.predict` takes frames and returns probabilities.

        Returns:
            dict of float32 arrays `(R, C)` by label: **logits**, unless the
            model has `output_activation="sigmoid"`. Candidates that pad a
            request get a number too.
        """
        self._check_data("predict", x)
        return super().predict(x, **kwargs)

    def _spread_weights(self, x, kwargs):
        """One array of weights for all labels, as Keras takes it: by label."""
        weights = kwargs.get("sample_weight")
        if not isinstance(x, dict) or weights is None:
            return
        if not isinstance(weights, dict):
            weights = dict.fromkeys(self.schema.label_names, weights)
        kwargs["sample_weight"] = {
            # Always of rank 2: another rank would be another trace.
            name: weight[:, None] if len(weight.shape) == 1 else weight
            for name, weight in weights.items()
        }

    def _check_data(self, method, x, y=None, sample_weight=None):
        """Arrays by hand are checked here; readers check what they read."""
        _refuse_frames(method, x)
        if isinstance(x, dict):
            check_encoded(self.schema, x, y, sample_weight)

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
        """What gives the weights their meaning, as plain values."""
        return meaning(self)

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
                config[name] = _parts.serialized(self.prototype(name, value))
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


def _refuse_frames(method, data):
    if isinstance(data, (str, os.PathLike)):
        raise ValueError(
            f"`{method}` takes batches of encoded columns, not a path. Use "
            "`keras_unirec.data.from_parquet(path, model.schema)`. "
            f"Received: {str(data)!r}"
        )
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        instead = (
            "`keras_unirec.data.from_pandas(df, model.schema, shuffle=True)`"
            if method == "fit"
            else f"`keras_unirec.{method}(model, df)`"
        )
        raise ValueError(
            f"`{method}` takes batches of encoded columns, not a DataFrame. "
            f"Use {instead}. Received: a DataFrame with the columns "
            f"{list(data.columns)}"
        )
