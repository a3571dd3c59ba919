"""What the weights of a ranking model mean."""

import base64
import hashlib
import json
import zlib

import numpy as np

from keras_unirec.applications.roles import ROLES
from keras_unirec.layers import _parts

# They group and score rows; a model does not see them.
_NOT_SEEN = ("type", "group_id", "request_id")


def meaning(model):
    """What gives the weights of a model their meaning, as plain values.

    Args:
        model: `RankingModel`.

    Returns:
        Nested dict: the class, the columns of the schema, the arguments that
        are no parts, and the parts as they were made. Where None stands,
        something else decides.
    """
    no_meaning = (*ROLES, "default_recipe", "output_activation")
    return {
        "class": type(model).__name__,
        "column": _columns(model.schema),
        "argument": {
            # What a model made of an argument: `dim=None` is a number there.
            name: _joined(_plain(vars(model).get(name, value)))
            for name, value in model._arguments.items()
            if name not in no_meaning
        },
        "part": {
            argument: _joined(_part(argument, made))
            for argument, made in model._made.items()
        },
    }


def _part(argument, made):
    """A part by its copies: those of each time that the model made some."""
    if not isinstance(made, list):  # Another part made them.
        return _parts.meaning_of_copies(made.made[argument])
    return {
        getattr(copies[0], "name", "none"): _parts.meaning_of_copies(copies)
        for copies in made
    }


def _joined(value):
    """A dict by history whose values are all equal, as one value."""
    if isinstance(value, (list, tuple)):
        return [_joined(each) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: _joined(each) for key, each in value.items()}
    first, *others = value.values() or [None]
    if value and "class" not in value and all(x == first for x in others):
        return first
    return value


def _columns(schema):
    """The columns of a schema by what a message calls them."""
    columns = {}
    for group, value in _plain(schema.get_config()).items():
        if group in _NOT_SEEN:
            continue
        if isinstance(value, list):
            columns[f"order of {group}"] = [each["name"] for each in value]
            columns.update({each["name"]: each for each in value})
        else:
            columns[group] = value
    for name, embedding in schema.embeddings.items():
        if name in columns:  # Chosen, or given: the same.
            columns[name]["embedding_dim"] = embedding.dim
    return columns


def _plain(value):
    """A config as plain values; learned arrays as their number and a digest."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "packed" in value:
        return _digest(**value)
    if value.get("class_name") == "__tuple__":
        return _plain(value["config"]["value"])
    return {str(key): _plain(each) for key, each in value.items()}


def _digest(dtype, packed):
    data = zlib.decompress(base64.b64decode(packed))
    number = (
        len(json.loads(data))
        if dtype == "string"
        else len(data) // np.dtype(dtype).itemsize
    )
    return f"{number} values, {hashlib.sha256(data).hexdigest()[:12]}"
