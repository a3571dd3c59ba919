"""Parts: layers that are given by name, or as a prototype to copy."""

import difflib
import inspect

import keras

# Arguments that change how a layer computes, not what its weights mean.
_NO_MEANING = (
    "name",
    "trainable",
    "dtype",
    "seed",
)
_OF_TRAINING = ("initializer", "regularizer", "constraint")


@keras.saving.register_keras_serializable(package="keras_unirec")
class Shared:
    """One part for all blocks of a model, in place of a copy for each.

    Args:
        part: Name of a part, or a layer without weights yet.

    Example:
    ```python
    # The ablation "PL-FFN -> FFN" of MixFormer: one network for all events.
    encoder = keras_unirec.layers.Shared("swiglu")
    model = keras_unirec.applications.MixFormer(schema, encoder=encoder)
    ```
    """

    def __init__(self, part):
        if not isinstance(part, (str, keras.layers.Layer)):
            raise ValueError(
                "`part` must be the name of a part or a layer. "
                f"Received: part={part!r}"
            )
        self.part = part

    def __repr__(self):
        return written(self)

    def get_config(self):
        return {"part": keras.saving.serialize_keras_object(self.part)}

    @classmethod
    def from_config(cls, config):
        return cls(**deserialized(config, "part"))


class Composite(keras.layers.Layer):
    """A layer with parts, whose configs are in its own.

    A subclass names them in `parts`; each is an attribute of the same name: a
    layer, None, or a dict of layers by history.
    """

    parts = ()

    def get_config(self):
        config = super().get_config()
        for name in self.parts:
            part = getattr(self, name)
            # Where Keras saves a model, it gives what two layers share an id,
            # from the second time on that it sees it. What it wrote the first
            # time is copied before: so it sees every part twice.
            keras.saving.serialize_keras_object(part)
            config[name] = keras.saving.serialize_keras_object(part)
        return config

    @classmethod
    def from_config(cls, config):
        return cls(**deserialized(config, *cls.parts))


def make(
    argument, part, known, dtype=None, optional=False, shared=True, needs=()
):
    """A new layer for a name, a layer as it is, None for None.

    Args:
        argument: What the caller calls the part.
        part: Name, layer or None.
        known: dict from names to functions `(dtype=, name=)` that make a
            layer.
        dtype: Dtype policy of a layer that is given by name.
        optional: bool. Whether None is legal.
        shared: bool. Whether `Shared` is legal: one of several blocks is made.
        needs: Names of what a layer must have.

    Raises:
        ValueError: If there is no such part.
    """
    if part is None and optional:
        return part
    if isinstance(part, keras.layers.Layer):
        missing = [name for name in needs if not hasattr(part, name)]
        if missing:
            raise ValueError(
                f"`{argument}` must be one of {tuple(known)}, or a layer like "
                f"these, with {missing}. Received: {argument}={part!r}"
            )
        return part
    if isinstance(part, Shared) and shared:
        return Shared(
            make(argument, part.part, known, dtype, shared=False, needs=needs)
        )
    if not isinstance(part, str) or part not in known:
        names = (*known, None) if optional else tuple(known)
        near = difflib.get_close_matches(str(part), known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"`{argument}` must be one of {names}, or a layer (an instance, "
            f"not a class).{hint} Received: {argument}={part!r}"
        )
    return known[part](dtype=dtype, name=argument)


def copy(argument, prototype, dtype, name, fixed=None, sizes=None, **settings):
    """A new layer like a prototype.

    Args:
        argument: What the caller calls the part.
        prototype: Layer without weights.
        dtype: Dtype policy of the copy, and of the layers inside of it.
        name: str. Name of the copy.
        fixed: None, or dict of values for arguments that are no choice here.
        sizes: None, or dict like the settings: sizes that the model has, which
            a prototype may repeat and not contradict.
        **settings: Values for the arguments that the prototype has and has
            left open (None).

    Raises:
        ValueError: If the prototype has weights, its config does not describe
            it, or it has other sizes than the model.
    """
    sizes = sizes or {}
    for key, value in sizes.items():
        mine = getattr(prototype, key, None)
        if mine is not None and mine != value:
            raise ValueError(
                f"`{key}` of the `{argument}` must be that of the model, "
                f"{value}, or be left out. Received: {key}={mine!r}"
            )
    if prototype.weights:
        raise ValueError(
            f"`{argument}` must be a layer without weights yet: every block "
            f"gets a new copy. Received: {argument}={prototype}, which is built"
        )
    try:
        config = _with_dtype(serialized(prototype), dtype)["config"]
        legal = arguments(type(prototype))
        for key, value in {**settings, **sizes}.items():
            if key in legal and config.get(key) is None:
                config[key] = _with_dtype(value, dtype)
        config.update(
            {k: value for k, value in (fixed or {}).items() if k in legal}
        )
        return type(prototype).from_config({**config, "name": name})
    except (TypeError, NotImplementedError) as error:
        raise ValueError(
            f"`{argument}` must be a layer that its config describes "
            "(registered, if it is yours): every block gets a copy. "
            f"Received: {argument}={prototype}: {error}"
        ) from error


