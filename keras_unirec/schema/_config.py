"""What the parts of a schema have in common: equality, printing and JSON."""

import dataclasses
import json

import numpy as np

from keras_unirec.schema._arguments import short
from keras_unirec.schema._table_data import TableData
from keras_unirec.schema._table_data import pack
from keras_unirec.schema._table_data import unpack

_CLASSES = {}


class Config:
    """Equality, printing and JSON of the parts of a schema."""

    def __init_subclass__(cls):
        _CLASSES[cls.__name__] = cls

    def arguments(self):
        """Returns the arguments that differ from their defaults, by name."""
        arguments = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if isinstance(value, np.ndarray) or value != field.default:
                arguments[field.name] = value
        return arguments

    def get_config(self):
        config = {"type": type(self).__name__}
        for name, value in self.arguments().items():
            config[name] = _to_json(value)
        return config

    @classmethod
    def from_config(cls, config):
        return _from_json({"type": cls.__name__, **config})

    @classmethod
    def unflatten(cls, config):
        """Returns a config with a key per argument, if `get_config` did not."""
        return config

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return self.get_config() == other.get_config()

    def __hash__(self):
        return hash(json.dumps(self.get_config(), sort_keys=True))

    def __repr__(self):
        parts = [
            f"{name}={_code(value)}" for name, value in self.arguments().items()
        ]
        return _bracketed(f"{type(self).__name__}(", parts, ")")


# --- Printing ---


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
    if isinstance(value, (Config, TableData)):
        return value.get_config()
    if isinstance(value, (list, tuple)):
        return [_to_json(element) for element in value]
    if isinstance(value, np.ndarray):
        return pack(value)
    return value


def _from_json(value):
    if isinstance(value, list):
        return tuple(_from_json(element) for element in value)
    if not isinstance(value, dict):
        return value
    if "packed" in value:
        return unpack(value)
    if "columns" in value:
        return TableData.from_config(value)
    config = dict(value)
    name = config.pop("type", None)
    if name not in _CLASSES:
        raise ValueError(
            f"`config` must be the configuration of one of {list(_CLASSES)}. "
            f"Received: type={name!r}"
        )
    config = _CLASSES[name].unflatten(config)
    known = {field.name for field in dataclasses.fields(_CLASSES[name])}
    unknown = set(config) - known
    if unknown:
        raise ValueError(
            f"`config` of `{name}` must have the keys {sorted(known)} only. "
            f"Received: {sorted(unknown)}"
        )
    return _CLASSES[name](**{k: _from_json(v) for k, v in config.items()})
