import re
import warnings

import keras
from keras import ops
from keras.src.utils.tracking import no_automatic_dependency_tracking


@keras.saving.register_keras_serializable(package="keras_unirec")
class GroupLearningRate:
    """The learning rate of one group: a multiple of the owner's."""

    def __init__(self, ratio):
        self.ratio = ratio
        self.owner = None

    def __call__(self):
        rate = self.owner.learning_rate
        return rate if self.ratio == 1 else rate * self.ratio

    def get_config(self):
        return {"ratio": self.ratio}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_unirec")
class TwoGroupOptimizer(keras.optimizers.Optimizer):
    """One optimizer for the dense weights, another for the embedding tables.

    Both follow **one** learning rate, a number or a schedule: the dense group
    uses `learning_rate`, the sparse group `learning_rate *
    sparse_learning_rate_ratio`. So `LearningRateScheduler`,
    `ReduceLROnPlateau`, a schedule and `optimizer.learning_rate = ...` scale
    the two together and never erase their ratio.

    A variable belongs to the sparse group if its path matches
    `sparse_variables`; slots are created only in the group that uses them.
    Whatever reads every weight at every step (weight decay, clipping, EMA)
    is set on the dense optimizer and acts on the dense group alone: a global
    norm is the norm of the dense gradients, and `fit` ends with averaged
    dense weights beside the tables as they are.

    Args:
        dense: Keras optimizer, or its name.
        sparse: Keras optimizer, or its name: usually `RowAdagrad` or
            `RowAdam`, whose steps do not grow with the vocabulary.
        learning_rate: float, schedule or callable. Defaults to `None`: the
            learning rate of `dense`.
        sparse_learning_rate_ratio: float. Defaults to `None`: the ratio of
            the two optimizers' own learning rates where both are numbers and
            `learning_rate` is not given, else `1.0`.
        sparse_variables: str, a regular expression searched for in the path
            of a variable. Defaults to `r"(^|/)embeddings$"`, the tables of
            this library and of `keras.layers.Embedding`.
        loss_scale_factor: optional float, as in Keras.
        name: optional str.

    The two optimizers are taken over: after this, their own `learning_rate`
    is the one of their group. Gradient accumulation is refused, because only
    one of the groups could do it.

    Example:
    ```python
    optimizer = keras_unirec.optimizers.TwoGroupOptimizer(
        dense=keras.optimizers.AdamW(weight_decay=1e-4, use_ema=True),
        sparse=keras_unirec.optimizers.RowAdagrad(),
        learning_rate=keras_unirec.optimizers.WarmupDecay(peak=2e-3),
        sparse_learning_rate_ratio=10.0,
    )
    model.compile(optimizer, "mse")
    ```
    """

    def __init__(
        self,
        dense,
        sparse,
        learning_rate=None,
        sparse_learning_rate_ratio=None,
        sparse_variables=r"(^|/)embeddings$",
        loss_scale_factor=None,
        name="two_group_optimizer",
    ):
        dense = _check_optimizer("dense", dense)
        sparse = _check_optimizer("sparse", sparse)
        if dense is sparse:
            raise ValueError(
                "`dense` and `sparse` must be two optimizers. Received the "
                f"same object twice: {dense.name}"
            )
        if sparse.use_ema:
            raise ValueError(
                "`use_ema` acts on the dense group only: the average of a "
                "table would read all of it at every step. "
                f"Received: sparse={sparse.name} with use_ema=True"
            )
        if learning_rate is None:
            learning_rate = _own_learning_rate(dense)
            if sparse_learning_rate_ratio is None:
                sparse_rate = _own_learning_rate(sparse)
                if isinstance(learning_rate, float) and isinstance(
                    sparse_rate, float
                ):
                    sparse_learning_rate_ratio = sparse_rate / learning_rate
        if sparse_learning_rate_ratio is None:
            sparse_learning_rate_ratio = 1.0
        if sparse_learning_rate_ratio < 0:
            raise ValueError(
                "`sparse_learning_rate_ratio` must not be negative. Received: "
                f"sparse_learning_rate_ratio={sparse_learning_rate_ratio}"
            )
        if isinstance(learning_rate, int):
            learning_rate = float(learning_rate)
        super().__init__(
            learning_rate=learning_rate,
            loss_scale_factor=loss_scale_factor,
            name=name,
        )
        self.dense = dense
        self.sparse = sparse
        self.sparse_learning_rate_ratio = sparse_learning_rate_ratio
        self.sparse_variables = sparse_variables
        for group, ratio in (
            (dense, 1.0),
            (sparse, float(sparse_learning_rate_ratio)),
        ):
            rate = GroupLearningRate(ratio)
            rate.owner = self
            group.learning_rate = rate

    # === Variables ===

    @no_automatic_dependency_tracking
    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        pattern = re.compile(self.sparse_variables)
        self._model_variables = list(variables)
        self._is_sparse = [
            pattern.search(getattr(v, "path", v.name)) is not None
            for v in variables
        ]
        dense, sparse = self._split(variables)
        self.dense.build(dense)
        self.sparse.build(sparse)
        # `SwapEMAWeights` pairs these, in this order, with the averages.
        self._trainable_variables = dense + sparse

    def _split(self, values):
        """Splits a list in the order of `build` into (dense, sparse)."""
        dense = [v for v, s in zip(values, self._is_sparse) if not s]
        sparse = [v for v, s in zip(values, self._is_sparse) if s]
        return dense, sparse

    @property
    def variables(self):
        groups = self.dense.variables + self.sparse.variables
        return self._variables + groups

    @property
    def _model_variables_moving_average(self):
        return self.dense._model_variables_moving_average

    def set_weights(self, weights):
        if not self.built:
            raise ValueError(
                "`set_weights()` needs a built optimizer. Call "
                "`optimizer.build(trainable_variables)` first."
            )
        for variable, weight in zip(self.variables, weights, strict=True):
            if variable.shape != weight.shape:
                raise ValueError(
                    f"Expected shape {variable.shape} for the optimizer "
                    f"variable `{variable.path}`. "
                    f"Received: shape={weight.shape}"
                )
            variable.assign(weight)

    # Keras walks the attributes of what it saves, so the two optimizers are
    # saved as children; the base class would write their slots twice.

    def save_own_variables(self, store):
        for i, variable in enumerate(self._variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store):
        if len(store.keys()) != len(self._variables):
            # As in Keras: a model without its training state still loads.
            warnings.warn(
                f"Skipping the state of optimizer `{self.name}`: the file "
                f"has {len(store.keys())} variables, expected "
                f"{len(self._variables)}. Either one has a number and the "
                "other a schedule as learning rate, or one is wrapped in a "
                "LossScaleOptimizer (`mixed_float16`) and the other is not.",
                stacklevel=2,
            )
            return
        for i, variable in enumerate(self._variables):
            variable.assign(store[str(i)])

    # === Updates ===

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is None:
            if not self.built:
                raise ValueError(
                    "`apply(grads)` without variables needs a built "
                    "optimizer. Call `optimizer.build(trainable_variables)` "
                    "first."
                )
            trainable_variables = self._model_variables
        trainable_variables = list(trainable_variables)
        if len(grads) != len(trainable_variables):
            raise ValueError(
                "`grads` and `trainable_variables` must have the same "
                f"length. Received: {len(grads)} gradients and "
                f"{len(trainable_variables)} variables"
            )
        if not self.built:
            self.build(trainable_variables)
        self._check_variables_are_known(trainable_variables)
        if all(g is None for g in grads):
            raise ValueError("No gradients provided for any variable.")
        if self.loss_scale_factor is not None:
            # Not `/`, which `tf.IndexedSlices` does not know.
            grads = [
                g if g is None else ops.divide(g, self.loss_scale_factor)
                for g in grads
            ]

        groups = {False: ([], []), True: ([], [])}
        for gradient, variable in zip(grads, trainable_variables):
            is_sparse = self._is_sparse[self._get_variable_index(variable)]
            groups[is_sparse][0].append(gradient)
            groups[is_sparse][1].append(variable)
        for is_sparse, optimizer in ((False, self.dense), (True, self.sparse)):
            gradients, variables = groups[is_sparse]
            if any(g is not None for g in gradients):
                optimizer.apply(gradients, variables)
        self._iterations.assign_add(1)

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        if keras.backend.backend() == "tensorflow":
            return super().stateless_apply(
                optimizer_variables, grads, trainable_variables
            )
        if not self.built:
            raise ValueError(
                "`stateless_apply()` needs a built optimizer. Call "
                "`optimizer.build(trainable_variables)` first."
            )
        own = self.variables
        mapping = [
            *zip(self._model_variables, trainable_variables, strict=True),
            *zip(own, optimizer_variables, strict=True),
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self.apply(grads)
        return (
            [scope.get_current_value(v) for v in self._model_variables],
            [scope.get_current_value(v) for v in own],
        )

    def finalize_variable_values(self, var_list):
        if not self.dense.use_ema:
            return
        dense, _ = self._split(self._model_variables)
        if keras.backend.backend() == "tensorflow":
            self.dense.finalize_variable_values(dense)
            return
        # A copy: JAX arrays are not copied on assignment, and the next `fit`
        # could not donate a buffer that two variables share.
        averages = self._model_variables_moving_average
        for variable, average in zip(dense, averages, strict=True):
            if average is not None:
                variable.assign(ops.copy(average))

    # === Config ===

    def get_config(self):
        return {
            "dense": keras.saving.serialize_keras_object(self.dense),
            "sparse": keras.saving.serialize_keras_object(self.sparse),
            "learning_rate": super().get_config()["learning_rate"],
            "sparse_learning_rate_ratio": self.sparse_learning_rate_ratio,
            "sparse_variables": self.sparse_variables,
            "loss_scale_factor": self.loss_scale_factor,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for key in ("dense", "sparse", "learning_rate"):
            if isinstance(config[key], dict):
                config[key] = keras.saving.deserialize_keras_object(
                    config[key], custom_objects=custom_objects
                )
        return cls(**config)


def _check_optimizer(argument, optimizer):
    if isinstance(optimizer, str):
        optimizer = keras.optimizers.get(optimizer)
    refused = (
        keras.optimizers.LossScaleOptimizer,
        keras.optimizers.MultiOptimizer,
        TwoGroupOptimizer,
    )
    if not isinstance(optimizer, keras.optimizers.Optimizer) or isinstance(
        optimizer, refused
    ):
        raise ValueError(
            f"`{argument}` must be the name or an instance of a plain Keras "
            f"optimizer. Received: {argument}={optimizer}"
        )
    if optimizer.built:
        raise ValueError(
            f"`{argument}` has been used already: it holds slots for other "
            f"variables. Received: {argument}={optimizer.name}"
        )
    if optimizer.loss_scale_factor is not None:
        raise ValueError(
            "`loss_scale_factor` belongs to TwoGroupOptimizer, which unscales "
            f"both groups. Received: {argument}={optimizer.name} with "
            f"loss_scale_factor={optimizer.loss_scale_factor}"
        )
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            "Gradient accumulation is not supported by TwoGroupOptimizer: "
            "the tables would still be updated at every step. Received: "
            f"{argument}={optimizer.name} with gradient_accumulation_steps="
            f"{optimizer.gradient_accumulation_steps}"
        )
    return optimizer


def _own_learning_rate(optimizer):
    rate = optimizer._learning_rate
    if isinstance(rate, keras.Variable):
        # Under a strategy a variable is no tensor.
        return float(ops.convert_to_numpy(rate))
    return rate
