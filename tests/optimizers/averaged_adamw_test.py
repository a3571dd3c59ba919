import keras
import numpy as np

from keras_unirec import optimizers
from tests.test_case import TestCase
from tests.test_case import to_numpy


class AveragedAdamWTest(TestCase):
    def test_equals_the_formula(self):
        optimizer = optimizers.AveragedAdamW(0.1, ema_momentum=0.6)
        variable = keras.Variable(np.array([1.0, -2.0], "float32"))
        optimizer.build([variable])
        average = None
        for step in range(30):
            optimizer.apply([keras.ops.sign(variable.value) * 1.0], [variable])
            value = to_numpy(variable.value).copy()
            momentum = min(0.6, step / (step + 10))
            average = (
                value
                if average is None
                else momentum * average + (1 - momentum) * value
            )
        (actual,) = optimizer._model_variables_moving_average
        self.assertAllClose(actual, average, atol=1e-6)

    def test_a_short_run_is_not_the_first_step(self):
        x = np.random.default_rng(0).normal(size=(160, 4)).astype("float32")
        y = x @ np.array([[1.0], [-2.0], [3.0], [0.5]], "float32")
        model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
        model.compile(optimizers.AveragedAdamW(0.2), "mse")
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        first = float(np.mean(y**2))
        self.assertLess(model.evaluate(x, y, verbose=0), 0.1 * first)

    def test_mixing_logits_do_not_decay(self):
        optimizer = optimizers.AveragedAdamW(0.1, weight_decay=0.5)
        names = ("kernel", "local_logits", "global_left")
        variables = [keras.Variable(np.ones(2), name=n) for n in names]
        optimizer.build(variables)
        optimizer.apply([np.zeros(2, "float32")] * 3, variables)
        self.assertAllClose(variables[0], [0.95, 0.95])
        self.assertAllClose(variables[1], [1.0, 1.0])
        self.assertAllClose(variables[2], [1.0, 1.0])

    def test_config(self):
        optimizer = optimizers.AveragedAdamW(0.1, ema_momentum=0.5)
        copy = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(optimizer)
        )
        self.assertEqual(copy.get_config(), optimizer.get_config())
