"""Checks of encoded arrays that are given by hand."""

import keras
import numpy as np

from keras_unirec.data.encoding.checks import illegal_labels

_LARGEST = np.finfo("float32").max
_LARGEST_GAP = 2**31 - 1
# What the names of dtypes begin with.
_INTEGERS = ("int", "uint")
_NUMBERS = (*_INTEGERS, "float", "bfloat")
_NUMBERS_OR_BOOLS = (*_NUMBERS, "bool")


def check_encoded(schema, inputs, labels=None, sample_weight=None):
    """Raises for inputs, labels or weights that cannot be right.

    The readers of `keras_unirec.data` check raw columns. This is for arrays
    that were made otherwise, as in `model.fit({"video_id": ids}, labels)`: an
    id outside of its table fails without a name or reads a row of zeros, as
    the device has it, and one NaN makes all weights NaN.

    Every value of an array or a list is checked, in two passes of NumPy. Of a
    tensor the dtype is: in a traced function it has no values, and those of an
    accelerator would be waited for and copied back.

    Args:
        schema: `keras_unirec.Schema`, adapted.
        inputs: dict of encoded inputs by key, as a batch of the readers has
            them. Other keys are ignored.
        labels: None, dict of labels by name, or, where the schema has one
            label, its array. A label of weight 0 may be anything.
        sample_weight: None, one array for all labels, or dict of arrays by
            label.

    Raises:
        ValueError: If a key is missing; an input has the wrong dtype or
            shape; an id is outside of its table, a length outside of its
            history, a number NaN or infinite; a label is missing or outside of
            [0, 1]; or weights are negative, NaN, infinite or all 0.

    Example:
    ```python
    inputs, labels, weights = next(iter(ku.data.from_pandas(df, schema)))
    arrays = {key: value.numpy() for key, value in inputs.items()}
    arrays["video_id"][0] = -1
    check_encoded(schema, arrays)  # ValueError: Input `video_id` must hold ...
    ```
    """
    arrays = _read_inputs(schema, inputs)
    for feature in schema.encoded:
        least, most, expected = _legal(schema, feature, arrays)
        name = f"Input `{feature.key}`"
        _check_range(name, arrays[feature.key], least, most, expected)
    names = schema.label_names
    weights = _read_weights(names, sample_weight)
    if labels is not None:
        for name, values in _read_labels(names, labels).items():
            _check_label(name, values, weights.get(name))


def _read_inputs(schema, inputs):
    """The inputs as arrays of the right dtypes and shapes, or as tensors."""
    if not isinstance(inputs, dict):
        raise ValueError(
            "The inputs of a ranking model are a dict of encoded columns. "
            f"Received: {type(inputs).__name__}"
        )
    keys = [feature.key for feature in schema.encoded]
    missing = [key for key in keys if key not in inputs]
    if missing:
        raise ValueError(
            f"Columns {missing} are missing from the inputs. The schema "
            f"expects {keys}. Received: {sorted(inputs)}"
        )
    arrays = {}
    for feature in schema.encoded:
        name = f"Input `{feature.key}`"
        values = _to_array(name, inputs[feature.key])
        whole = feature.dtype == "int32"
        _check_dtype(
            name,
            values,
            _INTEGERS if whole else _NUMBERS,
            f"{'integers' if whole else 'numbers'}; raw columns are encoded by "
            "`keras_unirec.data.from_pandas(df, schema)`",
        )
        _check_shape(name, values, feature)
        arrays[feature.key] = values
    return arrays


def _read_labels(names, labels):
    if not isinstance(labels, dict):
        labels = {names[0]: labels} if len(names) == 1 else {}
    missing = [name for name in names if name not in labels]
    if missing:
        raise ValueError(
            f"Labels {missing} are missing from the targets. The schema "
            f"has the labels {list(names)}. Received: {sorted(labels)}"
        )
    return {name: _to_array(f"Label `{name}`", labels[name]) for name in names}


def _read_weights(names, sample_weight):
    """Checked weights by label; the same array where one is for all."""
    if sample_weight is None:
        return {}
    if not isinstance(sample_weight, dict):
        weights = _checked_weights("`sample_weight`", sample_weight)
        return dict.fromkeys(names, weights)
    if set(sample_weight) != set(names):
        raise ValueError(
            f"Sample weights by label must name the labels {list(names)}. "
            f"Received: {sorted(sample_weight)}"
        )
    return {
        name: _checked_weights(
            f"`sample_weight` of label `{name}`", sample_weight[name]
        )
        for name in names
    }


