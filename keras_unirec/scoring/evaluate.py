import dataclasses

import pandas as pd

from keras_unirec import metrics as metric_lib
from keras_unirec.schema import reading
from keras_unirec.scoring._one_pass import dataset_of
from keras_unirec.scoring._one_pass import is_paths
from keras_unirec.scoring._one_pass import returns_logits
from keras_unirec.scoring._one_pass import run
from keras_unirec.scoring._one_pass import schema_of
from keras_unirec.scoring.report import COUNTS
from keras_unirec.scoring.report import METRICS
from keras_unirec.scoring.report import EvaluationReport


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
    schema = schema_of(model)
    if not schema.labels:
        raise ValueError(
            "`model.schema` must have labels to evaluate. Received: none"
        )
    if isinstance(data, pd.DataFrame) or is_paths(data):
        known = _without_absent_ids(schema, data)
        data = dataset_of(data, known, batch_size, labels=True)
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
    rows = run(model, data)
    if rows.labels is None:
        raise ValueError(
            "`data` must have labels to evaluate. Received: a dataset of "
            "inputs alone (made with `labels=False`)"
        )
    from_logits = returns_logits(model)
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
    order = [*METRICS, *COUNTS]
    return {name: values[name] for name in order}, notes


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
