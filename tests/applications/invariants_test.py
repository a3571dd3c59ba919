"""What must hold for every family, over all `_tiny` models (DESIGN 4)."""

import functools
import gc
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_unirec as ku
from tests.applications import families
from tests.applications.families import JAX
from tests.applications.families import weights_of
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase
from tests.test_case import to_numpy

# What a model cannot keep by its own definition: (invariant, reason).
EXEMPT = {
    "onetrans_tiny": {
        "key_value_modes": "its state is keys and values, in every layer",
    },
    "rankmixer_tiny": {
        "key_value_modes": "it pools histories and has no keys and values",
    },
    "unimixer_tiny": {
        "key_value_modes": "it pools histories, unless they are decoded",
    },
    "unimixer_lite_tiny": {
        "key_value_modes": "it pools histories, unless they are decoded",
    },
}


class Invariants(TestCase):
    """The tests of one family; `family` is shared by all of them."""

    __test__ = False
    name = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        keras.utils.set_random_seed(0)
        cls.family = families.Family(cls.name)

    @classmethod
    def tearDownClass(cls):
        del cls.family
        gc.collect()  # Graphs of thirty families would not fit.
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.schema = self.family.schema
        self.inputs = self.family.inputs

    def assertSameOutputs(self, actual, expected, atol=1e-5):
        self.assertEqual(sorted(actual), sorted(self.schema.label_names))
        for name in expected:
            self.assertAllClose(actual[name], expected[name], atol=atol)

    def assertSameWeights(self, actual, expected):
        # Where a weight is listed depends on the half that uses it first.
        self.assertEqual(sorted(actual), sorted(expected))
        for path in expected:
            self.assertAllClose(actual[path], expected[path], atol=0, rtol=0)

    def test_padding(self):
        padded = families.pad_histories(self.schema, self.inputs, extra=5)
        self.assertSameOutputs(self.family.score(padded), self.family.outputs)

    def test_content_of_padding(self):
        inputs = dict(self.inputs)
        for feature in families.events_of(self.schema):
            value = inputs[feature.key].copy()
            length = inputs[f"{feature.sequence}.length"]
            padding = np.arange(value.shape[1]) >= length[:, None]
            value[padding] = 1
            inputs[feature.key] = value
        self.assertSameOutputs(self.family.score(inputs), self.family.outputs)

    def test_events_matter(self):
        full = {**self.inputs, "watched.length": np.full(6, 8, "int32")}
        inputs = dict(full)
        inputs["hist_video_id"] = inputs["hist_video_id"][:, ::-1] % 20 + 2
        score = self.family.score
        changed = score(inputs)["is_click"] - score(full)["is_click"]
        self.assertGreater(np.abs(changed).max(), 1e-6)

    def test_empty_histories(self):
        padded = families.without_events(self.schema, self.inputs)
        outputs = self.family.score(padded)
        none = families.without_events(self.schema, self.inputs, padding=0)
        self.assertSameOutputs(self.family.score(none), outputs)
        for value in outputs.values():
            self.assertFinite(value)
        # Gradients of histories that are padded, or of no event at all.
        for value in self.family.trained.end.values():
            self.assertFinite(value)
        for inputs in () if JAX else (padded, none):
            loss, gradients = self.family.gradients(inputs)
            for value in (loss, *gradients.values()):
                self.assertFinite(value)

    def test_requests_equal_rows(self):
        self.assertSameOutputs(self.family.rows, self.family.outputs)

    def test_candidates_are_independent(self):
        outputs = self.family.outputs
        order = np.array([2, 0, 1])
        permuted, others = dict(self.inputs), dict(self.inputs)
        for feature in self.schema.encoded:
            if feature.side == "item":
                value = self.inputs[feature.key]
                permuted[feature.key] = value[:, order]
                others[feature.key] = np.concatenate(
                    [value[:, :1], value[::-1, 1:]], axis=1
                )
        self.assertSameOutputs(
            self.family.score(permuted),
            {label: value[:, order] for label, value in outputs.items()},
        )
        first = {label: value[:, :1] for label, value in outputs.items()}
        for alone in (self.family.score(others), self.family.rows):
            self.assertSameOutputs(
                {label: value[:, :1] for label, value in alone.items()}, first
            )

    def test_halves(self):
        self.assertSameOutputs(self.family.halves, self.family.outputs)
        with self.assertRaisesRegex(ValueError, "same number of requests"):
            items = {key: value[:2] for key, value in self.inputs.items()}
            self.family.model.score_items(self.family.state, items)

    def test_state_ignores_items(self):
        model = self.family.model
        user, items = self.schema.inputs()
        self.assertEqual({x.name for x in model.user_model.inputs}, set(user))
        self.assertLessEqual(
            set(items), {x.name for x in model.item_model.inputs}
        )
        self.assertTrue(self.family.state)  # Of the user's inputs alone.
        for tensor in self.family.state.values():
            self.assertEqual(tensor.shape[0], 6)

    def test_key_value_modes(self):
        model = self.family.model
        if "key_value_modes" in EXEMPT.get(self.name, {}):
            with self.assertRaisesRegex(ValueError, "has no `kv_mode`"):
                model.with_kv_mode("projected")
            return
        projected = model.with_kv_mode("projected")
        self.assertSameWeights(weights_of(projected), weights_of(model))
        self.assertNotEqual(
            sorted(projected.user_model.output), sorted(model.user_model.output)
        )
        # One candidate, or a number that is not known, is absorbed.
        inputs, expected = self.inputs, self.family.outputs
        if JAX:
            inputs = families.to_rows(self.schema, self.inputs)
            expected = {
                label: value.reshape(-1, 1)
                for label, value in self.family.rows.items()
            }
        outputs = families.compiled(projected, projected)(inputs)
        self.assertSameOutputs(outputs, expected)
        # Files of weights do not depend on the form either.
        for weight in projected.weights:
            weight.assign(np.zeros(weight.shape, "float32"))
        projected.load_weights(self.family.weights_file)
        self.assertSameWeights(weights_of(projected), weights_of(model))

    def test_training(self):
        losses = self.family.trained.losses
        self.assertFinite(losses)
        self.assertLess(losses[-1], losses[0])

    def test_every_weight_learns(self):
        if JAX:
            self.skipTest("JAX gives zeros, not None.")
        _, gradients = self.family.gradients(self.inputs)
        weights = {w.path for w in self.family.shallow.trainable_weights}
        if "every_weight_learns" in EXEMPT.get(self.name, {}):
            self.assertLess(set(gradients), weights)
        else:
            self.assertEqual(set(gradients), weights)

    def test_compiled_step(self):
        """What XLA computes is what TensorFlow does without it."""
        if JAX:
            self.skipTest("JAX compiles everything; the backends agree.")
        gradients = self.family.gradients  # Traced before the weights change.
        trained = self.family.trained
        for weight in trained.model.weights:
            weight.assign(trained.before[weight.path])
        loss, gradients = gradients(self.inputs)
        self.assertAllClose(trained.losses[0], loss, atol=1e-5)
        for path, gradient in gradients.items():
            expected = trained.before[path] - 0.1 * gradient
            self.assertAllClose(trained.after[path], expected, atol=1e-5)

    def test_round_trip_of_a_file(self):
        model, loaded = self.family.model, self.family.loaded
        self.assertSameWeights(weights_of(loaded), weights_of(model))
        self.assertEqual(loaded.schema, model.schema)
        self.assertEqual(loaded.get_config(), model.get_config())
        if not JAX:  # It would compile each operation.
            outputs = model(self.inputs)
            self.assertSameOutputs(loaded(self.inputs), outputs, atol=0)
        # The optimizer comes along.
        for variable, other in zip(
            loaded.optimizer.variables, model.optimizer.variables, strict=True
        ):
            self.assertEqual(variable.path, other.path)
            self.assertAllClose(variable, other, atol=0, rtol=0)

    def test_round_trip_of_weights(self):
        again = self.family.load(weights=self.family.weights_file)
        model = self.family.model
        self.assertSameWeights(weights_of(again), weights_of(model))
        if not JAX:
            self.assertSameOutputs(
                again(self.inputs), model(self.inputs), atol=0
            )

    def test_round_trip_of_the_config(self):
        model = self.family.model
        config = json.loads(json.dumps(model.get_config()))
        copy = type(model).from_config(config)
        self.assertEqual(copy.get_config(), model.get_config())
        # Names of weights repeat, in the same order.
        self.assertEqual(
            [(weight.path, weight.shape) for weight in copy.weights],
            [(weight.path, weight.shape) for weight in model.weights],
        )

    def test_mixed_precision(self):
        model, outputs = self.family.half
        self.assertEqual(model.dtype_policy.name, "mixed_bfloat16")
        for weight in model.weights:
            self.assertEqual(
                keras.backend.standardize_dtype(weight.dtype), "float32"
            )
        for label, value in self.family.outputs.items():
            self.assertEqual(outputs[label].dtype, "float32")
            self.assertAllClose(
                _sigmoid(outputs[label]), _sigmoid(value), atol=1e-2
            )
        if JAX:
            trained = self.family.trained.model
            self.assertEqual(trained.dtype_policy.name, "mixed_bfloat16")
            return
        model.compile("sgd", metrics=[], run_eagerly=True)
        self.assertFinite(model.train_on_batch(self.inputs, self.family.labels))
        for value in weights_of(model).values():
            self.assertFinite(value)

    def test_attributes(self):
        """No part stands under a name of Keras: `fit` sets `history`."""
        before, after = names_of_keras()
        names = {n for n in vars(self.family.load()) if n[:6] != "_self_"}
        self.assertEqual(names & (after - before), set())
        self.assertEqual((names - before) & set(dir(keras.Model)), set())