def _checked_weights(name, weights):
    weights = _to_array(name, weights)
    expected = "finite numbers of at least 0, not all of them 0"
    _check_dtype(name, weights, _NUMBERS_OR_BOOLS, expected)
    _check_range(name, weights, 0, _LARGEST, expected)
    if isinstance(weights, np.ndarray) and not weights.any():
        raise ValueError(
            f"{name} must hold {expected}. Received: nothing but zeros, of "
            f"shape {weights.shape}"
        )
    return weights


def _check_label(name, values, weights):
    expected = "numbers in [0, 1]"
    name = f"Label `{name}`"
    _check_dtype(name, values, _NUMBERS_OR_BOOLS, expected)
    if not isinstance(values, np.ndarray):
        return
    bad = illegal_labels(values)
    if weights is not None and bad.any():
        if not isinstance(weights, np.ndarray):
            return  # Its weight may be 0.
        if weights.ndim < bad.ndim:
            weights = weights[..., None]
        try:
            bad = bad & (weights > 0)
        except ValueError as error:
            raise ValueError(
                "`sample_weight` must be one weight per candidate or per "
                f"request, for labels of shape {values.shape}. Received: "
                f"weights of shape {weights.shape}"
            ) from error
    if bad.any():
        raise _wrong_value(name, values, bad, expected)


def _legal(schema, feature, arrays):
    """The least and the most that an input may hold, and that in words."""
    if feature.kind == "id":
        embedding = schema.embeddings[feature.embedding]
        return (
            0,
            embedding.rows - 1,
            f"encoded ids in [0, {embedding.rows}), the rows of the embedding "
            f"`{embedding.name}`: 0 is padding, 1 unknown, and the value "
            "number v is v + 2",
        )
    if feature.kind == "gap":
        return (
            -1,
            _LARGEST_GAP,
            "the seconds from each event to its request, at most "
            f"{_LARGEST_GAP}, and -1 where the time is missing",
        )
    if feature.kind == "length":
        # Of tensors the number of events may be unknown.
        events = min(
            (
                arrays[other.key].shape[1]
                for other in schema.encoded
                if other.sequence == feature.sequence
                and other.kind not in ("length", "count")
                and isinstance(arrays[other.key], np.ndarray)
            ),
            default=_LARGEST_GAP,
        )
        return (
            0,
            events,
            f"numbers of events in [0, {events}], the events that the columns "
            f"of `{feature.sequence}` have room for",
        )
    return -_LARGEST, _LARGEST, "finite numbers without missing values"


def _to_array(name, values):
    """Lists, series and the like become arrays; tensors stay what they are."""
    if keras.ops.is_tensor(values) or isinstance(values, keras.KerasTensor):
        return values
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array. Received: {type(values).__name__}, "
            f"of which NumPy says: {error}"
        ) from error


def _check_dtype(name, values, kinds, expected):
    try:
        dtype = keras.backend.standardize_dtype(values.dtype)
    except ValueError:  # Strings, objects, times.
        dtype = str(values.dtype)
    if not dtype.startswith(kinds):
        first = ""
        if isinstance(values, np.ndarray) and values.size:
            first = f", {values.flat[0]!r} at first"
        raise ValueError(
            f"{name} must hold {expected}. Received: dtype {dtype}{first}"
        )


def _check_shape(name, values, feature):
    if not isinstance(values, np.ndarray):
        return
    axes = ["requests"]
    if feature.side == "item":
        axes.append("candidates")
    elif len(feature.shape) and feature.shape[0] is None:
        axes.append("events")
    if feature.multi is not None:
        axes.append(str(feature.multi))
    right = values.ndim == len(axes) and len(values)
    if not right or feature.multi not in (None, values.shape[-1]):
        raise ValueError(
            f"{name} must have the shape ({', '.join(axes)}) with at least "
            f"one request. Received: {values.shape}"
        )


def _check_range(name, values, least, most, expected):
    if not isinstance(values, np.ndarray) or not values.size:
        return
    # NaN is the minimum of what holds it, and compares with nothing.
    with np.errstate(invalid="ignore"):
        right = values.min() >= least and values.max() <= most
    if not right:
        bad = ~((values >= least) & (values <= most))
        raise _wrong_value(name, values, bad, expected)


def _wrong_value(name, values, bad, expected):
    where = np.unravel_index(np.argmax(bad), bad.shape)
    place = ", ".join(map(str, where))
    return ValueError(
        f"{name} must hold {expected}. Received: {values[where]} at [{place}]"
    )
