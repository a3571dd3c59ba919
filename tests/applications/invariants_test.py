"""What must hold for every application, over all `_tiny` models."""

import os
import subprocess
import sys

import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

import keras_unirec as ku
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase

MODELS = [(name, name) for name in ku.applications.list_models("*_tiny")]

# What a model cannot keep by its own definition: (invariant, reason).
EXEMPT = {
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


def to_rows(schema, inputs, candidates):
    """The same pairs as requests of one candidate."""
    rows = {}
    for feature in schema.encoded:
        value = inputs[feature.key]
        if feature.side == "item":
            rows[feature.key] = value.reshape(-1, 1, *value.shape[2:])
        else:
            rows[feature.key] = np.repeat(value, candidates, axis=0)
    return rows


def pad_histories(schema, inputs, extra, fill=3):
    """More padding: events beyond the length, with any content."""
    padded = dict(inputs)
    for feature in schema.encoded:
        if feature.sequence and feature.kind not in ("length", "count"):
            value = inputs[feature.key]
            widths = [(0, 0)] * value.ndim
            widths[1] = (0, extra)
            padded[feature.key] = np.pad(value, widths, constant_values=fill)
    return padded


def copy_weights(source, target):
    """By path: where a weight is listed depends on the half that uses it."""
    values = {weight.path: weight.numpy().copy() for weight in source.weights}
    assert sorted(values) == sorted(weight.path for weight in target.weights)
    for weight in target.weights:
        weight.assign(values[weight.path])


class ExemptionsTest(TestCase):
    def test_table(self):
        tests = dir(InvariantsTest)
        for name, reasons in EXEMPT.items():
            for invariant in reasons:
                self.assertIn(f"test_{invariant}_{name}", tests)

    def test_rankmixer_has_no_keys_and_values(self):
        with self.assertRaisesRegex(ValueError, "no argument `kv_mode`"):
            ku.applications.load(
                "rankmixer_tiny", small_schema(), kv_mode="absorbed"
            )


class BackendsTest(TestCase):
    def test_backends_agree(self):
        if keras.backend.backend() != "tensorflow":
            self.skipTest("The TensorFlow run starts the other backend.")
        schema = small_schema()
        inputs, _, _ = small_batch(schema)
        folder = self.get_temp_dir()
        np.savez(f"{folder}/inputs.npz", **inputs)
        models = {
            name: ku.applications.load(name, schema) for name, _ in MODELS
        }
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
            "    outputs = {k: np.array(v) for k, v in model(inputs).items()}\n"
            "    np.savez(f'{folder}/{name}.npz', **outputs)\n"
        )
        subprocess.run(
            [sys.executable, "-c", script, folder, *models],
            env={**os.environ, "KERAS_BACKEND": "jax"},
            check=True,
        )
        for name, model in models.items():
            outputs = dict(np.load(f"{folder}/{name}.npz"))
            for label, value in model(inputs).items():
                self.assertAllClose(outputs[label], value, atol=1e-4)


