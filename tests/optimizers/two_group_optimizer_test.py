import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from absl.testing import parameterized

from keras_unirec import optimizers
from tests.test_case import TestCase

ROWS = 40
on_tensorflow = keras.backend.backend() == "tensorflow"


def small_model():
    keras.utils.set_random_seed(0)
    ids = keras.Input((3,), dtype="int32", name="ids")
    x = keras.layers.Embedding(ROWS, 4, name="table")(ids)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(ids, keras.layers.Dense(1, name="head")(x))


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, ROWS, size=(64, 3)).astype("int32")
    return x, rng.normal(size=(64, 1)).astype("float32")


def fit(model, **kwargs):
    x, y = data()
    return model.fit(
        x, y, batch_size=16, shuffle=False, verbose=0, **kwargs
    ).history["loss"]


def weights(model):
    return {w.path: w.numpy() for w in model.weights}


def synchronized_weights(model):
    """The weights between two batches."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    return weights(model)


def two_groups(**kwargs):
    kwargs = {
        "dense": keras.optimizers.AdamW(weight_decay=0.01),
        "sparse": optimizers.RowAdagrad(),
        "learning_rate": 0.01,
        "sparse_learning_rate_ratio": 5.0,
        **kwargs,
    }
    return optimizers.TwoGroupOptimizer(**kwargs)


class TwoGroupOptimizerTest(TestCase):
    def test_each_group_gets_its_own_slots(self):
        optimizer = two_groups()
        optimizer.build(small_model().trainable_variables)
        assert [v.path for v in optimizer.dense._trainable_variables] == [
            "hidden/kernel",
            "hidden/bias",
            "head/kernel",
            "head/bias",
        ]
        assert [v.path for v in optimizer.sparse._trainable_variables] == [
            "table/embeddings"
        ]
        # Two counters of the groups, one here, and the learning rate.
        assert len(optimizer.variables) == 4 + 2 * 4 + 1

    def test_equals_the_two_optimizers_apart(self):
        def gradients(variables, step):
            rng = np.random.default_rng(step)
            return [
                keras.ops.convert_to_tensor(
                    rng.normal(size=v.shape).astype("float32")
                )
                for v in variables
            ]

        model, parts = small_model(), small_model()
        together = two_groups()
        dense = keras.optimizers.AdamW(0.01, weight_decay=0.01)
        sparse = optimizers.RowAdagrad(0.05)
        table, *rest = parts.trainable_variables
        for step in range(4):
            together.apply(
                gradients(model.trainable_variables, step),
                model.trainable_variables,
            )
            first, *others = gradients(parts.trainable_variables, step)
            sparse.apply([first], [table])
            dense.apply(others, rest)
        for a, b in zip(model.get_weights(), parts.get_weights()):
            self.assertAllClose(a, b, atol=1e-7)

    def test_learning_rate_moves_both_groups(self):
        optimizer = two_groups()
        optimizer.learning_rate = 0.5
        self.assertAllClose(optimizer.dense.learning_rate, 0.5)
        self.assertAllClose(optimizer.sparse.learning_rate, 2.5)

    def test_learning_rates_of_the_groups_are_the_default(self):
        optimizer = optimizers.TwoGroupOptimizer(
            keras.optimizers.RMSprop(0.01), optimizers.RowAdagrad(0.05)
        )
        self.assertAllClose(optimizer.learning_rate, 0.01)
        self.assertAllClose(optimizer.sparse_learning_rate_ratio, 5.0)
        by_name = optimizers.TwoGroupOptimizer("adam", "adagrad", 1)
        self.assertAllClose(by_name.sparse.learning_rate, 1.0)

    def test_learning_rate_scheduler_keeps_the_ratio(self):
        model = small_model()
        model.compile(two_groups(), "mse")
        seen = []
        watch = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(
                [
                    float(group.learning_rate.numpy())
                    for group in (model.optimizer.dense, model.optimizer.sparse)
                ]
            )
        )
        scheduler = keras.callbacks.LearningRateScheduler(
            lambda epoch, rate: [0.1, 0.02][epoch]
        )
        fit(model, epochs=2, callbacks=[scheduler, watch])
        self.assertAllClose(seen, [[0.1, 0.5], [0.02, 0.1]])

    def test_schedule(self):
        schedule = optimizers.WarmupDecay(0.1, warmup=2)
        schedule.plan(8)
        model, constant = small_model(), small_model()
        model.compile(two_groups(learning_rate=schedule), "mse")
        assert fit(model, epochs=2)[-1] > 0
        self.assertAllClose(model.optimizer.learning_rate, 0.0)
        # A rate of zero changes nothing more, decay included.
        before = weights(model)
        fit(model)
        for path, value in weights(model).items():
            self.assertAllClose(value, before[path], atol=0, rtol=0)
        constant.compile(two_groups(), "mse")
        fit(constant)

    def test_weight_decay_leaves_tables_alone(self):
        model = small_model()
        optimizer = two_groups(
            dense=keras.optimizers.AdamW(weight_decay=0.9), learning_rate=1.0
        )
        before = weights(model)
        zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
        optimizer.apply(zeros, model.trainable_variables)
        after = weights(model)
        self.assertAllClose(
            after["table/embeddings"], before["table/embeddings"], atol=0
        )
        self.assertAllClose(
            after["hidden/kernel"], 0.1 * before["hidden/kernel"], atol=1e-6
        )

    def test_the_global_norm_is_that_of_the_dense_group(self):
        model = small_model()
        optimizer = two_groups(
            dense=keras.optimizers.SGD(global_clipnorm=1.0),
            sparse=keras.optimizers.SGD(),
            learning_rate=1.0,
            sparse_learning_rate_ratio=1.0,
        )
        before = weights(model)
        ones = [keras.ops.ones(v.shape) for v in model.trainable_variables]
        optimizer.apply(ones, model.trainable_variables)
        after = weights(model)
        change = {path: before[path] - after[path] for path in before}
        self.assertAllClose(change.pop("table/embeddings"), np.ones((ROWS, 4)))
        norm = np.sqrt(sum((c**2).sum() for c in change.values()))
        self.assertAllClose(norm, 1.0, atol=1e-5)

    def test_ema_averages_the_dense_group_at_the_end_of_fit(self):
        model, plain = small_model(), small_model()
        dense = keras.optimizers.AdamW(use_ema=True, ema_momentum=0.5)
        model.compile(two_groups(dense=dense), "mse")
        plain.compile(two_groups(dense=keras.optimizers.AdamW()), "mse")
        history = []
        fit(
            plain,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_train_batch_end=lambda b, logs: history.append(
                        synchronized_weights(plain)
                    )
                )
            ],
        )
        fit(model)
        average = None
        for value in history:
            value = value["hidden/kernel"]
            average = value if average is None else (average + value) / 2
        after = weights(model)
        self.assertAllClose(after["hidden/kernel"], average, atol=1e-6)
        self.assertAllClose(
            after["table/embeddings"],
            history[-1]["table/embeddings"],
            atol=1e-6,
        )

    def test_swap_ema_weights(self):
        """The stock callback: evaluation sees averaged dense weights."""
        model = small_model()
        dense = keras.optimizers.AdamW(use_ema=True, ema_momentum=0.5)
        model.compile(two_groups(dense=dense), "mse")
        fit(model)
        for average in model.optimizer._model_variables_moving_average:
            average.assign(keras.ops.zeros(average.shape))
        before = weights(model)
        swap = keras.callbacks.SwapEMAWeights()
        swap.set_model(model)
        swap.on_test_begin()
        during = weights(model)
        assert not during["hidden/kernel"].any()
        assert not during["head/kernel"].any()
        self.assertAllClose(
            during["table/embeddings"], before["table/embeddings"], atol=0
        )
        swap.on_test_end()
        for path, value in weights(model).items():
            self.assertAllClose(value, before[path], atol=1e-6)

    @parameterized.parameters("number", "schedule")
    def test_keras_file_resumes_exactly(self, rate):
        schedule = optimizers.WarmupDecay(0.01)
        schedule.plan(20)
        model = small_model()
        optimizer = two_groups(
            dense=keras.optimizers.AdamW(use_ema=True, global_clipnorm=1.0),
            learning_rate=0.01 if rate == "number" else schedule,
        )
        model.compile(optimizer, "mse")
        fit(model)
        if rate == "number":
            model.optimizer.learning_rate = 0.02
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        assert isinstance(loaded.optimizer, optimizers.TwoGroupOptimizer)
        for a, b in zip(
            loaded.optimizer.variables, model.optimizer.variables, strict=True
        ):
            self.assertAllClose(a, b, atol=0, rtol=0)
        assert fit(loaded) == fit(model)

    def test_set_weights(self):
        variables = small_model().trainable_variables
        first, second = two_groups(), two_groups()
        first.build(variables)
        second.build(variables)
        values = [np.full(v.shape, i) for i, v in enumerate(first.variables)]
        second.set_weights(values)
        for variable, value in zip(second.variables, values):
            self.assertAllClose(variable, value)
        with self.assertRaisesRegex(ValueError, "Expected shape"):
            second.set_weights(values[::-1])

    def test_a_group_may_be_empty(self):
        for pattern in ("nothing", ".*"):
            model = small_model()
            model.compile(two_groups(sparse_variables=pattern), "mse")
            assert np.isfinite(fit(model)).all()

    @parameterized.parameters("mixed_bfloat16", "mixed_float16")
    def test_mixed_precision(self, dtype):
        keras.config.set_dtype_policy(dtype)
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        model = small_model()
        dense = keras.optimizers.AdamW(use_ema=True)
        model.compile(two_groups(dense=dense), "mse")
        before = weights(model)
        losses = fit(model, epochs=3)
        self.assertLess(losses[-1], losses[0])
        for path, value in weights(model).items():
            self.assertGreater(np.abs(value - before[path]).max(), 0, path)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        self.assertEqual(fit(keras.models.load_model(path)), fit(model))

    def test_loss_scale_factor(self):
        scaled, plain = small_model(), small_model()
        scaled.compile(two_groups(loss_scale_factor=1024.0), "mse")
        plain.compile(two_groups(), "mse")
        fit(scaled)
        fit(plain)
        for a, b in zip(scaled.get_weights(), plain.get_weights()):
            self.assertAllClose(a, b, atol=1e-5)

    def test_jit_compile(self):
        compiled, plain = small_model(), small_model()
        compiled.compile(two_groups(), "mse", jit_compile=True)
        plain.compile(two_groups(), "mse", jit_compile=False)
        fit(compiled)
        fit(plain)
        for a, b in zip(compiled.get_weights(), plain.get_weights()):
            self.assertAllClose(a, b, atol=1e-5)

    def test_errors(self):
        adam = keras.optimizers.Adam()
        used = keras.optimizers.Adam()
        used.build(small_model().trainable_variables)
        build = optimizers.TwoGroupOptimizer
        for regex, function in [
            ("two optimizers", lambda: build(adam, adam)),
            ("`dense` must be", lambda: build(3, "adam")),
            ("`sparse` must be", lambda: build("adam", two_groups())),
            ("`dense` has been used", lambda: build(used, "adam")),
            (
                "`sparse_learning_rate_ratio`",
                lambda: two_groups(sparse_learning_rate_ratio=-1.0),
            ),
            (
                "`use_ema`",
                lambda: two_groups(sparse=keras.optimizers.SGD(use_ema=True)),
            ),
            (
                "Gradient accumulation",
                lambda: two_groups(
                    dense=keras.optimizers.SGD(gradient_accumulation_steps=2)
                ),
            ),
            (
                "`loss_scale_factor`",
                lambda: two_groups(
                    dense=keras.optimizers.SGD(loss_scale_factor=2.0)
                ),
            ),
            (
                "No gradients",
                lambda: two_groups().apply(
                    [None], small_model().trainable_variables[:1]
                ),
            ),
        ]:
            self.assertRaisesRegex(ValueError, regex, function)


MIRRORED = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
import keras
from keras_unirec import optimizers
from tests.optimizers.two_group_optimizer_test import data
from tests.optimizers.two_group_optimizer_test import small_model

def train(sparse, learning_rate):
    model = small_model()
    dense = keras.optimizers.AdamW(
        weight_decay=0.01, use_ema=True, ema_momentum=0.5, global_clipnorm=1.0
    )
    model.compile(
        optimizers.TwoGroupOptimizer(dense, sparse, learning_rate, 5.0),
        "mse",
        jit_compile=False,
    )
    x, y = data()
    before = model.get_weights()
    model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0)
    assert np.abs(model.get_weights()[0] - before[0]).max() > 0.01
    return model

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
schedule = optimizers.WarmupDecay(0.01)
schedule.plan(12)
for sparse, rate in [
    (optimizers.RowAdagrad, 0.01),
    (optimizers.RowAdam, schedule),
]:
    single = train(sparse(), rate)
    with strategy.scope():
        mirrored = train(sparse(), rate)
    for a, b in zip(single.weights, mirrored.weights):
        copies = [v.numpy() for v in b.value.values]
        assert (copies[0] == copies[1]).all(), b.path
        error = np.abs(a.numpy() - copies[0]).max()
        assert error < 1e-6, (sparse, b.path, error)
    slots = zip(single.optimizer.variables, mirrored.optimizer.variables)
    for a, b in slots:
        error = np.abs(a.numpy() - b.numpy()).max()
        assert error < 1e-6, (sparse, b.path, error)
print("equal")
"""


@pytest.mark.skipif(not on_tensorflow, reason="tf.distribute")
def test_mirrored_strategy_equals_one_device():
    """In its own process: logical devices are set before TensorFlow starts."""
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "equal" in done.stdout
