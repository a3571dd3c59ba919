import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

from keras_unirec import layers
from tests.layers.inputs import pad_histories
from tests.layers.inputs import randomize_weights
from tests.layers.references import transformer
from tests.test_case import TestCase
from tests.test_case import to_numpy

E = 4
LENGTHS = (7, 6, 4, 1, 0)
LENGTH = 10  # With padding.


def make_histories():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, E)) for length in LENGTHS]


def make_layer(size, **kwargs):
    layer = layers.TokenMerge(size, **kwargs)
    layer.build((None, None, E))
    randomize_weights(layer)
    return layer


def reference(history, layer):
    """LONGER, 3.3: groups of one request, from the newest event on."""
    groups = []
    history = list(history)
    while history:
        events, history = history[-layer.size :], history[: -layer.size]
        if layer.inner_transformer:
            events = np.array(events)
            every = np.ones((len(events), len(events)), "bool")
            events = transformer(events, events, every, layer.transformer)
        nothing = [np.zeros(E)] * (layer.size - len(events))
        groups.insert(0, np.concatenate([*nothing, *events]))
    return groups


class TokenMergeTest(TestCase):
    @parameterized.parameters(False, True)
    def test_basics(self, inner_transformer):
        layer = layers.TokenMerge(3, inner_transformer, num_heads=2)
        copy = layers.TokenMerge.from_config(layer.get_config())
        self.assertEqual(copy.get_config(), layer.get_config())
        self.assertTrue(layer.supports_masking)

        batch, mask = pad_histories(make_histories(), "right", LENGTH)
        inputs = [
            keras.Input((None, E), name="history"),
            keras.Input((None,), dtype="bool", name="mask"),
        ]
        outputs = layer(inputs[0], mask=inputs[1])
        self.assertEqual(tuple(outputs[0].shape), (None, None, 3 * E))
        self.assertEqual(tuple(outputs[1].shape), (None, None))
        self.assertEqual(outputs[1].dtype, "bool")
        if inner_transformer:
            hidden = 4 * E
            num_parameters = 4 * E**2 + 2 * E * hidden + hidden + E + 2 * E
            self.assertEqual(layer.count_params(), num_parameters)
        else:
            self.assertEmpty(layer.weights)
        # 7 events, 3 groups.
        static = layer(
            keras.Input((7, E)), mask=keras.Input((7,), dtype="bool")
        )
        self.assertEqual(tuple(static[0].shape), (None, 3, 3 * E))
        self.assertEqual(tuple(static[1].shape), (None, 3))

        expected = layer(batch, mask=mask)
        model = keras.Model(inputs, outputs)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        model.compile(jit_compile=True)
        for actual in (
            keras.models.load_model(path)([batch, mask]),
            model.predict([batch, mask], verbose=0),
        ):
            self.assertAllClose(actual[0], expected[0], atol=1e-5)
            self.assertAllClose(actual[1], expected[1])

        half = layers.TokenMerge(
            3, inner_transformer, num_heads=2, dtype="mixed_bfloat16"
        )
        groups, groups_mask = half(batch, mask=mask)
        for tensor, dtype in ((groups, "bfloat16"), (groups_mask, "bool")):
            actual = keras.backend.standardize_dtype(tensor.dtype)
            self.assertEqual(actual, dtype)
        self.assertFinite(ops.cast(groups, "float32"))

    @parameterized.parameters(
        (1, False), (3, False), (11, False), (3, True), (11, True)
    )
    def test_equals_the_paper(self, size, inner_transformer):
        """The groups of real events, whatever the padding; the rest zeros."""
        histories = make_histories()
        layer = make_layer(size, inner_transformer=inner_transformer)
        num_groups = int(np.ceil(LENGTH / size))
        expected = np.zeros((len(LENGTHS), num_groups, size * E))
        expected_mask = np.zeros((len(LENGTHS), num_groups), "bool")
        for r, history in enumerate(histories):
            groups = reference(history, layer)
            expected_mask[r, : len(groups)] = True
            for i, group in enumerate(groups):
                expected[r, i] = group
        for side in ("right", "left"):
            batch, mask = pad_histories(histories, side, LENGTH)
            outputs, outputs_mask = layer(batch, mask=mask)
            self.assertAllClose(outputs, expected, atol=1e-5)
            self.assertAllClose(outputs_mask, expected_mask)

    def test_more_padding_is_more_empty_groups(self):
        histories = make_histories()
        layer = make_layer(3)
        batch, mask = pad_histories(histories, "right", LENGTH)
        expected, expected_mask = layer(batch, mask=mask)
        for side in ("right", "left"):
            batch, mask = pad_histories(histories, side, LENGTH + 4)
            outputs, outputs_mask = layer(batch, mask=mask)
            self.assertAllClose(outputs[:, :4], expected, atol=1e-5)
            self.assertAllClose(outputs_mask[:, :4], expected_mask)
            self.assertAllClose(outputs[:, 4:], np.zeros((5, 1, 3 * E)))
            self.assertFalse(to_numpy(outputs_mask)[:, 4:].any())

    def test_padding_inside(self):
        history = np.random.default_rng(0).normal(size=(1, LENGTH, E))
        mask = np.random.default_rng(1).random((1, LENGTH)) < 0.6
        layer = make_layer(3)
        outputs, outputs_mask = layer(history, mask=mask)
        groups = reference(history[mask], layer)
        self.assertAllClose(outputs[0, : len(groups)], groups, atol=1e-5)
        self.assertEqual(to_numpy(outputs_mask).sum(), len(groups))

    @parameterized.parameters(False, True)
    def test_older_events_change_no_newer_group(self, inner_transformer):
        rng = np.random.default_rng(0)
        histories = [rng.normal(size=(LENGTH, E)) for _ in LENGTHS]
        layer = make_layer(3, inner_transformer=inner_transformer)
        newest = []
        for start in range(4):
            batch, mask = pad_histories(
                [history[start:] for history in histories], "right", LENGTH
            )
            outputs, outputs_mask = layer(batch, mask=mask)
            num_groups = int(to_numpy(outputs_mask)[0].sum())
            newest.append(to_numpy(outputs)[:, num_groups - 2 : num_groups])
        for groups in newest[1:]:
            self.assertAllClose(groups, newest[0], atol=1e-5)

    @parameterized.parameters(False, True)
    def test_empty_histories(self, inner_transformer):
        layer = make_layer(3, inner_transformer=inner_transformer)
        requests = len(LENGTHS)
        for length, num_groups in ((0, 0), (LENGTH, 4)):
            history = np.ones((requests, length, E), "float32")
            mask = np.zeros((requests, length), "bool")
            outputs, outputs_mask = layer(history, mask=mask)
            expected = np.zeros((requests, num_groups, 3 * E))
            self.assertAllClose(outputs, expected)
            self.assertAllClose(outputs_mask, expected.any(-1))
            for gradient in self.gradients(
                layer, lambda x: layer(x, mask=mask)[0], history
            ):
                self.assertAllClose(gradient, np.zeros(gradient.shape))

    def test_gradient_reaches_real_events_alone(self):
        batch, mask = pad_histories(
            make_histories(), "left", LENGTH, content=1.0
        )
        layer = make_layer(3, inner_transformer=True)
        gradient, *_ = self.gradients(
            layer, lambda x: layer(x, mask=mask)[0], batch
        )
        self.assertFinite(gradient)
        np.testing.assert_array_equal(np.abs(gradient).max(-1) > 0, mask)

    def test_order_of_many_events(self):
        """Sorting by padding keeps the order of time, compiled as well."""
        history = np.arange(1, 1001, dtype="float32").reshape(1, 1000, 1)
        mask = np.random.default_rng(0).random((1, 1000)) < 0.7
        expected = history[mask]
        inputs = [
            keras.Input((1000, 1), name="history"),
            keras.Input((1000,), dtype="bool", name="mask"),
        ]
        groups, _ = layers.TokenMerge(4)(inputs[0], mask=inputs[1])
        model = keras.Model(inputs, groups)
        model.compile(jit_compile=True)
        for outputs in (
            to_numpy(model([history, mask])),
            model.predict([history, mask], verbose=0),
        ):
            self.assertAllClose(outputs[outputs > 0], expected[:, 0])

    def test_scale_at_initialization(self):
        rng = np.random.default_rng(0)
        history = rng.normal(size=(len(LENGTHS), LENGTH, E))
        mask = np.ones(history.shape[:2], "bool")
        for inner_transformer, low, high in ((False, 0.9, 1.1), (True, 1, 2)):
            layer = layers.TokenMerge(3, inner_transformer)
            groups, _ = layer(history, mask=mask)
            # All but the oldest group, which is not full.
            self.assertBetween(to_numpy(groups)[:, 1:].std(), low, high)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`size` must be a positive"):
            layers.TokenMerge(0)
        with self.assertRaisesRegex(ValueError, "`num_heads` must divide"):
            layers.TokenMerge(2, True, num_heads=3).build((None, 6, E))
