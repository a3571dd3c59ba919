"""Optimizers that are known to work, by name."""

import keras

from keras_unirec.optimizers.averaged_adamw import AveragedAdamW
from keras_unirec.optimizers.row_adagrad import RowAdagrad
from keras_unirec.optimizers.row_adam import RowAdam
from keras_unirec.optimizers.two_group_optimizer import TwoGroupOptimizer
from keras_unirec.optimizers.warmup_decay import WarmupDecay


def default_recipe(peak=2e-3, warmup=0.05, weight_decay=1e-4):
    """For small data: one epoch, batches of a few hundred requests.

    AdamW on the dense weights, lazy Adam on the rows, one warm-up and linear
    decay over exactly the run, and an average of the dense weights over the
    last tenth of the run, a hundred steps at most, which `fit` leaves in the
    model when it ends (the validation of an epoch sees the weights before
    that; `keras.callbacks.SwapEMAWeights(swap_on_epoch=True)` shows it the
    average). On data where ids repeat, train **one** epoch: in a second one
    the ids memorize.

    Args:
        peak: float. Highest learning rate. Defaults to `2e-3`.
        warmup: float. Fraction of the run that warms up. Defaults to `0.05`.
        weight_decay: float, of the dense weights. Defaults to `1e-4`.

    Returns:
        `TwoGroupOptimizer`.
    """
    return TwoGroupOptimizer(
        dense=AveragedAdamW(weight_decay=weight_decay, name="dense"),
        sparse=RowAdam(name="sparse"),
        learning_rate=WarmupDecay(peak=peak, warmup=warmup),
        sparse_learning_rate_ratio=1.0,
    )


def paper_recipe(
    learning_rate=0.01,
    sparse_learning_rate=0.05,
    initial_accumulator_value=0.1,
):
    """MixFormer's: RMSProp on the dense weights, Adagrad on the rows.

    The paper gives the dense learning rate, 0.01, and the name Adagrad, at
    batches of 1,500 and trillions of records. Its Adagrad learning rate and
    initial accumulator are unpublished: 0.05 and 0.1 here are the usual ones.

    Args:
        learning_rate: float, of the dense weights. Defaults to `0.01`.
        sparse_learning_rate: float, of the tables. Defaults to `0.05`.
        initial_accumulator_value: float, of the tables. Defaults to `0.1`.

    Returns:
        `TwoGroupOptimizer`.

    Reference: [MixFormer](https://arxiv.org/abs/2602.14110), 4.1.4
    """
    return TwoGroupOptimizer(
        dense=keras.optimizers.RMSprop(name="dense"),
        sparse=RowAdagrad(
            initial_accumulator_value=initial_accumulator_value, name="sparse"
        ),
        learning_rate=learning_rate,
        sparse_learning_rate_ratio=sparse_learning_rate / learning_rate,
    )


def adam_recipe(learning_rate=1e-3):
    """UniMixer's: Adam on the dense weights and on the rows.

    Args:
        learning_rate: float, of both. Defaults to `0.001`.

    Returns:
        `TwoGroupOptimizer`.

    Reference: [UniMixer](https://arxiv.org/abs/2604.00590)
    """
    return TwoGroupOptimizer(
        dense=keras.optimizers.Adam(name="dense"),
        sparse=RowAdam(name="sparse"),
        learning_rate=learning_rate,
        sparse_learning_rate_ratio=1.0,
    )


RECIPES = {
    "default": default_recipe,
    "paper": paper_recipe,
    "adam": adam_recipe,
}


def recipe(name="default", **overrides):
    """A new optimizer that is ready for `compile`.

    Args:
        name: `"default"` (`default_recipe`), `"paper"` (`paper_recipe`) or
            `"adam"` (`adam_recipe`).
        **overrides: Arguments of that function.

    Returns:
        Keras optimizer.

    Raises:
        ValueError: If there is no recipe of this name.

    Example:
    ```python
    model.compile(keras_unirec.optimizers.recipe("default", peak=1e-3), "mse")
    ```
    """
    if name not in RECIPES:
        raise ValueError(
            f"`name` must be one of {sorted(RECIPES)}. Received: name={name!r}"
        )
    return RECIPES[name](**overrides)