@functools.cache
def names_of_keras():
    """The attributes of a model without any own, before and after `fit`."""

    class Plain(keras.Model):
        def call(self, inputs):
            return inputs

    model = Plain()
    x = np.zeros((2, 1), "float32")
    model(x)
    before = set(vars(model))
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(x, x, validation_data=(x, x), verbose=0)
    model.predict(x, verbose=0)
    return before, set(vars(model))


def _sigmoid(x):
    return 1 / (1 + np.exp(-to_numpy(x)))


for _name in families.NAMES:
    _class = type(f"Invariants_{_name}", (Invariants,), {"name": _name})
    _class.__test__ = True
    # In one process, where processes share the tests.
    globals()[_class.__name__] = pytest.mark.xdist_group(_name)(_class)
del _class


class ExemptionsTest(TestCase):
    def test_table(self):
        for name, reasons in EXEMPT.items():
            self.assertIn(name, families.NAMES)
            for invariant, reason in reasons.items():
                self.assertTrue(hasattr(Invariants, f"test_{invariant}"))
                self.assertTrue(reason)

    def test_rankmixer_has_no_keys_and_values(self):
        with self.assertRaisesRegex(ValueError, "no argument `kv_mode`"):
            ku.applications.load(
                "rankmixer_tiny", small_schema(), kv_mode="absorbed"
            )


