"""How a model is made: its arguments recorded once, its halves traced."""

import difflib
import inspect
import itertools

import keras
import numpy as np

from keras_unirec.applications.roles import ROLES
from keras_unirec.layers import _parts

# Recorded as what the model has, not as what it was given.
_OWN = ("schema", "dtype", "name", "trainable")


class Construction(type(keras.Model)):
    """Binds the arguments of a model before it is made, traces it after."""

    def __call__(cls, *args, **kwargs):
        known = model_arguments(cls)
        kwargs = {**_defaults(cls, len(args)), **kwargs}
        for name in kwargs:
            if name not in known:
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
        serialized, error = {}, None
        for name, value in arguments.items():
            try:
                serialized[name] = _parts.serialized(value)
            except Exception as caught:  # The model may say more of it.
                error = error or (name, value, caught)
            else:
                _check_registered(name, value, serialized[name])
        model = super().__call__(*args, **kwargs)
        if error is not None:
            name, value, caught = error
            raise ValueError(
                f"`{name}` must be a value that Keras can write into a file. "
                f"Received: {name}={value!r}: {caught}"
            ) from caught
        model._arguments = serialized
        model._connect()
        return model


def _check_registered(name, value, config):
    """A file of the model names the classes; Keras must find them by that."""
    if isinstance(config, (list, tuple)):
        for each in config:
            _check_registered(name, value, each)
    if not isinstance(config, dict):
        return
    registered = config.get("registered_name")
    if "class_name" in config and registered is not None:
        keras_own = str(config.get("module")).partition(".")[0] == "keras"
        found = keras.saving.get_registered_object(registered)
        if found is None and not keras_own:
            raise ValueError(
                f"`{name}` must be what a saved model can be loaded with: put "
                '`@keras.saving.register_keras_serializable(package="mine")` '
                f"on `{registered}`. Received: {name}={value!r}, which is not "
                "registered"
            )
    for each in config.values():
        _check_registered(name, value, each)


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
    line = line_of(name, kwargs[name], {**known, **kwargs})
    if line is not None:
        argument, code = line
        hint = f" It is an option of a `{argument}`: `{argument}={code}`."
    elif not near:
        hint = (
            " Options are those of its parts, "
            f"{sorted(set(known) & set(ROLES))}: docs/parts.md says where "
            "those of earlier versions went."
        )
    return (
        f"`{cls.__name__}` has no argument `{name}`.{hint} "
        f"Received: {name}={kwargs[name]!r}"
    )


def line_of(option, value, arguments):
    """What to write to give a model an option of one of its parts.

    Args:
        option: str, as `"kv_mode"`.
        value: Value of the option.
        arguments: dict. Arguments of the model.

    Returns:
        Tuple of the argument and the part as code, or None. The part is the
        one among the arguments that has the option, else one that the argument
        could be, with the options that the part has already.
    """
    roles = {name: ROLES[name] for name in arguments if name in ROLES}
    given = [
        (name, _layer(roles[name], name, arguments[name])) for name in roles
    ]
    possible = [(n, made) for n, role in roles.items() for made in role.all()]
    for parts, open_too, inside in itertools.product(
        (given, possible), (False, True), (False, True)
    ):
        for argument, part in parts:
            code = _parts.with_option(part, option, value, inside, open_too)
            if code is not None:
                return argument, code
    return None


def _layer(role, argument, part):
    """The layer that an argument stands for; None if it is none."""
    try:
        return role.make(argument, part)
    except ValueError:
        return None


def without_numpy(value):
    """Numbers and arrays of a hyperparameter search, as Python has them."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: without_numpy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_numpy(item) for item in value)
    return value
