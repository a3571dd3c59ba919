"""Side information of items."""

import dataclasses

import numpy as np
import pandas as pd

from keras_unirec.schema import reading
from keras_unirec.schema._arguments import check_name
from keras_unirec.schema._arguments import set_features
from keras_unirec.schema._config import Config
from keras_unirec.schema._feature import Table
from keras_unirec.schema._table_data import TableData
from keras_unirec.schema.categorical import Categorical
from keras_unirec.schema.numerical import Numerical


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ItemTable(Table, Config):
    """Side information of ids, joined to candidates and to histories.

    A feature `f` of the table of a categorical `c` becomes the input `c.f`. An
    id that the table does not list gets unknown ids and average numbers.

    Args:
        data: `pandas.DataFrame`, or dict of arrays.
        key: string. The column of `data` that holds the ids, each once.
        features: list of `Categorical` and `Numerical`, columns of `data`.
    """

    data: object
    key: str
    features: tuple

    def __post_init__(self):
        check_name(self.key, "key")
        set_features(self, "features", (Categorical, Numerical))
        if not self.features:
            raise ValueError(
                "`features` of `ItemTable` must name at least one column of "
                "`data`. Received: features=()"
            )
        for feature in self.features:
            if feature.table is not None:
                raise ValueError(
                    f"`table` of `Categorical({feature.name!r})` must be None: "
                    "features of an `ItemTable` carry no table themselves. "
                    f"Received: {feature.table}"
                )
        if not isinstance(self.data, TableData):
            object.__setattr__(self, "data", self._read())

    def _read(self):
        data = self.data
        if isinstance(data, dict):
            data = pd.DataFrame(
                {k: pd.Series(list(v)) for k, v in data.items()}
            )
        if not isinstance(data, pd.DataFrame):
            raise ValueError(
                "`data` of `ItemTable` must be a data frame or a dict of "
                f"arrays. Received: {type(self.data).__name__}"
            )
        names = [self.key, *(feature.name for feature in self.features)]
        reading.check_columns(data.columns, names, "an `ItemTable`")
        if not len(data):
            raise ValueError(
                f"`data` of `ItemTable(key={self.key!r})` must have rows. "
                "Received: an empty table"
            )
        rows = reading.Rows(data.index)
        columns = {}
        for feature in (Categorical(self.key, 1), *self.features):
            is_number = isinstance(feature, Numerical)
            column = reading.read(
                reading.from_frame(data, feature.name),
                feature.name,
                "float" if is_number else "category",
                feature.depth,
                rows,
            )
            if is_number:
                reading.check_finite(column, feature.name, rows)
            columns[feature.name] = column
        keys = columns[self.key]
        if keys.missing.any():
            raise ValueError(
                f"Key column `{self.key}` of `ItemTable` must have no missing "
                f"keys (None or ''). Received: a missing key in "
                f"{rows.name(np.argmax(keys.missing))}"
            )
        order = np.argsort(keys.values, kind="stable")
        repeats = np.flatnonzero(np.diff(keys.values[order]) == 0)
        if len(repeats):
            first, second = order[repeats[0] : repeats[0] + 2]
            raise ValueError(
                f"Key column `{self.key}` of `ItemTable` must hold each key "
                f"once: `drop_duplicates({self.key!r})` keeps the first row of "
                f"each. Received: {keys.value(first)!r} in "
                f"{rows.name(first)} and in {rows.name(second)}"
            )
        return TableData(columns)
