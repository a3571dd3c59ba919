import difflib
import fnmatch
import os

from keras_unirec.applications._construction import without_numpy
from keras_unirec.schema import Schema

_MODELS = {}


def register_model(function):
    """Makes a function `(schema, **overrides) -> model` loadable by name.

    Args:
        function: Its name becomes the name of the model.

    Returns:
        The function.

    Raises:
        ValueError: If the name is taken.
    """
    name = function.__name__
    if name in _MODELS:
        raise ValueError(f"A model named `{name}` is already registered.")
    _MODELS[name] = function
    return function


def list_models(pattern="*"):
    """Names of the registered models, sorted.

    Args:
        pattern: Shell-style pattern, as `"mixformer*"`. Defaults to `"*"`.

    Returns:
        List of str.
    """
    return sorted(fnmatch.filter(_MODELS, pattern))


def load(name, schema, /, weights=None, **parts):
    """Creates a model by name for the columns of a schema.

    Args:
        name: One of `list_models()`.
        schema: `keras_unirec.Schema`, adapted.
        weights: None or the path of a `.weights.h5` or `.keras` file.
            Defaults to `None`: freshly initialized.
        **parts: Parts and sizes that replace those of the named model, and
            other arguments of its class, `name` of the model included.

    Returns:
        `RankingModel`.

    Raises:
        ValueError: If the name is unknown, the schema still has to learn, or
            the file of weights does not exist.

    Example:
    ```python
    model = keras_unirec.applications.load("mixformer_tiny", schema)
    ```
    """
    if not isinstance(name, str):
        raise ValueError(
            "`name` must be one of `list_models()`, and comes first: "
            "`load(name, schema)`. "
            f"Received: name of type {type(name).__name__}"
        )
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"There is no model named {name!r}.{hint} Known models: "
            f"{', '.join(list_models())}. Received: name={name!r}"
        )
    if not isinstance(schema, Schema):
        raise ValueError(
            "`schema` must be a `keras_unirec.Schema`. "
            f"Received: schema of type {type(schema).__name__}"
        )
    schema.require_adapted()
    if weights is not None and not os.path.exists(weights):
        raise ValueError(
            "`weights` must be the path of a file of weights. "
            f"Received: weights={str(weights)!r}, which does not exist"
        )
    model = _MODELS[name](schema, **without_numpy(parts))
    if weights is not None:
        model.load_weights(weights)
    return model
