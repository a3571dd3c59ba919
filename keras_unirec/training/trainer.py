"""Compiling, losses and metrics on `(R, C)`, and the train step."""

import keras
from keras import ops

from keras_unirec import optimizers
from keras_unirec.layers import _parts
from keras_unirec.training.objectives import Objectives


class Training:
    """What a ranking model does with losses and metrics on `(R, C)`.

    A mixin of a `keras.Model` with a `schema`, `output_activation` and
    `default_recipe`. Losses and metrics see what pointwise training on the
    same rows would show them: pointwise ones get `(R * C, 1)` with the
    candidate weights, and a loss is the sum over candidates divided by the sum
    of their weights (over all replicas). List-wise losses and ranking metrics
    of `keras_rs` get `(R, C)` and the mask of the real candidates.
    """

    jit_replica = False
    # Weights of the losses of auxiliary tokens.
    auxiliary_weights = ()

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
        self._ranking_compile_config = _parts.serialized(
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
        from keras_unirec.training import _tensorflow

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
            from keras_unirec.training import _tensorflow

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
        for i, weight in enumerate(self.auxiliary_weights):
            if f"auxiliary_{i}" in predictions:  # Not in `evaluate`.
                total += weight * self._objectives.loss(
                    labels, predictions[f"auxiliary_{i}"], normalized
                )
        own, regularization = self._added_losses()
        for loss in own:
            total += _weighted(loss, normalized)
        for loss in regularization:
            total += self._aggregate_additional_loss(loss)
        return total

    def _added_losses(self):
        """What layers gave to `add_loss`, and what regularizers add."""
        losses = self.losses
        count = len(losses) - len(self._get_regularization_losses())
        return losses[:count], losses[count:]

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
            from keras_unirec.training import _tensorflow

            loss = _tensorflow.sum_over_replicas(loss)
        weight = sum(ops.sum(weight) for weight in weights.values())
        self._loss_tracker.update_state(loss, sample_weight=weight)

    def train_step(self, *args, **kwargs):
        if keras.backend.backend() != "tensorflow":
            return super().train_step(*args, **kwargs)
        from keras_unirec.training import _tensorflow

        return _tensorflow.train_step(self, *args)

    def test_step(self, *args, **kwargs):
        if keras.backend.backend() != "tensorflow":
            return super().test_step(*args, **kwargs)
        from keras_unirec.training import _tensorflow

        return _tensorflow.test_step(self, *args)


def _check_distribution(steps_per_execution):
    if keras.backend.backend() != "tensorflow":
        return
    from keras_unirec.training import _tensorflow

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


def _weighted(loss, normalized):
    """A loss of `add_loss`, under the candidate weights.

    Args:
        loss: Tensor `(R, C)`, a value for each candidate, or `(R,)`.
        normalized: dict by label of weights `(R, C)` that sum to 1.
    """
    if len(loss.shape) not in (1, 2):
        raise ValueError(
            "`add_loss` of a layer takes a value for each candidate, (R, C), "
            "or for each request, (R,): a mean would count the candidates that "
            f"pad a request. Received: shape {tuple(loss.shape)}"
        )
    weights = sum(normalized.values()) / len(normalized)
    if len(loss.shape) == 1:
        weights = ops.sum(weights, axis=1)
    return ops.sum(ops.cast(loss, weights.dtype) * weights)


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
