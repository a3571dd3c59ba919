import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.layers.inputs import pad_histories
from tests.layers.inputs import randomize_weights
from tests.layers.references import per_token_ffn
from tests.layers.references import rms_norm
from tests.layers.references import transformer
from tests.layers.tensor_sizes import tensor_sizes
from tests.test_case import TestCase
from tests.test_case import to_numpy

E, HIDDEN, HEADS = 8, 12, 2
LENGTHS = (5, 2, 1, 0)
R, T, RECENT = len(LENGTHS), 6, 3
RESIDUALS = (None, "pre_rms", "post_layer", "no_norm", "none")


def make_histories():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, E)) for length in LENGTHS]


def make_layer(**kwargs):
    layer = layers.TransformerEncoder(HEADS, HIDDEN, **kwargs)
    layer.build((None, None, E))
    randomize_weights(layer)
    return layer


def reference(history, num_recent, layer):
    """The most recent events of one request read its real events.

    LONGER stores a history newest first, and there an event of index `i`
    reads those of index `j >= i`.
    """
    newest_first = history[::-1]
    events = newest_first[:num_recent]
    may_read = np.ones((len(events), len(history)), "bool")
    if layer.causal:
        for i, j in np.ndindex(may_read.shape):
            may_read[i, j] = j >= i
    return transformer(events, newest_first, may_read, layer)[::-1]


