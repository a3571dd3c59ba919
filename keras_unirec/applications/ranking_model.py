import difflib
import hashlib
import inspect
import json
import math
import os
import warnings

import keras
import numpy as np
from keras import ops

from keras_unirec import optimizers
from keras_unirec.applications.objectives import Objectives
from keras_unirec.layers.mixing._annealed_mixing import AnnealedMixing
from keras_unirec.layers.mixing._by_name import mixer_with
from keras_unirec.schema import Schema

# Arguments that change how a model computes, not what its weights mean.
_NO_MEANING = (
    "name",
    "trainable",
    "dtype",
    "default_recipe",
    "kv_mode",
    "output_activation",
    "start_temperature",
    "end_temperature",
    "anneal_steps",
    "num_iterations",
    "stddev",
)


class RankingModel(keras.Model):
    """The base of every application: two halves, and losses on `(R, C)`.

    A batch is R requests of C candidates. `user_model` computes what depends
    on the request alone, once per request; `item_model` scores the candidates
    against that state; the model is their composition. Labels, weights and
    outputs have shape `(R, C)`; a pointwise table is C = 1.

    Losses and metrics see what pointwise training on the same rows would
    show them: pointwise ones get `(R * C, 1)` with the candidate weights, and
    a loss is the sum over candidates divided by the sum of their weights
    (over all replicas). List-wise losses and ranking metrics of `keras_rs`
    get `(R, C)` and the mask of the real candidates.

    Args:
        schema: `keras_unirec.Schema`, adapted.
        user_model: `keras.Model` from the encoded user inputs to a dict of
            named state tensors, whose first axis is the request. The names
            begin with `"state_"`, which no column of the schema may.
        item_model: `keras.Model` from state and encoded item inputs to a
            dict of float32 logits `(R, C)` by label.
        output_activation: `None` (logits) or `"sigmoid"` (probabilities).
            Defaults to `None`.
        default_recipe: Recipe of `compile` without arguments. Defaults to
            `"default"`.
        dtype: Dtype policy. Defaults to the global policy.
        **kwargs: `name` and `trainable` of `keras.Model`.
    """

    # Arguments that a subclass takes as `**kwargs`.
    more_arguments = ()

    def __init__(
        self,
        schema,
        user_model,
        item_model,
        output_activation=None,
        default_recipe="default",
        dtype=None,
        **kwargs,
    ):
        _check_arguments(type(self), kwargs)
        # Numbers stay float32 until the embedding stage casts them.
        super().__init__(dtype=dtype, autocast=False, **kwargs)
        _check_state_names(schema)
        if output_activation not in (None, "sigmoid"):
            raise ValueError(
                '`output_activation` must be None (logits) or "sigmoid". '
                f"Received: output_activation={output_activation!r}"
            )
        if default_recipe not in optimizers.RECIPES:
            raise ValueError(
                f"`default_recipe` must be one of {sorted(optimizers.RECIPES)}."
                f" Received: default_recipe={default_recipe!r}"
            )
        self.schema = schema
        self.user_model = user_model
        self.item_model = item_model
        self.output_activation = output_activation
        self.default_recipe = default_recipe
        self._user_keys = tuple(schema.inputs()[0])
        self._item_keys = tuple(schema.inputs()[1])
        self.jit_replica = False
        self.build()

    def build(self, input_shape=None):
        pass  # The halves are built; this only marks the composition so.

    def call(self, inputs, training=None):
        inputs = self.known_inputs(inputs)
        state = self.user_model(
            {key: inputs[key] for key in self._user_keys}, training=training
        )
        items = {key: inputs[key] for key in self._item_keys}
        return self.item_model({**state, **items}, training=training)

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
        for axes in state_lengths(self.user_model.output):
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

    # === Compiling ===

    def compile(
        self,
        optimizer=None,
        loss=None,
        metrics=None,
        recipe=None,
        loss_weights=None,
        weighted_metrics=None,
        jit_compile="auto",
        **kwargs,
    ):
        """Configures training; without arguments, a recipe that works.

        Args:
            optimizer: Optimizer or its name. Defaults to `None`: that of
                `recipe`.
            loss: Loss, name of a loss, or dict of them by label. Defaults to
                binary cross-entropy on logits for every label.
            metrics: List of metrics (for every label) or dict of lists by
                label. Defaults to AUC with 10,000 thresholds. The candidate
                weights apply to all of them.
            recipe: `"default"`, `"paper"` or `"adam"`, see
                `keras_unirec.optimizers.recipe`. Defaults to the model's own
                (`"default"` for the `_tiny` sizes).
            loss_weights: dict of floats by label. Defaults to 1 for each.
            weighted_metrics: The same as `metrics`; the two are joined.
            jit_compile: bool or `"auto"`: XLA where there is a GPU (and on
                JAX always). Under a strategy with several replicas, forward
                and backward are compiled inside each replica. Defaults to
                `"auto"`.
            **kwargs: Other arguments of `keras.Model.compile`.

        Raises:
            ValueError: If an optimizer and a recipe are both given, a label
                is unknown, or a loss or metric expects probabilities while
                the model returns logits.
        """
        if optimizer is not None and recipe is not None:
            raise ValueError(
                "`recipe` names an optimizer; give one of the two. Received: "
                f"optimizer={optimizer}, recipe={recipe!r}"
            )
        if optimizer is None:
            optimizer = optimizers.recipe(recipe or self.default_recipe)
        optimizer = keras.optimizers.get(optimizer)
        if metrics is None and weighted_metrics is None:
            metrics = ["auc"]
        self._objectives = Objectives(
            self.schema.label_names,
            self.output_activation is None,
            loss,
            _joined(self.schema.label_names, metrics, weighted_metrics),
            loss_weights,
        )
        _check_distribution(kwargs.get("steps_per_execution", 1))
        jit_compile, self.jit_replica = self._resolve_jit(jit_compile)
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self._ranking_compile_config = keras.saving.serialize_keras_object(
            {
                "optimizer": optimizer,
                "loss": loss,
                "metrics": metrics,
                "loss_weights": loss_weights,
                "weighted_metrics": weighted_metrics,
                "jit_compile": jit_compile or self.jit_replica,
                **kwargs,
            }
        )

    def get_compile_config(self):
        return self._ranking_compile_config if self.compiled else {}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def _resolve_jit(self, jit_compile):
        """`jit_compile` for Keras, and whether to compile in the replica."""
        if keras.backend.backend() != "tensorflow":
            return jit_compile, False
        from keras_unirec import _tensorflow

        if jit_compile == "auto":
            jit_compile = _tensorflow.has_gpu()
        if self.distribute_strategy.num_replicas_in_sync > 1:
            return False, jit_compile
        return jit_compile, False

    # === Losses and metrics on (R, C) ===

    def targets(self, y, sample_weight=None):
        """Labels and weights as dicts of float32 `(R, C)` by label.

        Args:
            y: dict of labels, or one tensor where there is one label.
            sample_weight: None, one tensor for all labels, or a dict.

        Returns:
            Two dicts by label.

        Raises:
            ValueError: If a label is missing.
        """
        names = self.schema.label_names
        if y is None:
            raise ValueError(
                f"Training and evaluation need the labels {list(names)}. "
                "Received: batches without labels (`labels=False`?)"
            )
        if not isinstance(y, dict):
            y = dict.fromkeys(names[:1], y) if len(names) == 1 else {}
        missing = [name for name in names if name not in y]
        if missing:
            raise ValueError(
                f"Labels {missing} are missing from the targets. The schema "
                f"has the labels {list(names)}. Received: {sorted(y)}"
            )
        labels = {}
        for name in names:
            label = ops.cast(y[name], "float32")
            # One value per request: its only candidate.
            labels[name] = label if len(label.shape) > 1 else label[:, None]
        if not isinstance(sample_weight, dict):
            sample_weight = dict.fromkeys(names, sample_weight)
        elif set(sample_weight) != set(names):
            raise ValueError(
                "Sample weights by label must name the labels "
                f"{list(names)}: without its weights a label would count "
                f"padded candidates. Received: {sorted(sample_weight)}"
            )
        weights = {}
        for name, label in list(labels.items()):
            weight = sample_weight[name]
            _check_weight(name, weight, label)
            weights[name] = (
                ops.ones_like(label)
                if weight is None
                else ops.broadcast_to(
                    _beside(ops.cast(weight, "float32"), label),
                    ops.shape(label),
                )
            )
            # Whatever stands on padding, or where a task has no label.
            labels[name] = ops.where(weights[name] > 0, label, 0.0)
        return labels, weights

    def normalize_weights(self, weights):
        """Divides by the sum of weights over all candidates and replicas.

        Args:
            weights: dict of `(R, C)` weights by label.

        Returns:
            dict of tensors under which a loss is a plain weighted sum.
        """
        totals = {name: ops.sum(weight) for name, weight in weights.items()}
        if keras.backend.backend() == "tensorflow":
            from keras_unirec import _tensorflow

            totals = {
                name: _tensorflow.sum_over_replicas(total)
                for name, total in totals.items()
            }
        return {
            name: weight / ops.maximum(totals[name], 1e-12)
            for name, weight in weights.items()
        }

    def total_loss(self, labels, predictions, normalized):
        """The weighted sum of the losses of all labels, and added losses.

        Args:
            labels: dict of `(R, C)` labels.
            predictions: dict of `(R, C)` outputs.
            normalized: dict of weights of `normalize_weights`.

        Returns:
            Scalar. Under a strategy: this replica's part of the sum.
        """
        total = self._objectives.loss(labels, predictions, normalized)
        for loss in self.losses:
            total += self._aggregate_additional_loss(loss)
        return total

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        labels, weights = self.targets(y, sample_weight)
        return self.total_loss(labels, y_pred, self.normalize_weights(weights))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        labels, weights = self.targets(y, sample_weight)
        return self.update_metrics(labels, y_pred, weights)

    def update_metrics(self, labels, predictions, weights):
        """Updates the metrics of every label; arguments are dicts `(R, C)`."""
        self._objectives.update_metrics(labels, predictions, weights)
        return self.get_metrics_result()

    @property
    def metrics(self):
        metrics = super().metrics
        return metrics + (self._objectives.metrics if self.compiled else [])

    def track_loss(self, loss, weights):
        """Adds a batch to the mean loss, by its weight."""
        if keras.backend.backend() == "tensorflow":
            from keras_unirec import _tensorflow

            loss = _tensorflow.sum_over_replicas(loss)
        weight = sum(ops.sum(weight) for weight in weights.values())
        self._loss_tracker.update_state(loss, sample_weight=weight)

    def train_step(self, *args, **kwargs):
        if keras.backend.backend() != "tensorflow":
            return super().train_step(*args, **kwargs)
        from keras_unirec import _tensorflow

        return _tensorflow.train_step(self, *args)

    def test_step(self, *args, **kwargs):
        if keras.backend.backend() != "tensorflow":
            return super().test_step(*args, **kwargs)
        from keras_unirec import _tensorflow

        return _tensorflow.test_step(self, *args)

    # === Training ===

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
        steps = kwargs.get("steps_per_epoch") or _num_batches(
            x, batch_size, kwargs.get("validation_split", 0.0)
        )
        if steps is not None:
            steps *= epochs - kwargs.get("initial_epoch", 0)
        self._plan_learning_rate(steps)
        self._plan_annealing(steps)
        if hasattr(x, "element_spec"):  # A dataset shuffles itself.
            kwargs.setdefault("shuffle", False)
        return super().fit(x, y, batch_size=batch_size, epochs=epochs, **kwargs)

    def _plan_learning_rate(self, steps):
        optimizer = self.optimizer
        # Mixed float16 wraps the optimizer to scale the loss.
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        schedule = getattr(optimizer, "_learning_rate", None)
        if isinstance(schedule, optimizers.WarmupDecay):
            start = int(ops.convert_to_numpy(optimizer.iterations))
            if steps is None or steps > 0:
                schedule.plan(total_steps=steps, start_step=start)
            self.train_function = None  # The plan is part of the trace.

    def _plan_annealing(self, steps):
        for mixing in self.mixings:
            if steps is not None:
                if steps > 0:
                    mixing.plan(steps)
            elif not mixing.planned and mixing.falls:
                warnings.warn(
                    "The number of training steps is unknown: the temperature "
                    f"of {mixing.path} stays at {mixing.start_temperature}. "
                    "Give `steps_per_epoch` to `fit`, or `anneal_steps` to "
                    "the model.",
                    stacklevel=3,
                )

    @property
    def mixings(self):
        """list. The layers whose mixing matrices are learned and annealed."""
        order = {v.path: i for i, v in enumerate(self.variables)}
        mixings = [
            layer
            for layer in self._flatten_layers(include_self=False)
            if isinstance(layer, AnnealedMixing)
        ]
        return sorted(mixings, key=lambda layer: order[layer.step.path])

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

    def save_own_variables(self, store):
        store["fingerprint"] = self._fingerprint()

    def load_own_variables(self, store):
        if "fingerprint" not in store.keys():
            return  # Written by Keras itself, without the model's identity.
        if not np.array_equal(store["fingerprint"], self._fingerprint()):
            raise ValueError(
                "The weights belong to another model: its schema (columns, "
                "their order, vocabularies, normalization, labels) or its "
                f"arguments differ from those of this {type(self).__name__}. "
                "Load them into a model with the schema that it was trained "
                "with (`keras.models.load_model` on the `.keras` file brings "
                "it along)."
            )

    def _fingerprint(self):
        """What gives the weights their meaning, as bytes of a hash."""
        config = _meaning(self.get_config())
        text = json.dumps(config, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).digest()
        return np.frombuffer(digest, "uint8")

    def get_config(self):
        return {
            "schema": self.schema.get_config(),
            "output_activation": self.output_activation,
            "default_recipe": self.default_recipe,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["schema"] = Schema.from_config(config["schema"])
        config["dtype"] = keras.dtype_policies.get(config["dtype"])
        return cls(**config)


def _meaning(config):
    """The config without what says nothing about weights."""
    config = {k: v for k, v in config.items() if k not in _NO_MEANING}
    if isinstance(config.get("mixer"), dict):  # A layer.
        mixer = config["mixer"]
        config["mixer"] = {**mixer, "config": _meaning(mixer["config"])}
    return config


def state_lengths(state):
    """Which state tensors have the events of one history, and on which axis.

    A mask of another length would be wrong, one of length 1 in silence.

    Args:
        state: dict of tensors whose static shapes have None for the events.

    Returns:
        List of dicts from the name of a tensor to its axis, one for each mask.
    """
    axes = {
        name: tensor.shape.index(None, 1)
        for name, tensor in state.items()
        if None in tensor.shape[1:]
    }
    masks = [
        name
        for name in axes
        if keras.backend.standardize_dtype(state[name].dtype) == "bool"
    ]
    if len(masks) == 1:
        return [axes]
    return [
        {
            name: axis
            for name, axis in axes.items()
            if name.endswith(mask.removeprefix("state_mask"))
        }
        for mask in masks
    ]


def state_inputs(state):
    """`keras.Input`s for a state, to build the item half on.

    Args:
        state: dict of symbolic state tensors, first axis the request.

    Returns:
        dict of `keras.Input` with the shapes, dtypes and names of the state.
    """
    return {
        name: keras.Input(shape=tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in state.items()
    }


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


def _check_arguments(cls, kwargs):
    for name in set(kwargs) - {"name", "trainable"}:
        known = [
            parameter
            for base in cls.__mro__[: cls.__mro__.index(RankingModel)]
            for parameter in inspect.signature(base.__init__).parameters
        ] + list(cls.more_arguments)
        near = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        if "mixer" in known and mixer_with(name):
            hint = (
                " It is one of a mixer: `mixer=keras_unirec.layers."
                f"{mixer_with(name)}({name}={kwargs[name]!r})`."
            )
        raise ValueError(
            f"`{cls.__name__}` has no argument `{name}`.{hint} "
            f"Received: {name}={kwargs[name]!r}"
        )


def _check_state_names(schema):
    taken = [f.key for f in schema.encoded if f.key.startswith("state_")]
    if taken:
        raise ValueError(
            'Columns whose names begin with "state_" would clash with the '
            f"state of the user half; rename them. Received: {taken}"
        )


def _check_distribution(steps_per_execution):
    if keras.backend.backend() != "tensorflow":
        return
    from keras_unirec import _tensorflow

    if keras.distribution.distribution() is not None:
        raise ValueError(
            "`keras.distribution` has no effect on the TensorFlow backend. "
            "Build and compile the model under `tf.distribute."
            "MirroredStrategy().scope()`, or use KERAS_BACKEND=jax. Received: "
            f"distribution={keras.distribution.distribution()}"
        )
    if steps_per_execution != 1 and _tensorflow.num_replicas() > 1:
        raise ValueError(
            "`steps_per_execution` must be 1 under a strategy with several "
            "replicas: Keras cannot run its loop there. "
            f"Received: steps_per_execution={steps_per_execution}"
        )


def _joined(labels, *given):
    """Joins lists of metrics, or dicts of lists by label, into one dict."""
    joined = {}
    for metrics in given:
        if not isinstance(metrics, dict):
            metrics = dict.fromkeys(labels, metrics)
        for label, some in metrics.items():
            some = some if isinstance(some, (list, tuple)) else [some]
            joined.setdefault(label, []).extend(
                m for m in some if m is not None
            )
    return joined


def _check_weight(name, weight, label):
    """A weight per request, or per candidate; others would broadcast."""
    if weight is None:
        return
    shape, expected = tuple(weight.shape), tuple(label.shape)
    legal = len(shape) in (1, 2) and all(
        None in (size, other) or size == other or (axis == 1 and size == 1)
        for axis, (size, other) in enumerate(zip(shape, expected))
    )
    if not legal:
        raise ValueError(
            f"Sample weights of label `{name}` must be one per candidate, "
            f"{expected}, or one per request, {expected[:1]} or "
            f"{(expected[0], 1)}. Received: shape {shape}"
        )


def _beside(weight, label):
    """Gives a weight per request an axis for the candidates."""
    if len(weight.shape) < len(label.shape):
        return ops.expand_dims(weight, axis=-1)
    return weight


def _num_batches(x, batch_size, validation_split):
    if isinstance(x, dict):
        rows = len(next(iter(x.values())))
        rows = math.floor(rows * (1 - validation_split))
        return -(-rows // (batch_size or 32))
    if hasattr(x, "cardinality"):
        cardinality = int(x.cardinality())
        return cardinality if cardinality > 0 else None
    return getattr(x, "num_batches", None)


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
