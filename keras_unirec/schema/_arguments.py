"""Checks of the arguments of the parts of a schema."""

import numpy as np


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


def _part(config):
    """Names a part of a schema: `Categorical('tab')`, or `Hash`."""
    kind, name = type(config).__name__, getattr(config, "name", None)
    return f"`{kind}`" if name is None else f"`{kind}({name!r})`"


def check_choice(config, argument, choices):
    value = getattr(config, argument)
    if value not in choices:
        raise ValueError(
            f"`{argument}` of {_part(config)} must "
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
            f"`{argument}` of {_part(config)} must "
            f"be a positive integer. Received: {argument}={value!r}"
        )
    object.__setattr__(config, argument, int(value))


def check_number(config, argument):
    value = getattr(config, argument)
    if not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise ValueError(
            f"`{argument}` of {_part(config)} must "
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


def short(value):
    if isinstance(value, np.ndarray):
        return f"<{len(value)} values>"
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
