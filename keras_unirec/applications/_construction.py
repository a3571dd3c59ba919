"""How a model is made: its arguments recorded once, its halves traced."""

import difflib
import inspect

import keras
import numpy as np

from keras_unirec.layers import _parts

# Recorded as what the model has, not as what it was given.
_OWN = ("schema", "dtype", "name", "trainable")


class Construction(type(keras.Model)):
    """Binds the arguments of a model before it is made, traces it after."""

    def __call__(cls, *args, **kwargs):
        known = model_arguments(cls)
        kwargs = {**_defaults(cls, len(args)), **kwargs}
        for name in set(kwargs) - set(known):
            raise ValueError(_unknown(cls, known, name, kwargs))
        signature = inspect.signature(cls.__init__)
        bound = signature.bind(None, *args, **kwargs)
        given = {}
        for name, value in list(bound.arguments.items())[1:]:
            kind = signature.parameters[name].kind
            given.update(value if kind is kind.VAR_KEYWORD else {name: value})
        arguments = {
            name: given.get(name, default)
            for name, default in known.items()
            if name not in _OWN
        }
        # Now: a part that is given may be built, or changed, later on.
        serialized = {
            name: keras.saving.serialize_keras_object(value)
            for name, value in arguments.items()
        }
        model = super().__call__(*args, **kwargs)
        model._arguments = serialized
        model._connect()
        return model


def _defaults(cls, num_positional):
    """The `defaults` of a family that are not given by position."""
    names = list(inspect.signature(cls.__init__).parameters)[1:]
    given = names[:num_positional]
    return {k: v for k, v in cls.defaults.items() if k not in given}


def model_arguments(cls):
    """The arguments of a model and their defaults, the family's own first."""
    found = {}
    for base in cls.__mro__:
        if base is keras.Model:
            break
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            for parameter in list(parameters)[1:]:
                if parameter.kind is not parameter.VAR_KEYWORD:
                    found.setdefault(parameter.name, parameter.default)
    return {**found, "name": None, "trainable": True, **cls.defaults}


def _unknown(cls, known, name, kwargs):
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    owner = owner_of(name, {**known, **kwargs})
    if owner is not None:
        hint = (
            f" It is one of its `{owner[0]}`: "
            f"`{owner[0]}={_with(owner[1], name, kwargs[name])}`."
        )
    return (
        f"`{cls.__name__}` has no argument `{name}`.{hint} "
        f"Received: {name}={kwargs[name]!r}"
    )


def owner_of(name, arguments):
    """The part among some arguments that an option belongs to.

    Args:
        name: str. An option, as `"kv_mode"`.
        arguments: dict. Arguments of a model.

    Returns:
        Tuple of the argument and the part (or a class that could be it), or
        None.
    """
    from keras_unirec.applications.roles import ROLES

    layers = {
        argument: ROLES[argument].layer(value)
        for argument, value in arguments.items()
        if argument in ROLES
    }
    for argument, layer in layers.items():
        if layer is not None and name in _parts.arguments(type(layer)):
            return argument, layer
    for argument in layers:
        for cls in ROLES[argument].classes():
            if name in _parts.arguments(cls):
                return argument, cls
    return None


def _with(part, name, value):
    """The line that gives a part one more argument."""
    if isinstance(part, type):
        return _parts.line(part, **{name: value})
    return _parts.written(part, **{name: value})


def without_numpy(value):
    """Numbers and arrays of a hyperparameter search, as Python has them."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: without_numpy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_numpy(item) for item in value)
    return value
