"""The rows of an `ItemTable`, and arrays as JSON."""

import base64
import json
import zlib

import numpy as np

from keras_unirec.schema import reading


class TableData:
    """The columns of an `ItemTable`: name -> `Column`."""

    def __init__(self, columns):
        self.columns = columns

    def __getitem__(self, name):
        return self.columns[name]

    def __len__(self):
        return next(iter(self.columns.values())).num_rows

    def __eq__(self, other):
        return isinstance(other, TableData) and self.columns == other.columns

    __hash__ = None

    def __repr__(self):
        return f"<{len(self)} rows of {list(self.columns)}>"

    def get_config(self):
        columns = {}
        for name, column in self.columns.items():
            columns[name] = {
                "kind": column.kind,
                "values": pack(column.values),
            }
            if column.offsets:
                columns[name]["offsets"] = [pack(o) for o in column.offsets]
            if column.kind == "string":
                columns[name]["dictionary"] = pack(column.dictionary)
        return {"columns": columns}

    @classmethod
    def from_config(cls, config):
        columns = {}
        for name, column in config["columns"].items():
            dictionary = column.get("dictionary")
            columns[name] = reading.Column(
                column["kind"],
                unpack(column["values"]),
                tuple(unpack(o) for o in column.get("offsets", ())),
                dictionary and unpack(dictionary),
            )
        return cls(columns)


def pack(array):
    """An array as JSON: compressed bytes and their dtype."""
    if array.dtype == object:
        dtype, data = "string", json.dumps(list(array)).encode()
    else:
        array = array.astype(array.dtype.newbyteorder("<"))
        dtype, data = array.dtype.name, array.tobytes()
    packed = base64.b64encode(zlib.compress(data, 6)).decode("ascii")
    return {"dtype": dtype, "packed": packed}


def unpack(config):
    """The array that `pack` wrote."""
    data = zlib.decompress(base64.b64decode(config["packed"]))
    if config["dtype"] == "string":
        return np.array(json.loads(data), dtype=object)
    dtype = np.dtype(config["dtype"]).newbyteorder("<")
    return np.frombuffer(data, dtype).astype(config["dtype"])
