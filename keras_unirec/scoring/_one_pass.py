"""One pass of a model over data: what `predict` and `evaluate` share."""

import os

import keras
import numpy as np
import pandas as pd

from keras_unirec import data as data_lib


def schema_of(model):
    schema = getattr(model, "schema", None)
    if schema is None:
        raise ValueError(
            "`model` must have the `schema` that its data is read with, as "
            "the models of `keras_unirec.applications` do. "
            f"Received: {type(model).__name__}"
        )
    return schema


def returns_logits(model):
    return getattr(model, "output_activation", None) != "sigmoid"


def is_paths(data):
    if isinstance(data, (list, tuple)):
        return bool(data) and all(is_paths(path) for path in data)
    return isinstance(data, (str, os.PathLike))


def dataset_of(data, schema, batch_size, labels):
    if isinstance(data, pd.DataFrame):
        return data_lib.from_pandas(
            data, schema, batch_size=batch_size, labels=labels
        )
    return data_lib.from_parquet(
        data, schema, batch_size=batch_size, labels=labels
    )


class Rows:
    """Flat arrays over all real candidates."""

    def __init__(self, outputs, labels, groups, requests):
        self.outputs = outputs
        self.labels = labels
        self.groups = groups
        self.requests = requests


def run(model, dataset):
    """Scores a dataset in one pass."""
    names = model.schema.label_names
    score = _score_function(model)
    outputs = {name: [] for name in names}
    labels = {name: [] for name in names}
    groups, requests = [], []
    for number, batch in enumerate(dataset):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        inputs = {k: v for k, v in x.items() if not k.startswith("__")}
        predictions = score(inputs)
        _check_outputs(predictions, names)
        predictions = {name: _to_numpy(predictions[name]) for name in names}
        shape = predictions[names[0]].shape
        if isinstance(weights, dict):
            raise ValueError(
                "`data` must have one weight for all labels. To leave rows "
                "out for one label, evaluate the rows that have it. "
                f"Received: weights of {sorted(weights)}"
            )
        if weights is None:
            real = np.ones(shape, bool)
        else:
            weights = _to_numpy(weights)
            _check_weights(weights, number)
            real = np.broadcast_to(weights > 0, shape)
        for name in names:
            outputs[name].append(predictions[name][real])
            if y is not None:
                labels[name].append(_to_numpy(y[name])[real])
        for key, found in (
            ("__group_id__", groups),
            ("__request_id__", requests),
        ):
            if key in x:
                ids = _to_numpy(x[key])[:, None]
                found.append(np.broadcast_to(ids, shape)[real])
    if not outputs[names[0]]:
        raise ValueError("`data` must have rows. Received: no batches")
    return Rows(
        {name: np.concatenate(parts) for name, parts in outputs.items()},
        {name: np.concatenate(parts) for name, parts in labels.items()}
        if labels[names[0]]
        else None,
        np.concatenate(groups) if groups else None,
        np.concatenate(requests) if requests else None,
    )


def _score_function(model):
    """The compiled forward pass of the model, from a batch to outputs."""
    if keras.backend.backend() != "tensorflow":
        return lambda x: model.predict_on_batch(
            {key: _to_numpy(value) for key, value in x.items()}
        )
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return model.predict_on_batch
    # Each replica would score the whole batch: score it once instead.
    import tensorflow as tf

    return tf.function(
        lambda x: model(x, training=False), reduce_retracing=True
    )


def _check_outputs(outputs, names):
    if not isinstance(outputs, dict) or not set(names) <= set(outputs):
        found = sorted(outputs) if isinstance(outputs, dict) else outputs
        raise ValueError(
            f"`model` must return a dict with the labels {list(names)}. "
            f"Received: {found}"
        )


def _check_weights(weights, number):
    bad = ~(weights >= 0)  # NaN, too.
    if bad.any():
        where = np.unravel_index(np.argmax(bad), bad.shape)
        place = ", ".join(map(str, where))
        raise ValueError(
            "The weights of `data` must be numbers of at least 0. Received: "
            f"{weights[where]} at [{place}] of batch {number}"
        )


def _to_numpy(value):
    return keras.ops.convert_to_numpy(value)
