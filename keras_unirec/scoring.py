"""Predicting a table of rows, and measuring how good that is."""

import collections.abc
import dataclasses
import os

import keras
import numpy as np
import pandas as pd

from keras_unirec import data as data_lib
from keras_unirec import metrics as metric_lib
from keras_unirec.metrics.log_loss import sigmoid
from keras_unirec.schema import reading

_METRICS = (
    "auc",
    "uauc",
    "gauc",
    "query_auc",
    "logloss",
    "normalized_entropy",
    "calibration",
)
_COUNTS = (
    "rows",
    "positives",
    "users_ranked",
    "users_skipped",
    "requests_ranked",
    "requests_skipped",
)


def predict(model, data, batch_size=1024):
    """Predicts probabilities for the rows of a table.

    The result does not depend on `batch_size`, nor on the other rows.

    Args:
        model: A model of `keras_unirec.applications`, or any `keras.Model`
            with a `schema` that maps the encoded inputs to a dict of logits
            `(R, C)` by label (probabilities if its `output_activation` is
            `"sigmoid"`).
        data: `pandas.DataFrame` with the columns of `model.schema`, labels
            not needed; or the path of a Parquet file, of a folder of them, a
            glob, or a list of those, which are streamed.
        batch_size: int. Rows of a step. Defaults to `1024`.

    Returns:
        `pandas.DataFrame` of float32 with one column per label, on the index
        of `data` (for Parquet, numbered from 0).

    Example:
    ```python
    ku.predict(model, df)["is_click"].sort_values()
    ```
    """
    schema = _schema(model)
    if isinstance(data, pd.DataFrame):
        index = data.index
    elif _is_paths(data):
        index = None
    else:
        outputs = "logits" if _from_logits(model) else "probabilities"
        raise ValueError(
            "`data` must be a data frame or the path of Parquet files (for a "
            f"dataset, `model.predict(dataset)` returns {outputs}). "
            f"Received: {type(data).__name__}"
        )
    dataset = _dataset(data, schema, batch_size, labels=False)
    rows = _run(model, dataset)
    return pd.DataFrame(
        {
            name: _probabilities(model, rows.outputs[name]).astype("float32")
            for name in schema.label_names
        },
        index=index,
    )


def evaluate(model, data, batch_size=1024):
    """Measures a model exactly: ranks over all rows, not thresholds.

    - `auc`: over all rows;
    - `uauc`, `gauc`: per value of the schema's `group_id`, each counting the
      same, or as often as it has rows;
    - `query_auc`: per value of the schema's `request_id`;
    - `logloss`, in nats, and `normalized_entropy`, which divides it by that
      of the mean label;
    - `calibration`: mean prediction divided by mean label.

    Groups and requests whose labels are all equal cannot be ranked; they are
    skipped and counted. A metric that cannot be computed is `nan`, and
    `report.notes` says why: a frame needs neither `group_id` nor `request_id`
    for the others. Candidates of weight 0, which are padding, do not
    count.

    On GAUC with histories that grow inside of the test window, see
    `keras_unirec.metrics.gauc`.

    Args:
        model: As for `predict`.
        data: A dataset of `keras_unirec.data`, read once and in any order;
            or, as for `predict`, a data frame or the path of Parquet files.
        batch_size: int. Rows of a step where `data` is not a dataset.
            Defaults to `1024`.

    Returns:
        An `EvaluationReport`.

    Example:
    ```python
    report = ku.evaluate(model, validation)
    print(report)
    report["is_click"]["auc"]
    ```
    """
    schema = _schema(model)
    if not schema.labels:
        raise ValueError(
            "`model.schema` must have labels to evaluate. Received: none"
        )
    if isinstance(data, pd.DataFrame) or _is_paths(data):
        known = _without_absent_ids(schema, data)
        data = _dataset(data, known, batch_size, labels=True)
    elif not hasattr(data, "element_spec"):
        raise ValueError(
            "`data` must be a dataset of `keras_unirec.data`, a data frame or "
            f"the path of Parquet files. Received: {type(data).__name__}"
        )
    elif int(data.cardinality()) == -1:
        raise ValueError(
            "`data` must come to an end. Received: an infinite dataset, such "
            "as `repeat()` makes"
        )
    rows = _run(model, data)
    if rows.labels is None:
        raise ValueError(
            "`data` must have labels to evaluate. Received: a dataset of "
            "inputs alone (made with `labels=False`)"
        )
    from_logits = _from_logits(model)
    values, notes = {}, {}
    for name in schema.label_names:
        values[name], notes[name] = _measure(
            rows.labels[name],
            rows.outputs[name],
            rows.groups,
            rows.requests,
            from_logits,
            schema,
        )
    return EvaluationReport(values, notes)


