import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.layers.references import silu
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, C, WIDTH, DIM = 2, 3, 5, 8
LABELS = ("is_click", "watch_s")


def outputs_of(tower, x, **kwargs):
    return tower.outputs(x, LABELS, DIM, **kwargs)


def weights_by_path(tower):
    return {weight.path: to_numpy(weight) for weight in tower.weights}


class TowerTest(TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(R, C, WIDTH)).astype("float32")

    @parameterized.parameters(
        (None, (DIM,)), ((4, 3), (4, 3)), ([2], (2,)), ((), ())
    )
    def test_equals_the_definition(self, units, widths):
        tower = layers.Tower(units)
        outputs = outputs_of(tower, self.x)
        self.assertEqual(list(outputs), list(LABELS))
        weights = weights_by_path(tower)
        self.assertLen(weights, 2 * 2 * (len(widths) + 1))
        for label in LABELS:
            x = self.x
            for i, width in enumerate(widths):
                kernel = weights[f"{label}_tower_{i}/kernel"]
                self.assertEqual(kernel.shape, (x.shape[-1], width))
                x = silu(x @ kernel + weights[f"{label}_tower_{i}/bias"])
            logit = x @ weights[f"{label}_logit/kernel"]
            logit = logit + weights[f"{label}_logit/bias"]
            self.assertAllClose(outputs[label], logit[..., 0], atol=1e-5)

    def test_activation_and_prefix(self):
        tower = layers.Tower(())
        outputs = outputs_of(tower, self.x, activation="sigmoid", prefix="aux_")
        weights = weights_by_path(tower)
        kernel = weights["aux_is_click_logit/kernel"]
        expected = 1 / (1 + np.exp(-(self.x @ kernel)[..., 0]))
        self.assertAllClose(outputs["is_click"], expected, atol=1e-5)

    def test_labels_of_any_name(self):
        """A label is a key as it is, and a layer of a name that is legal."""
        labels = ["click & buy", "_like"]
        tower = layers.Tower(())
        outputs = tower.outputs(self.x, labels, DIM)
        self.assertEqual(list(outputs), labels)
        for path in weights_by_path(tower):
            self.assertRegex(path, r"^[A-Za-z0-9][A-Za-z0-9_.\-/]*$")

    def test_logits_are_float32(self):
        tower = layers.Tower(dtype="mixed_bfloat16")
        for logit in outputs_of(tower, self.x).values():
            dtype = keras.backend.standardize_dtype(logit.dtype)
            self.assertEqual(dtype, "float32")
        for layer in tower._layers_by_name.values():
            policy = "float32" if "logit" in layer.name else "mixed_bfloat16"
            self.assertEqual(layer.dtype_policy.name, policy)

    def test_in_a_saved_model(self):
        inputs = keras.Input((None, WIDTH))
        outputs = outputs_of(layers.Tower((4,)), inputs)
        self.assertEqual(outputs["is_click"].shape, (None, None))
        model = keras.Model(inputs, outputs)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)(self.x)
        for label, logits in model(self.x).items():
            self.assertAllClose(loaded[label], logits, atol=1e-6)

    def test_config(self):
        for units in (None, (), (4, 3)):
            tower = layers.Tower(units)
            copy = layers.Tower.from_config(tower.get_config())
            self.assertEqual(copy.units, units)
        self.assertEqual(layers.Tower([4, 3]).units, (4, 3))

    def test_errors(self):
        for units in (8, "8", [8, 0], [8.0], [True], [None], {8}):
            with self.assertRaisesRegex(
                ValueError, "`units` must be a list of positive integers. Rec"
            ):
                layers.Tower(units)