def copies(argument, prototype, dtype, names, **settings):
    """A copy for each name, or one for all of them if it is `Shared`.

    Args:
        argument, dtype, settings: As in `copy`.
        prototype: Layer without weights, `Shared`, or None.
        names: Names of the copies.

    Returns:
        List of layers, or of None.
    """
    if prototype is None:
        return [None for _ in names]
    if isinstance(prototype, dict):
        raise ValueError(
            f"`{argument}` must be one part: the model does not take a dict by "
            f"history here. Received: {argument}={prototype}"
        )
    if isinstance(prototype, Shared):
        one = copy(argument, prototype.part, dtype, names[0], **settings)
        if hasattr(one, "calls_per_step"):  # It counts training steps.
            one.calls_per_step = len(names)
        return [one for _ in names]
    return [
        copy(argument, prototype, dtype, name, **settings) for name in names
    ]


def _with_dtype(config, dtype):
    """Gives a serialized layer, and those inside of it, a dtype policy."""
    if isinstance(config, (list, tuple)):
        return type(config)(_with_dtype(value, dtype) for value in config)
    if not isinstance(config, dict):
        return config
    config = {key: _with_dtype(value, dtype) for key, value in config.items()}
    inner = config.get("config")
    if isinstance(inner, dict) and {"dtype", "name", "trainable"} <= set(inner):
        policy = keras.dtype_policies.serialize(keras.dtype_policies.get(dtype))
        config["config"] = {**inner, "dtype": policy}
    return config


def serialized(value):
    """A serialized part, or plain value, of no particular time.

    While Keras saves or loads a model, it writes ids of objects; they would
    say that what is made of this later is something else.
    """
    return _without_ids(keras.saving.serialize_keras_object(value))


def _without_ids(config):
    if isinstance(config, (list, tuple)):
        return type(config)(_without_ids(value) for value in config)
    if not isinstance(config, dict):
        return config
    return {
        key: _without_ids(value)
        for key, value in config.items()
        if key != "shared_object_id"
    }


def arguments(cls):
    """The arguments of a class and their defaults, those of its bases too."""
    found = {}
    for base in cls.__mro__:
        if base.__init__ is object.__init__ or base is keras.layers.Layer:
            break
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())
        for parameter in parameters[1:]:
            if parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                found.setdefault(parameter.name, parameter.default)
        if all(p.kind != p.VAR_KEYWORD for p in parameters):
            break
    return found


def deserialized(config, *names):
    """A copy of a config in which the layers of some arguments are made."""
    config = dict(config)
    for name in names:
        value = config.get(name)
        if isinstance(value, (dict, list)):
            config[name] = keras.saving.deserialize_keras_object(value)
    return config


def meaning(layer):
    """What the arguments of a layer say about its weights, as plain values.

    A layer says in `no_meaning` which arguments say nothing, and in `resolved`
    what stands for one that is None. A part that is None is none; what else is
    None is open.
    """
    free = (*_NO_MEANING, *getattr(layer, "no_meaning", ()))
    name = keras.saving.get_registered_name(type(layer))
    found = {"class": name.removeprefix("keras_unirec>")}
    for key, value in layer.get_config().items():
        if key in free or any(word in key for word in _OF_TRAINING):
            continue
        mine = getattr(layer, key, None)
        if mine is None:
            none = "none" if key in getattr(layer, "parts", ()) else None
            mine = getattr(layer, "resolved", {}).get(key, none)
        found[key] = _meaning(mine, value)
    made = getattr(layer, "made", {})
    found.update((key, meaning_of_copies(each)) for key, each in made.items())
    return found


def _meaning(mine, config):
    """An argument of a layer, by what is in its config if it is no layer."""
    if isinstance(mine, Shared):
        return meaning(mine.part)
    if isinstance(mine, keras.layers.Layer):
        return meaning(mine)
    if isinstance(mine, dict):
        return {key: _meaning(each, each) for key, each in mine.items()}
    if config is None and isinstance(mine, str):
        return mine
    if isinstance(config, tuple):
        return list(config)
    return config


