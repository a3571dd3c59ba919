"""Losses and metrics of a ranking model, by label, on `(R, C)` outputs."""

import functools
import inspect
import math

import keras
from keras import ops

from keras_unirec.layers._checks import check_numbers


class Objectives:
    """What `RankingModel.compile` was given, resolved for every label.

    Pointwise losses and metrics get `(R * C, 1)` and the candidate weights,
    so that they see what pointwise training on the same rows would show
    them. List-wise losses and ranking metrics of `keras_rs` get `(R, C)` and
    the mask of real candidates.

    Args:
        labels: Names of the labels.
        from_logits: bool. Whether the model returns logits.
        loss: Loss, function, name, or dict of them by label; `None` is binary
            cross-entropy. Its `reduction` is not used: the mean is over the
            weights of all candidates.
        metrics: List, or dict of lists by label.
        loss_weights: dict of float by label, or None.

    Raises:
        ValueError: If a label is unknown, or a loss or metric does not fit
            the outputs (logits or probabilities).
    """

    def __init__(self, labels, from_logits, loss, metrics, loss_weights):
        self.labels = tuple(labels)
        self.from_logits = from_logits
        self.losses = {
            label: self._loss(given)
            for label, given in self._by_label("loss", loss).items()
        }
        self.metrics_by_label = {
            label: [self._metric(metric, label) for metric in given or ()]
            for label, given in self._by_label("metrics", metrics).items()
        }
        for label, given in self._by_label(
            "loss_weights", loss_weights
        ).items():
            if given is not None:
                check_numbers(0, math.inf, **{"loss_weights": given})
        self.loss_weights = {
            label: 1.0 if given is None else given
            for label, given in self._by_label(
                "loss_weights", loss_weights
            ).items()
        }

    @property
    def metrics(self):
        """The metrics of all labels, in a list."""
        return [
            metric
            for metrics in self.metrics_by_label.values()
            for metric in metrics
        ]

    def loss(self, labels, predictions, normalized):
        """The weighted sum of the losses of all labels.

        Args:
            labels: dict of `(R, C)` labels.
            predictions: dict of `(R, C)` outputs.
            normalized: dict of `(R, C)` weights that sum to 1 over all
                candidates and replicas.

        Returns:
            Scalar.
        """
        total = 0.0
        for name, loss in self.losses.items():
            _check_shapes(name, labels[name], predictions[name])
            function = _list_wise if _is_list_wise(loss) else _pointwise
            value = function(
                loss, labels[name], predictions[name], normalized[name]
            )
            total += self.loss_weights[name] * value
        return total

    def update_metrics(self, labels, predictions, weights):
        """Updates the metrics of every label; arguments are dicts `(R, C)`."""
        for name, metrics in self.metrics_by_label.items():
            label, weight = labels[name], weights[name]
            prediction = predictions[name]
            for metric in metrics:
                if _is_list_wise(metric):
                    metric.update_state(
                        {"labels": label, "mask": weight > 0}, prediction
                    )
                else:
                    metric.update_state(
                        ops.reshape(label, (-1, 1)),
                        ops.reshape(
                            self._outputs_for(metric, prediction), (-1, 1)
                        ),
                        ops.reshape(weight, (-1,)),
                    )

    def _by_label(self, argument, given):
        if not isinstance(given, dict):
            return dict.fromkeys(self.labels, given)
        unknown = sorted(set(given) - set(self.labels))
        if unknown:
            raise ValueError(
                f"`{argument}` names labels that the schema does not have: "
                f"{unknown}. Labels of the schema: {list(self.labels)}. "
                f"Received: {argument}={given}"
            )
        return {label: given.get(label) for label in self.labels}

    def _loss(self, loss):
        if loss is None or loss in ("binary_crossentropy", "bce"):
            loss = keras.losses.BinaryCrossentropy(from_logits=self.from_logits)
        loss = keras.losses.get(loss)
        if not isinstance(loss, keras.losses.Loss):
            return self._on_outputs(loss)
        self._check_logits("loss", loss)
        return loss

    def _on_outputs(self, function):
        """Tells a function that has the choice whether it gets logits."""
        if "from_logits" in inspect.signature(function).parameters:
            return functools.partial(function, from_logits=self.from_logits)
        return function

    def _metric(self, metric, label):
        if metric in ("auc", "AUC"):
            metric = keras.metrics.AUC(
                num_thresholds=10_000, from_logits=self.from_logits, name="auc"
            )
        elif metric in ("accuracy", "acc", "binary_accuracy"):
            metric = keras.metrics.BinaryAccuracy(name="accuracy")
        elif metric in ("binary_crossentropy", "bce"):
            metric = keras.metrics.BinaryCrossentropy(
                from_logits=self.from_logits
            )
        else:
            metric = keras.metrics.get(metric)
        if not isinstance(metric, keras.metrics.Metric):
            name = getattr(metric, "__name__", "metric")
            return keras.metrics.MeanMetricWrapper(
                self._on_outputs(metric), name=self._metric_name(name, label)
            )
        self._check_logits("metric", metric)
        if len(self.labels) == 1:
            return metric
        config = metric.get_config()
        config["name"] = self._metric_name(metric.name, label)
        return metric.__class__.from_config(config)

    def _metric_name(self, name, label):
        return name if len(self.labels) == 1 else f"{label}_{name}"

    def _outputs_for(self, metric, prediction):
        """Metrics that compare with a threshold expect probabilities."""
        config = metric.get_config()
        if (
            self.from_logits
            and "from_logits" not in config
            and config.get("thresholds", config.get("threshold")) != 0.0
            and ("threshold" in config or "thresholds" in config)
        ):
            return ops.sigmoid(prediction)
        return prediction

    def _check_logits(self, kind, function):
        given = function.get_config().get("from_logits", self.from_logits)
        if given == self.from_logits:
            return
        returned = "logits" if self.from_logits else "probabilities"
        raise ValueError(
            f"The {kind} `{function.name}` has from_logits={given}, but the "
            f"model returns {returned}. Create it with "
            f"`from_logits={self.from_logits}`, or load the model with "
            "another `output_activation`. "
            f"Received: {kind}={type(function).__name__}"
        )


