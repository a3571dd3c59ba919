"""RowAdagrad and RowAdam, alone."""

import keras
import numpy as np
import pytest
from absl.testing import parameterized

from keras_unirec import optimizers
from tests.test_case import TestCase

tf = pytest.importorskip("tensorflow")
needs_rows = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="only TensorFlow has gradients by row",
)

ROWS, DIM = 30, 4
IDS = [3, 7, 3, 0, 3, 29, 7]


def start():
    rng = np.random.default_rng(1)
    return rng.normal(size=(ROWS, DIM)).astype("float32")


def row_gradient(seed, ids=IDS):
    """A gradient whose ids repeat, as rows."""
    values = np.random.default_rng(seed).normal(size=(len(ids), DIM))
    return tf.IndexedSlices(
        tf.constant(values, "float32"),
        tf.constant(ids, "int32"),
        tf.constant([ROWS, DIM]),
    )


def train(optimizer, dense, steps=5, jit_compile=False):
    table = keras.Variable(start(), name="embeddings")
    optimizer.build([table])

    def step(values, ids):
        gradient = tf.IndexedSlices(values, ids, tf.constant([ROWS, DIM]))
        if dense:
            gradient = tf.convert_to_tensor(gradient)
        optimizer.apply([gradient], [table])

    if jit_compile is not None:
        step = tf.function(step, jit_compile=jit_compile)
    for i in range(steps):
        gradient = row_gradient(i)
        step(gradient.values, gradient.indices)
    return table.numpy()


@needs_rows
class RowAdagradTest(TestCase):
    # Eager, graph, XLA.
    @parameterized.parameters(None, False, True)
    def test_equals_adagrad_on_dense_gradients(self, jit_compile):
        expected = train(keras.optimizers.Adagrad(0.1), dense=True)
        rows = train(
            optimizers.RowAdagrad(0.1), dense=False, jit_compile=jit_compile
        )
        self.assertAllClose(rows, expected, atol=1e-6)
        dense = train(optimizers.RowAdagrad(0.1), dense=True)
        self.assertAllClose(dense, expected, atol=0, rtol=0)

    def test_equals_the_formula(self):
        weights, squares = start(), np.full((ROWS, DIM), 0.1)
        for i in range(5):
            gradient = np.zeros((ROWS, DIM))
            np.add.at(gradient, IDS, row_gradient(i).values.numpy())
            squares += gradient**2
            weights = weights - 0.1 * gradient / np.sqrt(squares + 1e-7)
        rows = train(optimizers.RowAdagrad(0.1), dense=False)
        self.assertAllClose(rows, weights, atol=1e-6)

    def test_a_model_trains_as_with_dense_gradients(self):
        """Duplicates within a batch, through `fit`."""
        rng = np.random.default_rng(0)
        x = rng.integers(0, 6, size=(64, 5))
        y = rng.normal(size=(64, 1)).astype("float32")

        def fit(optimizer, dense_gradient, jit_compile=False):
            keras.utils.set_random_seed(0)
            ids = keras.Input((5,), dtype="int32")
            if dense_gradient:
                hot = keras.layers.CategoryEncoding(6, "one_hot")(ids)
                rows = keras.layers.Dense(3, use_bias=False, name="rows")(hot)
            else:
                rows = keras.layers.Embedding(6, 3, name="rows")(ids)
            model = keras.Model(
                ids, keras.layers.Dense(1)(keras.layers.Flatten()(rows))
            )
            weights = np.random.default_rng(1)
            model.set_weights(
                [weights.normal(size=w.shape) for w in model.get_weights()]
            )
            model.compile(optimizer, "mse", jit_compile=jit_compile)
            model.fit(x, y, batch_size=16, verbose=0, shuffle=False)
            return model.get_weights()

        expected = fit(keras.optimizers.Adagrad(0.1), dense_gradient=True)
        for jit_compile in (False, True):
            actual = fit(optimizers.RowAdagrad(0.1), False, jit_compile)
            for a, b in zip(actual, expected):
                self.assertAllClose(a, b, atol=1e-6)

    def test_untouched_rows_are_not_written(self):
        """The trace holds no operation of the size of the table."""
        optimizer = optimizers.RowAdagrad(0.1)
        table = keras.Variable(np.zeros((1000, DIM), "float32"))
        optimizer.build([table])

        @tf.function
        def step(values, ids):
            gradient = tf.IndexedSlices(values, ids, tf.constant([1000, DIM]))
            optimizer.apply([gradient], [table])

        graph = step.get_concrete_function(
            tf.TensorSpec((None, DIM)), tf.TensorSpec((None,), "int32")
        ).graph
        assert not [
            operation.type
            for operation in graph.get_operations()
            for output in operation.outputs
            if output.shape.rank and output.shape[0] == 1000
        ]


@needs_rows
class RowAdamTest(TestCase):
    @parameterized.parameters(None, False, True)
    def test_touched_rows_follow_adam(self, jit_compile):
        expected = train(keras.optimizers.Adam(0.1), dense=True)
        rows = train(
            optimizers.RowAdam(0.1), dense=False, jit_compile=jit_compile
        )
        # The same ids at every step: nothing that laziness could skip.
        self.assertAllClose(rows, expected, atol=1e-6)

    def test_untouched_rows_rest(self):
        table = keras.Variable(start())
        optimizer = optimizers.RowAdam(0.1)
        optimizer.apply([row_gradient(0, [1, 2])], [table])
        after_first = table.numpy()
        momentum = optimizer._momentums[0].numpy()
        optimizer.apply([row_gradient(1, [2])], [table])
        after_second = table.numpy()
        self.assertAllClose(after_second[1], after_first[1], atol=0, rtol=0)
        self.assertAllClose(
            optimizer._momentums[0][1], momentum[1], atol=0, rtol=0
        )
        assert np.abs(after_second[2] - after_first[2]).min() > 0


class RowOptionsTest(TestCase):
    @parameterized.parameters("RowAdagrad", "RowAdam")
    def test_config_round_trip(self, name):
        optimizer = getattr(optimizers, name)(0.25, epsilon=1e-5)
        config = keras.saving.serialize_keras_object(optimizer)
        assert config["registered_name"] == f"keras_unirec>{name}"
        copy = keras.saving.deserialize_keras_object(config)
        assert copy.get_config() == optimizer.get_config()

    @parameterized.product(
        name=["RowAdagrad", "RowAdam"],
        option=[
            {"weight_decay": 0.1},
            {"global_clipnorm": 1.0},
            {"use_ema": True},
            {"gradient_accumulation_steps": 2},
            {"loss_scale_factor": 2.0},
        ],
    )
    def test_whole_table_options_are_refused(self, name, option):
        with self.assertRaisesRegex(
            ValueError, f"`{next(iter(option))}` is not supported by {name}"
        ):
            getattr(optimizers, name)(**option)

    def test_amsgrad_is_refused(self):
        with self.assertRaisesRegex(ValueError, "`amsgrad`"):
            optimizers.RowAdam(amsgrad=True)
