"""What the row-updating optimizers share."""

import keras

_WHOLE_TABLE_OPTIONS = {
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "gradient_accumulation_steps": None,
}


def check_options(optimizer, options):
    """Refuses the base options that would touch every row at every step.

    Args:
        optimizer: str. Class name, for the message.
        options: dict. Keyword arguments of `keras.optimizers.Optimizer`.

    Returns:
        dict: the options that are left for the base class.
    """
    for name, default in _WHOLE_TABLE_OPTIONS.items():
        value = options.pop(name, default)
        # `ema_momentum` means nothing while `use_ema` is off.
        if name != "ema_momentum" and value != default:
            raise ValueError(
                f"`{name}` is not supported by {optimizer}: it would read "
                "and write the whole table at every step, whatever the "
                "batch. Set it on the dense group of `TwoGroupOptimizer`. "
                f"Received: {name}={value}"
            )
    # `loss_scale_factor` is in the config of every Keras optimizer.
    factor = options.pop("loss_scale_factor", None)
    if factor is not None:
        raise ValueError(
            f"`loss_scale_factor` is not supported by {optimizer}: set it on "
            "`TwoGroupOptimizer`, or wrap the optimizer in "
            "`keras.optimizers.LossScaleOptimizer`. "
            f"Received: loss_scale_factor={factor}"
        )
    return options


def is_row_gradient(gradient):
    """Whether a gradient lists the rows it touches (`tf.IndexedSlices`)."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(gradient, tf.IndexedSlices)


def merge_duplicates(gradient, dtype):
    """Sums the slices of a gradient that belong to the same row.

    An id that occurs k times in the batch has k slices; squares and moments
    are of their sum.

    Args:
        gradient: `tf.IndexedSlices`.
        dtype: dtype of the result.

    Returns:
        tuple: ids `(u,)`, each once, and summed rows `(u, ...)`.
    """
    import tensorflow as tf

    # `tf.unique` compiles with XLA; `unique_with_counts` does not.
    ids, positions = tf.unique(gradient.indices)
    rows = tf.math.unsorted_segment_sum(
        tf.cast(gradient.values, dtype), positions, tf.size(ids)
    )
    return ids, rows


def as_tf_variable(variable):
    """The `tf.Variable` behind a Keras variable.

    Inside `strategy.extended.update` a mirrored variable reads and writes the
    copy of the replica that is being updated.
    """
    if isinstance(variable, keras.Variable):
        return variable.value
    return variable