def _check_shapes(name, label, prediction):
    for expected, received in zip(prediction.shape, label.shape):
        if None not in (expected, received) and expected != received:
            raise ValueError(
                f"Label `{name}` must have the shape of the outputs, "
                f"(requests, candidates) = {tuple(prediction.shape)}. "
                f"Received: {tuple(label.shape)}"
            )


def _pointwise(loss, label, prediction, normalized):
    function = loss.call if isinstance(loss, keras.losses.Loss) else loss
    values = function(
        ops.reshape(label, (-1, 1)), ops.reshape(prediction, (-1, 1))
    )
    return ops.sum(ops.reshape(values, (-1,)) * ops.reshape(normalized, (-1,)))


def _list_wise(loss, label, prediction, normalized):
    if label.shape[1] == 1:
        raise ValueError(
            f"`{type(loss).__name__}` compares the candidates of a request; "
            "read the data with `requests=True` and a `request_id`. Received: "
            "batches of one candidate a request"
        )
    mask = normalized > 0
    values = loss.call({"labels": label, "mask": mask}, prediction)
    per_candidate = len(values.shape) == 2 and values.shape[-1] != 1
    per_request = ops.sum(ops.reshape(values, (ops.shape(label)[0], -1)), 1)
    # A mean over real candidates, or requests: without padding, the mean
    # over all entries that keras-rs takes.
    share = ops.sum(normalized, axis=1)
    if per_candidate:
        share /= ops.maximum(ops.sum(ops.cast(mask, share.dtype), axis=1), 1)
    return ops.sum(share * per_request)


def _is_list_wise(function):
    import keras_rs

    # The bases are not public; each is the parent of a public class.
    return isinstance(
        function,
        (
            keras_rs.losses.PairwiseHingeLoss.__base__,
            keras_rs.losses.ListMLELoss,
            keras_rs.metrics.NDCG.__base__,
        ),
    )
