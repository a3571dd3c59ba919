"""What takes a whole run: the plans of a `fit`."""

import math
import warnings

from keras import ops

from keras_unirec import optimizers
from keras_unirec.layers.mixing._annealed_mixing import AnnealedMixing


def plan_fit(model, steps):
    """Tells the schedule and the annealing of a model how long a run is.

    Args:
        model: Compiled model.
        steps: int or None. Training steps of the run.
    """
    _plan_learning_rate(model, steps)
    for mixing in mixings(model):
        if steps is not None:
            if steps > 0:
                mixing.plan(steps)
        elif not mixing.planned and mixing.falls:
            warnings.warn(
                "The number of training steps is unknown: the temperature "
                f"of {mixing.path} stays at {mixing.start_temperature}. "
                "Give `steps_per_epoch` to `fit`, or `anneal_steps` to "
                "the mixer.",
                stacklevel=4,
            )


def _plan_learning_rate(model, steps):
    # Mixed float16 wraps the optimizer to scale the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    schedule = getattr(optimizer, "_learning_rate", None)
    if isinstance(schedule, optimizers.WarmupDecay):
        start = int(ops.convert_to_numpy(optimizer.iterations))
        if steps is None or steps > 0:
            schedule.plan(total_steps=steps, start_step=start)
        model.train_function = None  # The plan is part of the trace.


def mixings(model):
    """The layers whose mixing matrices are learned and annealed.

    Args:
        model: `keras.Model`.

    Returns:
        list of `UniMixing` and `UniMixingLite`, in the order of the weights.
    """
    order = {v.path: i for i, v in enumerate(model.variables)}
    found = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, AnnealedMixing) and layer.built
    ]
    return sorted(found, key=lambda layer: order[layer.step.path])


def num_steps(x, batch_size, epochs, **kwargs):
    """Training steps of a `fit` with these arguments; None if unknown."""
    steps = kwargs.get("steps_per_epoch") or _num_batches(
        x, batch_size, kwargs.get("validation_split", 0.0)
    )
    if steps is None:
        return None
    return steps * (epochs - kwargs.get("initial_epoch", 0))


def _num_batches(x, batch_size, validation_split):
    if isinstance(x, dict):
        rows = len(next(iter(x.values())))
        rows = math.floor(rows * (1 - validation_split))
        return -(-rows // (batch_size or 32))
    if hasattr(x, "cardinality"):
        cardinality = int(x.cardinality())
        return cardinality if cardinality > 0 else None
    return getattr(x, "num_batches", None)