class TransformerEncoderTest(TestCase):
    def test_basics(self):
        _, mask = pad_histories(make_histories(), "right", T)
        num_parameters = 4 * E * E + 2 * E * HIDDEN + HIDDEN + E
        self.run_layer_test(
            layers.TransformerEncoder,
            init_kwargs={
                "num_heads": HEADS,
                "hidden_dim": HIDDEN,
                "residual": "post_layer",
                "causal": True,
            },
            input_shape={"events": (R, RECENT, E), "history": (R, T, E)},
            call_kwargs={"mask": mask},
            expected_output_shape=(R, RECENT, E),
            expected_num_trainable_weights=4 + 4 + 4,
            expected_num_parameters=num_parameters + 4 * E,
        )
        for residual, num_norms in (
            (None, 2),
            ("pre_rms", 2),
            ("no_norm", 0),
        ):
            layer = make_layer(residual=residual)
            self.assertLen(layer.trainable_weights, 4 + 4 + num_norms)
            expected = num_parameters + num_norms * E
            self.assertEqual(layer.count_params(), expected)

    def test_events_without_static_length(self):
        batch, mask = pad_histories(make_histories(), "right", T)
        layer = make_layer(causal=True)
        events = keras.Input((None, E), name="events")
        mask_input = keras.Input((None,), dtype="bool", name="mask")
        outputs = layer(events, mask=mask_input)
        self.assertEqual(tuple(outputs.shape), (None, None, E))
        model = keras.Model([events, mask_input], outputs)
        self.assertAllClose(
            model([batch, mask]), layer(batch, mask=mask), atol=1e-5
        )

    @parameterized.product(
        residual=RESIDUALS, causal=[False, True], side=["right", "left"]
    )
    def test_self_attention_equals_the_paper(self, side, **kwargs):
        """HyFormer, eq. 5, whatever the padding."""
        histories = make_histories()
        layer = make_layer(**kwargs)
        batch, mask = pad_histories(histories, side, T)
        outputs = to_numpy(layer(batch, mask=mask))
        self.assertFinite(outputs)
        for r, history in enumerate(histories):
            expected = reference(history, len(history), layer)
            self.assertAllClose(outputs[r, mask[r]], expected, atol=1e-5)

    @parameterized.product(
        residual=RESIDUALS, causal=[False, True], side=["right", "left"]
    )
    def test_recent_events_equal_the_paper(self, side, **kwargs):
        """HyFormer, eq. 6, and with `causal` the first layer of LONGER."""
        histories = make_histories()
        layer = make_layer(**kwargs)
        batch, mask = pad_histories(histories, side, T)
        # Their padding may be elsewhere: `HistoryMerge` puts it last.
        events, events_mask = pad_histories(
            [history[-RECENT:] for history in histories], "right"
        )
        outputs = layer(events, batch, mask=mask, events_mask=events_mask)
        outputs = to_numpy(outputs)
        self.assertFinite(outputs)
        for r, history in enumerate(histories):
            expected = reference(history, RECENT, layer)
            actual = outputs[r, events_mask[r]]
            self.assertAllClose(actual, expected, atol=1e-5)
        # The same rows as the full encoder's.
        full = to_numpy(layer(batch, mask=mask))
        for r in range(len(histories)):
            self.assertAllClose(
                outputs[r, events_mask[r]],
                full[r, mask[r]][-RECENT:],
                atol=1e-5,
            )

    def test_two_streams(self):
        """A scheme of two streams, where the events read themselves."""
        x = np.random.default_rng(0).normal(size=(R, T, E)).astype("float32")
        layer = layers.TransformerEncoder(HEADS, HIDDEN, residual="siamese")
        outputs = layer(x)
        a, b = x, x
        for function in (
            lambda x: layer.attention(x, x),
            lambda x: per_token_ffn(x, layer.network),
        ):
            update = to_numpy(function((a + rms_norm(b)).astype("float32")))
            a, b = rms_norm(a + update), b + update
        self.assertAllClose(outputs, a + rms_norm(b), atol=1e-5)

    @parameterized.parameters(False, True)
    def test_without_masks(self, causal):
        rng = np.random.default_rng(0)
        history = rng.normal(size=(R, T, E))
        layer = make_layer(causal=causal)
        expected = np.stack([reference(h, T, layer) for h in history])
        self.assertAllClose(layer(history), expected, atol=1e-5)
        outputs = layer(history[:, -RECENT:], history)
        self.assertAllClose(outputs, expected[:, -RECENT:], atol=1e-5)

    def test_causal_events_do_not_see_newer_ones(self):
        history = np.random.default_rng(0).normal(size=(R, T, E))
        mask = np.ones((R, T), "bool")
        changed = history.copy()
        changed[:, 3] += 1
        for causal in (False, True):
            layer = make_layer(causal=causal)
            difference = layer(changed, mask=mask) - layer(history, mask=mask)
            difference = np.abs(to_numpy(difference)).max(axis=(0, 2))
            self.assertGreater(difference[3:].min(), 1e-3)
            if causal:
                self.assertAllClose(difference[:3], np.zeros(3))
            else:
                self.assertGreater(difference[:3].min(), 1e-3)

    @parameterized.parameters(False, True)
    def test_empty_histories(self, causal):
        layer = make_layer(causal=causal)
        for num_events, length in ((0, 0), (RECENT, T)):
            inputs = {
                "events": np.ones((R, num_events, E), "float32"),
                "history": np.ones((R, length, E), "float32"),
            }
            masks = {
                "mask": np.zeros((R, length), "bool"),
                "events_mask": np.zeros((R, num_events), "bool"),
            }
            outputs = layer(**inputs, **masks)
            self.assertEqual(outputs.shape, inputs["events"].shape)
            self.assertFinite(outputs)
            for gradient in self.gradients(
                layer, lambda x: layer(**x, **masks), inputs
            ):
                self.assertFinite(gradient)

    def test_recent_events_cost_no_square(self):
        """No tensor of a step has all pairs of events."""
        requests, length = 2, 50
        layer = make_layer(causal=True)
        inputs = {
            "events": np.ones((requests, RECENT, E), "float32"),
            "history": np.ones((requests, length, E), "float32"),
        }

        def step(events, history):
            return self.gradients(
                layer,
                lambda x: layer(**x),
                {"events": events, "history": history},
                convert=False,
            )

        largest = max(tensor_sizes(step, *inputs.values()))
        self.assertLess(largest, requests * length * length)
        self.assertGreaterEqual(largest, requests * length * E)

    def test_scale_at_initialization(self):
        """One event reads itself: each sublayer adds Glorot's scale."""
        dim, hidden_dim = 64, 128
        x = np.random.default_rng(0).normal(size=(500, 1, dim))
        layer = layers.TransformerEncoder(8, hidden_dim)
        outputs = to_numpy(layer(x))
        attention = layer.attention
        kernels = [
            to_numpy(dense.kernel).reshape(dim, dim)
            for dense in (
                attention.query_dense,
                attention.key_dense,
                attention.value_dense,
                attention.output_dense,
            )
        ]
        for i, kernel in enumerate(kernels):
            self.assertAllClose(kernel.var(), 1 / dim, rtol=0.1)
            for other in kernels[:i]:
                self.assertGreater(np.abs(kernel - other).max(), 0.1)
        # Attention adds a variance of 1, as values are as large as the event,
        # and the network, whose input has variance 1, about 0.4.
        self.assertBetween(outputs.var(), 2.1, 2.7)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`residual` must be one of"):
            layers.TransformerEncoder(2, 5, residual="rms")
        with self.assertRaisesRegex(ValueError, "`num_heads` must be a pos"):
            layers.TransformerEncoder(0, 5)
        with self.assertRaisesRegex(ValueError, "`num_heads` must divide"):
            layers.TransformerEncoder(3, 5).build((None, None, 8))
        with self.assertRaisesRegex(ValueError, "as wide as .* 6.* width 8"):
            layers.TransformerEncoder(2, 5).build(
                (None, None, 8), (None, None, 6)
            )
        with self.assertRaisesRegex(ValueError, "`hidden_dim` must be a pos"):
            layers.TransformerEncoder(2, 0)
        with self.assertRaisesRegex(ValueError, "scheme of one stream"):
            layers.TransformerEncoder(2, 5, residual="siamese").build(
                (None, None, 8), (None, None, 8)
            )
