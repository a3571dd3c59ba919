"""What `evaluate` returns: a table of metrics."""

import collections.abc

import pandas as pd

METRICS = (
    "auc",
    "uauc",
    "gauc",
    "query_auc",
    "logloss",
    "normalized_entropy",
    "calibration",
)
COUNTS = (
    "rows",
    "positives",
    "users_ranked",
    "users_skipped",
    "requests_ranked",
    "requests_skipped",
)


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
        counts = {name: "int64" for name in COUNTS}
        return frame[[*METRICS, *COUNTS]].astype(counts)

    def __repr__(self):
        table = self._table().to_string(float_format="{:.4f}".format)
        return "\n".join([table, *self._note_lines()])

    def _repr_html_(self):
        table = self._table().to_html(float_format="{:.4f}".format)
        notes = "".join(f"<p>{line}</p>" for line in self._note_lines())
        return f"<div>{table}{notes}</div>"

    def _table(self):
        frame = self.to_frame()[[*METRICS, "rows"]]
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
