import numpy as np
from absl.testing import parameterized

import keras_unirec as ku
from keras_unirec import layers
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, C, T, E = 3, 7, 5, 4
MASK = np.arange(T) < np.array([5, 2, 0])[:, None]


def silu(x):
    return x / (1 + np.exp(-x))


class LocalActivationTest(TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.targets = rng.normal(size=(R, C, E)).astype("float32")
        self.history = rng.normal(size=(R, T, E)).astype("float32")

    @parameterized.parameters(None, 2, 7)
    def test_basics(self, chunk_size):
        self.run_layer_test(
            layers.LocalActivation,
            init_kwargs={"units": (6, 3), "chunk_size": chunk_size},
            input_shape={"targets": (R, C, E), "history": (R, T, E)},
            expected_output_shape=(R, C, E),
            expected_num_trainable_weights=5 + 4,
            expected_num_parameters=4 * E * 6 + 6 + 6 * 3 + 3 + 3 + 1,
            call_kwargs={"mask": MASK},
        )

    def test_equation(self):
        layer = layers.LocalActivation(units=(6, 3), chunk_size=2)
        layer.build((R, C, E), (R, T, E))
        for weight in layer.weights:
            weight.assign(np.random.default_rng(1).normal(size=weight.shape))
        outputs = to_numpy(layer(self.targets, self.history, mask=MASK))
        kernel = np.concatenate(
            [
                to_numpy(getattr(layer, f"{name}_kernel").value)
                for name in ("event", "product", "difference", "target")
            ]
        )
        (second, last) = (
            [to_numpy(w.value) for w in dense.weights] for dense in layer.denses
        )
        for r in range(R):
            for c in range(C):
                t, read = self.targets[r, c], np.zeros(E)
                for e in self.history[r][MASK[r]]:
                    x = np.concatenate([e, e * t, e - t, t])
                    x = silu(x @ kernel + to_numpy(layer.bias.value))
                    x = silu(x @ second[0] + second[1])
                    read += (x @ last[0] + last[1])[0] * e
                self.assertAllClose(outputs[r, c], read, 1e-3, 1e-3)

    def test_chunks_change_nothing(self):
        whole = layers.LocalActivation(chunk_size=None)
        expected = whole(self.targets, self.history, mask=MASK)
        for size in (1, 3, 7, 100):
            layer = layers.LocalActivation(chunk_size=size)
            layer.build((R, C, E), (R, T, E))
            for weight, other in zip(layer.weights, whole.weights):
                weight.assign(other.value)
            outputs = layer(self.targets, self.history, mask=MASK)
            self.assertAllClose(outputs, expected, 1e-5)

    def test_padding_is_ignored(self):
        layer = layers.LocalActivation()
        outputs = layer(self.targets, self.history, mask=MASK)
        longer = np.pad(self.history, [(0, 0), (0, 3), (0, 0)], "edge")
        mask = np.pad(MASK, [(0, 0), (0, 3)])
        self.assertAllClose(layer(self.targets, longer, mask=mask), outputs)
        self.assertAllClose(outputs[2], np.zeros((C, E)))

    def test_errors(self):
        for arguments, message in (
            ({"units": ()}, "`units` must be a list of at least one"),
            ({"units": ("8",)}, "`units` must be a positive integer"),
            ({"chunk_size": 0}, "`chunk_size` must be a positive integer"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                layers.LocalActivation(**arguments)
        with self.assertRaisesRegex(ValueError, "as wide as the events"):
            layers.LocalActivation()(self.targets[..., :2], self.history)

    def test_in_a_model(self):
        schema = small_schema()
        inputs, _, _ = small_batch(schema, candidates=5)
        activation = layers.LocalActivation(chunk_size=2)
        model = ku.applications.Stacked(
            schema, history_reader=layers.DIN(activation)
        )
        outputs = model(inputs)["is_click"]
        self.assertFinite(outputs)
        state = model.encode_user(inputs)
        halves = model.score_items(state, inputs)["is_click"]
        self.assertAllClose(halves, outputs, 1e-5)
