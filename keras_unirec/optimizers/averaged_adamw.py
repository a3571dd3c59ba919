import keras
from keras import ops

_MIXING_LOGITS = (
    "local_logits",
    "local_bases",
    "local_coefficients",
    "global_logits",
    "global_left",
    "global_right",
)


@keras.saving.register_keras_serializable(package="keras_unirec")
class AveragedAdamW(keras.optimizers.AdamW):
    """AdamW whose moving average of the weights fits runs of any length.

    Keras averages with one momentum from the first step on: after 20 steps at
    0.99, four fifths of the average are the weights of the first step. Here
    the momentum of step `t` is `min(ema_momentum, t / (t + 10))`, so that the
    average covers about the last tenth of a run until `ema_momentum` bounds
    it.

    The logits of mixing matrices (`UniMixing`) do not decay: that would pull
    the matrices to uniform ones.

    Args:
        learning_rate: float or schedule. Defaults to `0.001`.
        ema_momentum: float. The largest momentum. Defaults to `0.99`.
        use_ema: bool. `False` is plain AdamW. Defaults to `True`.
        **kwargs: Other arguments of `keras.optimizers.AdamW`.

    Example:
    ```python
    optimizer = keras_unirec.optimizers.AveragedAdamW(weight_decay=1e-4)
    ```
    """

    def __init__(
        self, learning_rate=0.001, ema_momentum=0.99, use_ema=True, **kwargs
    ):
        super().__init__(
            learning_rate=learning_rate,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            **kwargs,
        )

    def _use_weight_decay(self, variable):
        # Of a variable of Keras, or of TensorFlow: "path/name:0".
        if variable.name.split("/")[-1].split(":")[0] in _MIXING_LOGITS:
            return False
        return super()._use_weight_decay(variable)

    def _update_model_variables_moving_average(self, trainable_variables):
        if not self.use_ema:
            return
        step = ops.cast(self.iterations, "float32")
        momentum = ops.minimum(self.ema_momentum, step / (step + 10.0))
        for variable, average in zip(
            trainable_variables, self._model_variables_moving_average
        ):
            if average is not None:
                share = ops.cast(1.0 - momentum, variable.dtype)
                average.assign(average + share * (variable - average))
