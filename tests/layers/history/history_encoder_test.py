import numpy as np

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import layer_norm
from tests.layers.references import normalize
from tests.layers.references import rms_norm
from tests.layers.references import swiglu
from tests.test_case import TestCase
from tests.test_case import to_numpy


class HistoryEncoderTest(TestCase):
    def test_basics(self):
        for residual, num_weights in (
            (None, 4),
            ("pre_rms", 4),
            ("post_layer", 5),
            ("no_norm", 3),
            ("none", 3),
        ):
            with self.subTest(residual=residual):
                self.run_layer_test(
                    layers.HistoryEncoder,
                    init_kwargs={"hidden_dim": 5, "residual": residual},
                    input_shape=(2, 3, 8),
                    expected_output_shape=(2, 3, 8),
                    expected_num_trainable_weights=num_weights,
                    expected_num_parameters=3 * 8 * 5 + 8 * (num_weights - 3),
                )

    def test_equals_the_paper(self):
        s = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        layer = layers.HistoryEncoder(5)
        outputs = layer(s)
        expected = swiglu(rms_norm(s), layer.swiglu) + s
        self.assertAllClose(outputs, expected, atol=1e-5)

        layer = layers.HistoryEncoder(5, residual="post_layer")
        outputs = layer(s)
        expected = layer_norm(swiglu(s, layer.swiglu) + s)
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_the_scale_of_the_norm_is_in_the_kernel(self):
        """The same numbers as any other form of the pre-norm."""
        s = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        layer = layers.HistoryEncoder(5)
        layer.build(s.shape)
        randomize_weights(layer)
        scaled = rms_norm(s) * to_numpy(layer.swiglu.scale)
        expected = swiglu(scaled, layer.swiglu) + s
        self.assertAllClose(layer(s), expected, atol=1e-5)

        layer = layers.HistoryEncoder(5, residual=layers.PreNorm("layer"))
        layer.build(s.shape)
        randomize_weights(layer)
        norm = layer.residual.norms["feed_forward_norm"]
        expected = swiglu(normalize(s, norm), layer.swiglu) + s
        self.assertAllClose(layer(s), expected, atol=1e-5)

        layer = layers.HistoryEncoder(
            5, residual=layers.PreNorm(final_norm=True)
        )
        outputs = layer(s)
        expected = rms_norm(swiglu(rms_norm(s), layer.swiglu) + s)
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_hidden_width(self):
        """`hidden_dim`, or a ratio of the width of an event: 2."""
        for init_kwargs, hidden_dim in (
            ({}, 16),
            ({"ratio": 0.5}, 4),
            ({"ratio": 2, "hidden_dim": 5}, 5),
        ):
            layer = layers.HistoryEncoder(**init_kwargs)
            layer.build((None, None, 8))
            kernel = layer.swiglu.up_kernel
            self.assertEqual(tuple(kernel.shape), (8, hidden_dim))

    def test_without_norm(self):
        """HyFormer, eq. 7, as written: no residual."""
        s = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        layer = layers.HistoryEncoder(5, residual="none")
        outputs = layer(s)
        self.assertAllClose(outputs, swiglu(s, layer.swiglu), atol=1e-5)

    def test_events_are_independent(self):
        s = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        layer = layers.HistoryEncoder(5)
        self.assertAllClose(layer(s)[:, :2], layer(s[:, :2]), atol=1e-6)
        self.assertEqual(tuple(layer(s[:, :0]).shape), (2, 0, 8))

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`residual` must be one of"):
            layers.HistoryEncoder(5, residual="layer")
