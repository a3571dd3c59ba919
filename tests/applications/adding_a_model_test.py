"""The family of `docs/adding_a_model.md`: what the page says works."""

import re
import unittest
from pathlib import Path

import keras
import numpy as np

import keras_unirec as ku
from keras_unirec.applications import registry
from tests.applications import families
from tests.applications.families import JAX
from tests.applications.families import arrays
from tests.small_log import small_frame
from tests.test_case import TestCase

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding_a_model.md"
NAME = "gated_mixer_tiny"
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


class AddingAModelTest(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.names = {"__name__": "my_models"}
        exec(compile(CODE, str(PAGE), "exec"), cls.names)
        # Few iterations of Sinkhorn are quick to trace.
        families.QUICK[NAME] = {
            "mixer": ku.layers.UniMixingLite(num_iterations=3)
        }
        cls.family = families.Family(NAME)

    @classmethod
    def tearDownClass(cls):
        del registry._MODELS[NAME], families.QUICK[NAME], cls.family
        super().tearDownClass()

    def assertScores(self, actual, expected, atol=1e-5):
        self.assertEqual(set(actual), {"is_click", "is_like"})
        for label in actual:
            self.assertAllClose(actual[label], expected[label], atol=atol)

    def test_is_short(self):
        self.assertLessEqual(sum(bool(x.strip()) for x in CODE.split("\n")), 60)

    def test_padding_changes_nothing(self):
        family = self.family
        padded = families.pad_histories(family.schema, family.inputs, 5)
        self.assertScores(family.score(padded), family.outputs)
        empty = families.without_events(family.schema, family.inputs)
        for value in family.score(empty).values():
            self.assertFinite(value)

    def test_histories_matter(self):
        empty = families.without_events(self.family.schema, self.family.inputs)
        outputs = self.family.score(empty)["is_click"]
        change = np.abs(outputs - self.family.outputs["is_click"])
        self.assertGreater(change[1:].max(), 1e-4)

    def test_requests_equal_rows(self):
        self.assertScores(self.family.rows, self.family.outputs)

    def test_candidates_are_independent(self):
        family = self.family
        turned = dict(family.inputs)
        for feature in family.schema.encoded:
            if feature.side == "item":
                turned[feature.key] = family.inputs[feature.key][:, ::-1]
        outputs = {k: v[:, ::-1] for k, v in family.score(turned).items()}
        self.assertScores(outputs, family.outputs)

    def test_halves(self):
        self.assertScores(self.family.halves, self.family.outputs)
        names = [
            f"state_histories_{history}_{what}"
            for history in ("watched", "liked")
            for what in ("events", "mask")
        ]
        self.assertCountEqual(self.family.state, ["state_context", *names])

    def test_keras_file(self):
        loaded = arrays(self.family.loaded(self.family.inputs))
        self.assertScores(loaded, self.family.outputs)

    def test_parts(self):
        """Other parts, by name; an option of a part says where it belongs."""
        for parts in ({"mixer": None}, {"residual": "siamese"}):
            model = ku.applications.load(
                NAME, self.family.schema, num_layers=1, **parts
            )
            self.assertFinite(model(self.family.inputs)["is_click"])
        message = "It is an option of a `mixer`: .*UniMixingLite.*block_size=8"
        with self.assertRaisesRegex(ValueError, message):
            ku.applications.load(NAME, self.family.schema, block_size=8)

    def test_learns(self):
        model = self.family.load(num_layers=1)
        model.compile(keras.optimizers.SGD(0.1), metrics=[])
        history = model.fit(
            self.family.inputs, self.family.labels, epochs=5, verbose=0
        ).history["loss"]
        self.assertLess(history[-1], history[0])

    @unittest.skipIf(JAX, "exports need the TensorFlow backend")
    def test_export(self):
        import tensorflow as tf

        frame, model = small_frame(), self.family.model
        folder = f"{self.get_temp_dir()}/1"
        model.export(folder)
        served = tf.saved_model.load(folder).signatures
        raw = ku.serving.raw_inputs(frame, model.schema)

        def call(name, inputs):
            names = served[name].structured_input_signature[1]
            return served[name](**{k: tf.constant(inputs[k]) for k in names})

        whole = call("serving_default", raw)
        state = call("encode_user", raw)
        halves = call("score_items", {**raw, **state})
        expected = ku.predict(model, frame)
        for outputs in (whole, halves):
            rows = {name: value[:, 0] for name, value in outputs.items()}
            self.assertScores(rows, expected)

    def test_profile(self):
        profile = ku.analysis.profile(self.family.model, candidates=10)
        # One or two blocks: `families` makes small models on JAX.
        parts = {part.name.split(" x ")[0] for part in profile.grouped()}
        self.assertContainsSubset(
            {"watched_gate", "mixer", "feed_forward", "norms"}, parts
        )
        one = ku.analysis.profile(self.family.model)
        self.assertEqual(profile.user_flops, one.user_flops)
        self.assertGreater(profile.item_flops, one.item_flops)