def meaning_of_copies(copies):
    """What the copies of a part say, which are all alike.

    Args:
        copies: List of layers or None, or dict of such lists by history.
    """
    if isinstance(copies, dict):
        return {key: meaning_of_copies(each) for key, each in copies.items()}
    if copies[0] is None:
        return "none"
    shared = len(copies) > 1 and copies[0] is copies[1]
    return {**meaning(copies[0]), **({"shared": True} if shared else {})}


def replaced(config, option, value):
    """Sets an option of every layer in a serialized config that has it.

    Returns:
        Tuple of the new config and whether any layer has the option.
    """
    if isinstance(config, (list, tuple)):
        pairs = [replaced(each, option, value) for each in config]
        return type(config)(p for p, _ in pairs), any(c for _, c in pairs)
    if not isinstance(config, dict):
        return config, False
    changed, new = False, {}
    for key, each in config.items():
        new[key], inside = replaced(each, option, value)
        changed = changed or inside
    inner = new.get("config")
    if "class_name" in new and isinstance(inner, dict) and option in inner:
        new["config"], changed = {**inner, option: value}, True
    return new, changed


def with_option(part, option, value, inside=False, open_too=False):
    """A part as code, with another value of one of its options.

    Args:
        part: Layer, `Shared`, dict of them by history, or something else.
        option: str. Name of an argument.
        value: Its value.
        inside: bool. Whether the option is one of a part of the part.
        open_too: bool. Whether the option may be one that the part leaves open
            (None), which is often for the model to say.

    Returns:
        str, as `keras_unirec.layers.SwiGLU(ratio=2)`; None if there is no such
        option, or it cannot have the value.
    """
    more = (option, value, inside, open_too)
    if isinstance(part, dict):
        codes = {key: with_option(each, *more) for key, each in part.items()}
        if not any(codes.values()):
            return None
        return written(
            {k: _Code(c or written(part[k])) for k, c in codes.items()}
        )
    if isinstance(part, Shared):
        code = with_option(part.part, *more)
        return code and f"keras_unirec.layers.Shared({code})"
    if not isinstance(part, keras.layers.Layer):
        return None
    if not inside:
        return _with_own_option(part, option, value, open_too)
    for name in getattr(part, "parts", ()):
        for deeper in (False, True):
            code = with_option(
                getattr(part, name), option, value, deeper, open_too
            )
            if code is not None:
                return written(part, **{name: _Code(code)})
    return None


def _with_own_option(part, option, value, open_too):
    if option not in arguments(type(part)):
        return None
    if not open_too and getattr(part, option, None) is None:
        return None
    try:
        copy("part", part, part.dtype_policy, "taken", fixed={option: value})
    except ValueError:
        return None
    return written(part, **{option: value})


class _Code(str):
    """What is code already."""

    def __repr__(self):
        return str(self)


def line(cls, **given):
    """How a part is written, as `keras_unirec.layers.SwiGLU(ratio=2)`."""
    inside = ", ".join(f"{k}={written(v)}" for k, v in given.items())
    room = cls.__module__.partition(".")[0]
    if room in ("keras", "keras_unirec"):
        room = f"{room}.layers"
    return f"{room}.{cls.__name__}({inside})"


def written(value, **more):
    """A value as code; layers by the arguments that differ from defaults.

    Args:
        value: Layer, `Shared`, plain value, or list or dict of them.
        **more: Arguments of a layer to write in place of its own.
    """
    if isinstance(value, Shared):
        return f"keras_unirec.layers.Shared({written(value.part, **more)})"
    if isinstance(value, dict):
        inside = (f"{k!r}: {written(v, **more)}" for k, v in value.items())
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, keras.initializers.Initializer):
        config = keras.saving.serialize_keras_object(value)
        inside = ", ".join(f"{k}={v!r}" for k, v in config["config"].items())
        return f"keras.initializers.{config['class_name']}({inside})"
    if not isinstance(value, keras.layers.Layer):
        return repr(value)
    given, usual = _given(value)
    given = {
        name: mine
        for name, mine in given.items()
        if name not in usual or written(mine) != written(usual[name])
    }
    return line(type(value), **{**given, **more})


def _given(layer):
    """The arguments of a layer, and what they are by default."""
    cls = type(layer)
    usual = arguments(cls)
    given = {name: getattr(layer, name, usual[name]) for name in usual}
    required = {
        name: given[name]
        for name, default in usual.items()
        if default is inspect.Parameter.empty
    }
    try:  # A default may be a name, and what a layer holds what it stands for.
        made = cls(**required)
    except Exception:  # Of a class that is not ours.
        made = None
    return given, {
        name: getattr(made, name, default)
        for name, default in usual.items()
        if name not in required
    }