@parameterized.named_parameters(MODELS)
class InvariantsTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, self.labels, self.weights = small_batch(self.schema)

    def assertSameOutputs(self, actual, expected, atol=1e-5):
        self.assertEqual(sorted(actual), sorted(self.schema.label_names))
        for name in expected:
            self.assertAllClose(actual[name], expected[name], atol=atol)

    def skip_if_exempt(self, name, invariant):
        reason = EXEMPT.get(name, {}).get(invariant)
        if reason is not None:
            self.skipTest(reason)

    def load(self, name, **kwargs):
        if name.startswith("unimixer"):
            kwargs["num_iterations"] = 3  # Quick to trace.
        return ku.applications.load(name, self.schema, **kwargs)

    def test_padding(self, name):
        model = self.load(name)
        padded = pad_histories(self.schema, self.inputs, extra=5)
        self.assertSameOutputs(model(padded), model(self.inputs))

    def test_content_of_padding(self, name):
        model = self.load(name)
        outputs = model(self.inputs)
        inputs = dict(self.inputs)
        for feature in self.schema.encoded:
            if feature.sequence and feature.kind not in ("length", "count"):
                value = inputs[feature.key].copy()
                length = inputs[f"{feature.sequence}.length"]
                padding = np.arange(value.shape[1]) >= length[:, None]
                value[padding] = 1
                inputs[feature.key] = value
        self.assertSameOutputs(model(inputs), outputs)

    def test_events_matter(self, name):
        model = self.load(name)
        self.inputs["watched.length"][:] = 8
        inputs = dict(self.inputs)
        inputs["hist_video_id"] = inputs["hist_video_id"][:, ::-1] % 20 + 2
        changed = model(inputs)["is_click"] - model(self.inputs)["is_click"]
        self.assertGreater(float(ops.max(ops.abs(changed))), 1e-6)

    def test_empty_histories(self, name):
        model = self.load(name)
        for events in (0, 4):
            inputs, _, _ = small_batch(self.schema, events=events)
            for sequence in self.schema.sequences:
                inputs[f"{sequence.name}.length"][:] = 0
            outputs = model(inputs)
            self.assertFinite(outputs["is_click"])
        model.compile("sgd")
        self.inputs["watched.length"][:] = 0
        self.inputs["liked.length"][:] = 0
        model.fit(self.inputs, self.labels, verbose=0)
        for weight in model.weights:
            self.assertFinite(weight)

    def test_requests_equal_rows(self, name):
        model = self.load(name)
        rows = to_rows(self.schema, self.inputs, candidates=3)
        outputs = model(self.inputs)
        self.assertSameOutputs(
            {
                label: ops.reshape(value, (-1, 3))
                for label, value in model(rows).items()
            },
            outputs,
        )

    def test_candidates_are_independent(self, name):
        model = self.load(name)
        outputs = model(self.inputs)
        order = np.array([2, 0, 1])
        permuted, fewer = dict(self.inputs), dict(self.inputs)
        for feature in self.schema.encoded:
            if feature.side == "item":
                value = self.inputs[feature.key]
                permuted[feature.key] = value[:, order]
                fewer[feature.key] = value[:, :1]
        self.assertSameOutputs(
            model(permuted),
            {k: ops.convert_to_numpy(v)[:, order] for k, v in outputs.items()},
        )
        self.assertSameOutputs(
            model(fewer), {k: v[:, :1] for k, v in outputs.items()}
        )

    def test_halves(self, name):
        model = self.load(name)
        state = model.encode_user(self.inputs)
        outputs = model(self.inputs)
        self.assertSameOutputs(model.score_items(state, self.inputs), outputs)
        with self.assertRaisesRegex(ValueError, "same number of requests"):
            items = {k: v[:2] for k, v in self.inputs.items()}
            model.score_items(state, items)

    def test_state_ignores_items(self, name):
        model = self.load(name)
        user_keys = list(self.schema.inputs()[0])
        state = model.encode_user({k: self.inputs[k] for k in user_keys})
        for tensor in state.values():
            self.assertEqual(tensor.shape[0], 6)

    def test_key_value_modes(self, name):
        self.skip_if_exempt(name, "key_value_modes")
        model = self.load(name, kv_mode="absorbed")
        projected = self.load(name, kv_mode="projected")
        copy_weights(model, projected)
        self.assertSameOutputs(projected(self.inputs), model(self.inputs))
        # Files of weights do not depend on the form either.
        path = f"{self.get_temp_dir()}/model.weights.h5"
        model.save_weights(path)
        again = self.load(name, kv_mode="projected", weights=path)
        self.assertSameOutputs(again(self.inputs), model(self.inputs))

    def test_training_and_round_trips(self, name):
        model = self.load(name)
        model.compile()
        history = model.fit(self.inputs, self.labels, epochs=20, verbose=0)
        losses = history.history["loss"]
        self.assertLess(losses[-1], losses[0])
        outputs = model(self.inputs)
        folder = self.get_temp_dir()
        model.save(f"{folder}/model.keras")
        model.save_weights(f"{folder}/model.weights.h5")
        loaded = keras.models.load_model(f"{folder}/model.keras")
        self.assertSameOutputs(loaded(self.inputs), outputs, atol=0)
        self.assertEqual(loaded.schema, model.schema)
        self.assertEqual(
            [weight.path for weight in loaded.weights],
            [weight.path for weight in model.weights],
        )
        again = self.load(name, weights=f"{folder}/model.weights.h5")
        self.assertSameOutputs(again(self.inputs), outputs, atol=0)
        copy = type(model).from_config(model.get_config())
        self.assertEqual(copy.get_config(), model.get_config())
        # The optimizer comes along: the next epochs are the same.
        losses = [
            m.fit(self.inputs, self.labels, shuffle=False, verbose=0).history
            for m in (model, loaded)
        ]
        self.assertEqual(losses[0]["loss"], losses[1]["loss"])

    def test_weight_paths_repeat(self, name):
        first, second = self.load(name), self.load(name)
        self.assertEqual(
            [weight.path for weight in first.weights],
            [weight.path for weight in second.weights],
        )

    def test_mixed_precision(self, name):
        model = self.load(name, dtype="mixed_bfloat16")
        self.assertEqual(model.dtype_policy.name, "mixed_bfloat16")
        full = self.load(name)
        for weight, other in zip(model.weights, full.weights):
            self.assertEqual(
                keras.backend.standardize_dtype(weight.dtype), "float32"
            )
            self.assertEqual(other.path, weight.path)
            other.assign(weight.numpy().copy())
        outputs = model(self.inputs)
        for label, value in full(self.inputs).items():
            dtype = keras.backend.standardize_dtype(outputs[label].dtype)
            self.assertEqual(dtype, "float32")
            self.assertAllClose(
                ops.sigmoid(outputs[label]), ops.sigmoid(value), atol=1e-2
            )
        model.compile("sgd")
        history = model.fit(self.inputs, self.labels, verbose=0)
        self.assertFinite(history.history["loss"])

    def test_jit(self, name):
        model, jitted = self.load(name), self.load(name)
        copy_weights(model, jitted)
        for each, jit in ((model, False), (jitted, True)):
            each.compile("sgd", jit_compile=jit)
            each.fit(self.inputs, self.labels, shuffle=False, verbose=0)
        self.assertSameOutputs(
            jitted.predict(self.inputs, verbose=0), model(self.inputs)
        )