class BackendsTest(TestCase):
    def test_backends_agree(self):
        if JAX:
            self.skipTest("The TensorFlow run starts the other backend.")
        schema = small_schema()
        inputs, _, _ = small_batch(schema)
        folder = self.get_temp_dir()
        np.savez(f"{folder}/inputs.npz", **inputs)
        models = {name: families.load(name, schema) for name in families.NAMES}
        for name, model in models.items():
            model.save(f"{folder}/{name}.keras")
        # One process for all: its start takes longer than the models.
        script = (
            "import keras, numpy as np, sys, keras_unirec\n"
            "assert keras.backend.backend() == 'jax'\n"
            "folder, *names = sys.argv[1:]\n"
            "inputs = dict(np.load(folder + '/inputs.npz'))\n"
            "for name in names:\n"
            "    model = keras.models.load_model(f'{folder}/{name}.keras')\n"
            "    outputs = model.predict(inputs, verbose=0)\n"
            "    np.savez(f'{folder}/{name}.npz', **outputs)\n"
        )
        environment = {
            "KERAS_BACKEND": "jax",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        }
        subprocess.run(
            [sys.executable, "-c", script, folder, *models],
            env={**os.environ, **environment},
            check=True,
        )
        for name, model in models.items():
            outputs = dict(np.load(f"{folder}/{name}.npz"))
            for label, value in model(inputs).items():
                self.assertAllClose(outputs[label], value, atol=1e-4)
