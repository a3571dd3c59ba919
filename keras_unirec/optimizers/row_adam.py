import keras
from keras import ops

from keras_unirec.optimizers import _rows


@keras.saving.register_keras_serializable(package="keras_unirec")
class RowAdam(keras.optimizers.Adam):
    """Lazy Adam: Adam that updates only the rows a batch touches.

    For a gradient that lists its rows (`tf.IndexedSlices`), and `g_r` the sum
    over all occurrences of row `r`:

    `m_r += (1 - beta_1) (g_r - m_r);  v_r += (1 - beta_2) (g_r^2 - v_r)`

    `w_r -= learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m_r /
    (sqrt(v_r) + epsilon)`

    with `t` the number of steps of the optimizer. **This is lazy Adam, not
    Adam**: the moments of a row that the batch does not touch do not decay,
    and the row does not move, where Adam would go on along its momentum. A
    row that returns after a long time therefore still has the momentum of its
    last visit. In exchange a step costs the same whatever the vocabulary.
    Dense gradients (other variables; every variable on the JAX and Torch
    backends) take the ordinary Adam update.

    Args:
        learning_rate: float, schedule or callable. Defaults to `0.001`.
        beta_1: float. Decay of the first moment. Defaults to `0.9`.
        beta_2: float. Decay of the second moment. Defaults to `0.999`.
        epsilon: float. Defaults to `1e-7`.
        name: optional str.
        **kwargs: As in `RowAdagrad`: options that would touch every row are
            refused, and so is `amsgrad`.

    Example:
    ```python
    model.compile(keras_unirec.optimizers.RowAdam(1e-3), "mse")
    ```

    Reference: [Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980)
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        name="row_adam",
        **kwargs,
    ):
        kwargs = _rows.check_options("RowAdam", kwargs)
        amsgrad = kwargs.pop("amsgrad", False)
        if amsgrad:
            raise ValueError(
                "`amsgrad` is not supported by RowAdam. "
                f"Received: amsgrad={amsgrad}"
            )
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            name=name,
            **kwargs,
        )

    def update_step(self, gradient, variable, learning_rate):
        if not _rows.is_row_gradient(gradient):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        dtype = variable.dtype
        index = self._get_variable_index(variable)
        momentum = _rows.as_tf_variable(self._momentums[index])
        velocity = _rows.as_tf_variable(self._velocities[index])
        ids, gradient = _rows.merge_duplicates(gradient, dtype)

        step = ops.cast(self.iterations + 1, dtype)
        scale = ops.cast(learning_rate, dtype) * (
            tf.sqrt(1 - tf.cast(self.beta_2, dtype) ** step)
            / (1 - tf.cast(self.beta_1, dtype) ** step)
        )
        m = tf.gather(momentum, ids)
        m += (gradient - m) * (1 - self.beta_1)
        v = tf.gather(velocity, ids)
        v += (tf.square(gradient) - v) * (1 - self.beta_2)
        change = scale * m / (tf.sqrt(v) + self.epsilon)
        momentum.scatter_update(tf.IndexedSlices(m, ids))
        velocity.scatter_update(tf.IndexedSlices(v, ids))
        _rows.as_tf_variable(variable).scatter_sub(
            tf.IndexedSlices(change, ids)
        )
