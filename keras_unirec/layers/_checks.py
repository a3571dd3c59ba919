"""Checks of arguments and shapes that several layers share."""

import math
import numbers

import keras


def is_integer(value):
    """True is no number here."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_positive_integers(optional=False, **arguments):
    for argument, value in arguments.items():
        if optional and value is None:
            continue
        if not is_integer(value) or value < 1:
            raise ValueError(
                f"`{argument}` must be a positive integer. "
                f"Received: {argument}={value!r}"
            )


def check_widths(empty=False, **arguments):
    """Lists of positive integers."""
    for argument, value in arguments.items():
        if (
            not isinstance(value, (list, tuple))
            or not (value or empty)
            or not all(is_integer(each) and each >= 1 for each in value)
        ):
            what = "a list" if empty else "a non-empty list"
            raise ValueError(
                f"`{argument}` must be {what} of positive integers. "
                f"Received: {argument}={value!r}"
            )


def check_integers(low, high, **arguments):
    """Integers between two limits, inclusive."""
    for argument, value in arguments.items():
        if not is_integer(value) or not low <= value <= high:
            raise ValueError(
                f"`{argument}` must be an integer between {low} and {high}. "
                f"Received: {argument}={value!r}"
            )


def check_numbers(low, high, **arguments):
    """Finite real numbers between two limits, inclusive."""
    for argument, value in arguments.items():
        if (
            not isinstance(value, numbers.Real)
            or isinstance(value, bool)
            or not math.isfinite(value)
            or not low <= value <= high
        ):
            raise ValueError(
                f"`{argument}` must be a number between {low:g} and {high:g}. "
                f"Received: {argument}={value!r}"
            )


def check_bools(**arguments):
    for argument, value in arguments.items():
        if not isinstance(value, bool):
            raise ValueError(
                f"`{argument}` must be True or False. "
                f"Received: {argument}={value!r}"
            )


def check_ratio(optional=False, **arguments):
    """Ratios of widths: finite positive numbers."""
    for argument, value in arguments.items():
        if optional and value is None:
            continue
        if (
            not isinstance(value, numbers.Real)
            or isinstance(value, bool)
            or not math.isfinite(value)
            or value <= 0
        ):
            raise ValueError(
                f"`{argument}` must be a positive number. "
                f"Received: {argument}={value!r}"
            )


def check_choice(legal, **arguments):
    for argument, value in arguments.items():
        if not isinstance(value, (str, type(None))) or value not in legal:
            raise ValueError(
                f"`{argument}` must be one of {tuple(legal)}. "
                f"Received: {argument}={value!r}"
            )


def initializer(argument, value, default):
    """An initializer as Keras takes it; the default for None."""
    if value is None:
        return default
    try:
        found = keras.initializers.get(value)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, keras.initializers.Initializer):
        raise ValueError(
            f"`{argument}` must be an initializer of Keras, its name or its "
            f"config. Received: {argument}={value!r}"
        )
    return found


def hidden_width(hidden_dim, ratio, dim):
    """`hidden_dim`, or `ratio` times the width, which must be at least 1."""
    if hidden_dim is not None:
        return hidden_dim
    width = min(ratio * dim, 2**31)
    if not 1 <= round(width) < 2**31:
        raise ValueError(
            "`ratio` must give a hidden width of at least 1 over a width of "
            f"{dim}, and below 2**31. Received: ratio={ratio!r}"
        )
    return round(width)


def check_tokens(input_shape):
    """Returns the static number of tokens and their width.

    Raises:
        ValueError: If the shape has fewer than two axes, or one of the last
            two is unknown.
    """
    shape = tuple(input_shape)
    if len(shape) < 2 or None in shape[-2:]:
        raise ValueError(
            "Tokens have the shape (..., num_tokens, dim), and both numbers "
            f"must be known. Received: input_shape={shape}"
        )
    return shape[-2:]


def nearest_divisors(number, value):
    """The divisors of a number next below and above one that is none."""
    divisors = [n for n in range(1, number + 1) if number % n == 0]
    below = max(n for n in divisors if n < value)
    above = min((n for n in divisors if n > value), default=None)
    return [n for n in (below, above) if n]


def built_shape(layer, input_shape, argument):
    """Builds a layer of one tensor, unless it is; returns its output shape.

    Args:
        layer: `keras.layers.Layer`.
        input_shape: tuple.
        argument: What the caller calls the layer, for messages.
    """
    try:
        if not layer.built:
            layer.build(input_shape)
        return tuple(layer.compute_output_shape(input_shape))
    except (TypeError, NotImplementedError) as error:
        raise ValueError(
            f"`{argument}` must be a layer of one tensor with a `build` and a "
            f"`compute_output_shape`. Received: {argument}={layer}: {error}"
        ) from error


def check_same_shape(layer, input_shape, argument, more=""):
    """Builds a layer whose output is added to its input.

    Args:
        layer, input_shape, argument: As in `built_shape`.
        more: What else to try, for messages.
    """
    output_shape = built_shape(layer, input_shape, argument)
    if output_shape != tuple(input_shape):
        raise ValueError(
            f"What is added to the tokens must have their shape.{more} "
            f"Received: {argument}={type(layer).__name__}, which turns "
            f"{tuple(input_shape)} into {output_shape}"
        )
