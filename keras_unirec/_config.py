"""What the parts of a schema have in common: JSON and checks of arguments."""

import base64
import dataclasses
import json
import zlib

import numpy as np

from keras_unirec import _columns

_CLASSES = {}


class Config:
    """Equality, printing and JSON of the parts of a schema."""

    def __init_subclass__(cls):
        _CLASSES[cls.__name__] = cls

    def get_config(self):
        config = {"type": type(self).__name__}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None or (
                field.default is not dataclasses.MISSING
                and not isinstance(value, np.ndarray)
                and value == field.default
            ):
                continue
            config[field.name] = _to_json(value)
        return config

    @classmethod
    def from_config(cls, config):
        return _from_json({"type": cls.__name__, **config})

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return self.get_config() == other.get_config()

    def __hash__(self):
        return hash(json.dumps(self.get_config(), sort_keys=True))

    def __repr__(self):
        parts = [
            f"{field.name}={_code(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not None
            and (
                isinstance(getattr(self, field.name), np.ndarray)
                or getattr(self, field.name) != field.default
            )
        ]
        return _bracketed(f"{type(self).__name__}(", parts, ")")


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


# --- Checks of arguments ---


def check_name(name, argument):
    if (
        not isinstance(name, str)
        or not name
        or "/" in name
        or name.startswith("__")
    ):
        raise ValueError(
            f"`{argument}` must be the name of a column: a string that is not "
            "empty, has no '/' and does not start with '__'. "
            f"Received: {argument}={name!r}"
        )


def check_choice(config, argument, choices):
    value = getattr(config, argument)
    if value not in choices:
        raise ValueError(
            f"`{argument}` of `{type(config).__name__}({config.name!r})` must "
            f"be one of {list(choices)}. Received: {argument}={value!r}"
        )


def check_positive(config, argument, required=False):
    value = getattr(config, argument)
    if value is None and not required:
        return
    if (
        not isinstance(value, (int, np.integer))
        or isinstance(value, bool)
        or value < 1
    ):
        raise ValueError(
            f"`{argument}` of `{type(config).__name__}({config.name!r})` must "
            f"be a positive integer. Received: {argument}={value!r}"
        )
    object.__setattr__(config, argument, int(value))


def check_number(config, argument):
    value = getattr(config, argument)
    if not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise ValueError(
            f"`{argument}` of `{type(config).__name__}({config.name!r})` must "
            f"be a finite number. Received: {argument}={value!r}"
        )
    object.__setattr__(config, argument, float(value))


def set_features(config, argument, types):
    value = getattr(config, argument)
    names = " or ".join(f"`{t.__name__}`" for t in types)
    if not isinstance(value, (list, tuple)):
        raise ValueError(
            f"`{argument}` must be a list of {names}. "
            f"Received: {argument}={value!r}"
        )
    for element in value:
        if not isinstance(element, types):
            raise ValueError(
                f"`{argument}` must hold {names} only. Received: {element!r}"
            )
    object.__setattr__(config, argument, tuple(value))


def check_unique(names, what):
    seen = set()
    for name in names:
        if name in seen:
            raise ValueError(
                f"The {what} must have different names: rename the feature or "
                f"the sequence. Received: {name!r} twice"
            )
        seen.add(name)


def short(value):
    if isinstance(value, np.ndarray):
        return f"<{len(value)} values>"
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _code(value):
    """A value as Python; arrays are only counted."""
    if isinstance(value, tuple):
        return _bracketed("[", [_code(element) for element in value], "]")
    return short(value) if isinstance(value, np.ndarray) else repr(value)


def _bracketed(before, parts, after):
    """Joins on one line, or where that is long, on one line each."""
    line = before + ", ".join(parts) + after
    if len(line) <= 72 and "\n" not in line:
        return line
    parts = [part.replace("\n", "\n    ") for part in parts]
    return before + "".join(f"\n    {part}," for part in parts) + "\n" + after


# --- JSON ---


def _to_json(value):
    if isinstance(value, Config):
        return value.get_config()
    if isinstance(value, (list, tuple)):
        return [_to_json(element) for element in value]
    if isinstance(value, np.ndarray):
        return _pack(value)
    if isinstance(value, TableData):
        columns = {}
        for name, column in value.columns.items():
            columns[name] = {
                "kind": column.kind,
                "values": _pack(column.values),
            }
            if column.offsets:
                columns[name]["offsets"] = [_pack(o) for o in column.offsets]
            if column.kind == "string":
                columns[name]["dictionary"] = _pack(column.dictionary)
        return {"columns": columns}
    return value


def _from_json(value):
    if isinstance(value, list):
        return tuple(_from_json(element) for element in value)
    if not isinstance(value, dict):
        return value
    if "packed" in value:
        return _unpack(value)
    if "columns" in value:
        columns = {}
        for name, column in value["columns"].items():
            dictionary = column.get("dictionary")
            columns[name] = _columns.Column(
                column["kind"],
                _unpack(column["values"]),
                tuple(_unpack(o) for o in column.get("offsets", ())),
                dictionary and _unpack(dictionary),
            )
        return TableData(columns)
    config = dict(value)
    name = config.pop("type", None)
    if name not in _CLASSES:
        raise ValueError(
            f"`config` must be the configuration of one of {list(_CLASSES)}. "
            f"Received: type={name!r}"
        )
    known = {field.name for field in dataclasses.fields(_CLASSES[name])}
    unknown = set(config) - known
    if unknown:
        raise ValueError(
            f"`config` of `{name}` must have the keys {sorted(known)} only. "
            f"Received: {sorted(unknown)}"
        )
    return _CLASSES[name](**{k: _from_json(v) for k, v in config.items()})


def _pack(array):
    if array.dtype == object:
        dtype, data = "string", json.dumps(list(array)).encode()
    else:
        array = array.astype(array.dtype.newbyteorder("<"))
        dtype, data = array.dtype.name, array.tobytes()
    packed = base64.b64encode(zlib.compress(data, 6)).decode("ascii")
    return {"dtype": dtype, "packed": packed}


def _unpack(config):
    data = zlib.decompress(base64.b64decode(config["packed"]))
    if config["dtype"] == "string":
        return np.array(json.loads(data), dtype=object)
    dtype = np.dtype(config["dtype"]).newbyteorder("<")
    return np.frombuffer(data, dtype).astype(config["dtype"])
