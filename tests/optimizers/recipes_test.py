import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import optimizers
from tests.test_case import TestCase


class RecipesTest(TestCase):
    @parameterized.parameters("default", "paper", "adam")
    def test_trains_and_serializes(self, name):
        ids = keras.Input((2,), dtype="int32")
        x = keras.layers.Flatten()(keras.layers.Embedding(20, 4)(ids))
        model = keras.Model(ids, keras.layers.Dense(1)(x))
        model.compile(optimizers.recipe(name), "mse")
        rng = np.random.default_rng(0)
        x = rng.integers(0, 20, size=(256, 2))
        y = (x.sum(axis=1, keepdims=True) > 19).astype("float32")
        losses = model.fit(x, y, epochs=3, batch_size=8, verbose=0)
        assert losses.history["loss"][-1] < losses.history["loss"][0]
        copy = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(model.optimizer)
        )
        assert copy.get_config() == model.optimizer.get_config()

    def test_paper(self):
        optimizer = optimizers.recipe("paper")
        assert isinstance(optimizer.dense, keras.optimizers.RMSprop)
        assert isinstance(optimizer.sparse, optimizers.RowAdagrad)
        self.assertAllClose(optimizer.dense.learning_rate, 0.01)
        self.assertAllClose(optimizer.sparse.learning_rate, 0.05)

    def test_adam(self):
        optimizer = optimizers.recipe("adam")
        assert isinstance(optimizer.dense, keras.optimizers.Adam)
        assert isinstance(optimizer.sparse, optimizers.RowAdam)
        self.assertAllClose(optimizer.dense.learning_rate, 0.001)
        self.assertAllClose(optimizer.sparse.learning_rate, 0.001)

    def test_overrides(self):
        optimizer = optimizers.recipe("default", peak=0.5)
        assert optimizer._learning_rate.peak == 0.5

    def test_unknown(self):
        self.assertRaisesRegex(
            ValueError,
            r"\['adam', 'default', 'paper'\]",
            optimizers.recipe,
            "best",
        )