class EvaluationReport(collections.abc.Mapping):
    """Metrics by label: what `evaluate` returns.

    `report["is_click"]["auc"]` is one number, `report.to_frame()` all of
    them; printed, and at the end of a notebook cell, it is a table.

    Attributes:
        notes: dict. By label, by metric, why that metric is `nan`.
    """

    def __init__(self, values, notes):
        self._values = values
        self.notes = notes

    def __getitem__(self, label):
        if label not in self._values:
            raise KeyError(
                f"No label {label!r}; the report has {list(self._values)}"
            )
        return self._values[label]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    def to_frame(self):
        """Returns a `pandas.DataFrame`: a row per label, a column a metric.

        The last columns count rows, positive rows, and the groups (`users_`)
        and requests that could be ranked or had to be skipped.
        """
        frame = pd.DataFrame.from_dict(self._values, orient="index")
        frame.index.name = "label"
        counts = {name: "int64" for name in _COUNTS}
        return frame[[*_METRICS, *_COUNTS]].astype(counts)

    def __repr__(self):
        table = self._table().to_string(float_format="{:.4f}".format)
        return "\n".join([table, *self._note_lines()])

    def _repr_html_(self):
        table = self._table().to_html(float_format="{:.4f}".format)
        notes = "".join(f"<p>{line}</p>" for line in self._note_lines())
        return f"<div>{table}{notes}</div>"

    def _table(self):
        frame = self.to_frame()[[*_METRICS, "rows"]]
        frame.index.name = None
        frame["rows"] = frame["rows"].map("{:,}".format)
        return frame

    def _note_lines(self):
        # Labels that share a note share its line.
        labels = {}
        for label, notes in self.notes.items():
            for metric, note in notes.items():
                labels.setdefault((metric, note), []).append(label)
        return [
            f"{metric} ({', '.join(names)}): {note}"
            for (metric, note), names in labels.items()
        ]


class _Rows:
    """Flat arrays over all real candidates."""

    def __init__(self, outputs, labels, groups, requests):
        self.outputs = outputs
        self.labels = labels
        self.groups = groups
        self.requests = requests


def _run(model, dataset):
    """Scores a dataset in one pass."""
    names = model.schema.label_names
    score = _score_function(model)
    outputs = {name: [] for name in names}
    labels = {name: [] for name in names}
    groups, requests = [], []
    for batch in dataset:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        inputs = {k: v for k, v in x.items() if not k.startswith("__")}
        predictions = score(inputs)
        _check_outputs(predictions, names)
        predictions = {name: _numpy(predictions[name]) for name in names}
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
            real = np.broadcast_to(_numpy(weights) > 0, shape)
        for name in names:
            outputs[name].append(predictions[name][real])
            if y is not None:
                labels[name].append(_numpy(y[name])[real])
        for key, found in (
            ("__group_id__", groups),
            ("__request_id__", requests),
        ):
            if key in x:
                ids = _numpy(x[key])[:, None]
                found.append(np.broadcast_to(ids, shape)[real])
    if not outputs[names[0]]:
        raise ValueError("`data` must have rows. Received: no batches")
    return _Rows(
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
            {key: _numpy(value) for key, value in x.items()}
        )
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return model.predict_on_batch
    # Each replica would score the whole batch: score it once instead.
    import tensorflow as tf

    return tf.function(
        lambda x: model(x, training=False), reduce_retracing=True
    )


