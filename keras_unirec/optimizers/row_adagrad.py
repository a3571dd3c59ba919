import keras
from keras import ops

from keras_unirec.optimizers import _rows


@keras.saving.register_keras_serializable(package="keras_unirec")
class RowAdagrad(keras.optimizers.Adagrad):
    """Adagrad that reads and writes only the rows a batch touches.

    `keras.optimizers.Adagrad` takes the square root of the whole accumulator
    and rewrites the whole table at every step, so a step costs more the
    larger the vocabulary is. Here a gradient that lists its rows
    (`tf.IndexedSlices`, which a gather on a `tf.Variable` produces) updates
    those rows alone:

    `a_r += g_r^2;  w_r -= learning_rate * g_r / sqrt(a_r + epsilon)`

    with `g_r` the sum over all occurrences of row `r`. A row without a
    gradient does not move under Adagrad, so this **equals Adagrad on the
    dense gradient** up to rounding. (`keras.optimizers.Adagrad` itself does
    not when it gets rows on TensorFlow: it adds the squares of the
    occurrences of a row instead of the square of their sum.) Dense gradients
    (other variables; every variable on the JAX and Torch backends) take the
    ordinary update.

    Args:
        learning_rate: float, schedule or callable. Defaults to `0.01`.
        initial_accumulator_value: float. Start of the accumulators. A
            gradient averaged over a batch is small: with `0.1` the first
            steps of a rare row are close to plain gradient descent.
            Defaults to `0.1`.
        epsilon: float, inside the square root. Defaults to `1e-7`.
        name: optional str.
        **kwargs: The other arguments of Keras optimizers are refused where
            they would touch every row (weight decay, clipping, EMA, gradient
            accumulation): set them on the dense group of
            `keras_unirec.optimizers.TwoGroupOptimizer`.

    Example:
    ```python
    model.compile(keras_unirec.optimizers.RowAdagrad(0.05), "mse")
    ```

    Reference: [Duchi et al., 2011](
    https://jmlr.org/papers/v12/duchi11a.html)
    """

    def __init__(
        self,
        learning_rate=0.01,
        initial_accumulator_value=0.1,
        epsilon=1e-7,
        name="row_adagrad",
        **kwargs,
    ):
        kwargs = _rows.check_options("RowAdagrad", kwargs)
        super().__init__(
            learning_rate=learning_rate,
            initial_accumulator_value=initial_accumulator_value,
            epsilon=epsilon,
            name=name,
            **kwargs,
        )

    def update_step(self, gradient, variable, learning_rate):
        if not _rows.is_row_gradient(gradient):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        ids, gradient = _rows.merge_duplicates(gradient, variable.dtype)
        accumulator = _rows.as_tf_variable(
            self._accumulators[self._get_variable_index(variable)]
        )
        squares = tf.gather(accumulator, ids) + tf.square(gradient)
        step = ops.cast(learning_rate, variable.dtype) * gradient
        step = step / tf.sqrt(squares + self.epsilon)
        accumulator.scatter_update(tf.IndexedSlices(squares, ids))
        _rows.as_tf_variable(variable).scatter_sub(tf.IndexedSlices(step, ids))