def _measure(labels, outputs, groups, requests, from_logits, schema):
    """Computes the metrics of one label: values, and notes where `nan`."""
    values, notes = {}, {}

    def add(name, function, *args, **kwargs):
        try:
            values[name] = function(labels, outputs, *args, **kwargs)
        except ValueError as error:
            values[name] = float("nan")
            notes[name] = str(error)

    def add_grouped(names, ids, column, counts):
        ranked = skipped = 0
        for name, weighting in names.items():
            values[name] = float("nan")
            if ids is None:
                given = getattr(schema, column)
                notes[name] = (
                    f"the schema has no `{column}`"
                    if given is None
                    else f"the data has no column `{given}`, the `{column}`"
                )
                continue
            try:
                result = metric_lib.grouped_auc(labels, outputs, ids, weighting)
            except ValueError as error:
                notes[name] = str(error)
                continue
            values[name], ranked, skipped = result
            if ranked == 0:
                notes[name] = (
                    f"none of the {skipped:,} values of `{column}` has rows "
                    "of both classes"
                )
        values[f"{counts}_ranked"] = ranked
        values[f"{counts}_skipped"] = skipped

    add("auc", metric_lib.auc)
    add_grouped(
        {"uauc": "user", "gauc": "impressions"}, groups, "group_id", "users"
    )
    add_grouped({"query_auc": "user"}, requests, "request_id", "requests")
    for name in ("logloss", "normalized_entropy", "calibration"):
        add(name, getattr(metric_lib, name), from_logits=from_logits)
    values["rows"] = len(labels)
    values["positives"] = int((labels > 0.5).sum())
    order = [*_METRICS, *_COUNTS]
    return {name: values[name] for name in order}, notes


def _dataset(data, schema, batch_size, labels):
    if isinstance(data, pd.DataFrame):
        return data_lib.from_pandas(
            data, schema, batch_size=batch_size, labels=labels
        )
    return data_lib.from_parquet(
        data, schema, batch_size=batch_size, labels=labels
    )


def _without_absent_ids(schema, data):
    """The schema without the ids of grouped metrics that the data lacks."""
    if isinstance(data, pd.DataFrame):
        present = {str(name) for name in data.columns}
    else:
        files = reading.open_files(data, ())
        names = [f.metadata.schema.to_arrow_schema().names for f in files]
        present = set().union(*names)
    absent = {
        argument: None
        for argument in ("group_id", "request_id")
        if getattr(schema, argument) not in present
    }
    return dataclasses.replace(schema, **absent)


def _is_paths(data):
    if isinstance(data, (list, tuple)):
        return bool(data) and all(_is_paths(path) for path in data)
    return isinstance(data, (str, os.PathLike))


def _schema(model):
    schema = getattr(model, "schema", None)
    if schema is None:
        raise ValueError(
            "`model` must have the `schema` that its data is read with, as "
            "the models of `keras_unirec.applications` do. "
            f"Received: {type(model).__name__}"
        )
    return schema


def _check_outputs(outputs, names):
    if not isinstance(outputs, dict) or not set(names) <= set(outputs):
        found = sorted(outputs) if isinstance(outputs, dict) else outputs
        raise ValueError(
            f"`model` must return a dict with the labels {list(names)}. "
            f"Received: {found}"
        )


def _from_logits(model):
    return getattr(model, "output_activation", None) != "sigmoid"


def _probabilities(model, outputs):
    return sigmoid(outputs) if _from_logits(model) else outputs


def _numpy(value):
    return keras.ops.convert_to_numpy(value)
