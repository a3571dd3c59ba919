import functools

import keras
import numpy as np

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import head_mixing
from tests.layers.references import per_token_ffn
from tests.layers.references import residual
from tests.layers.references import swiglu
from tests.test_case import TestCase
from tests.test_case import to_numpy

SHAPE = (2, 3, 4, 8)
NETWORKS = {
    "gelu": functools.partial(layers.PerTokenFFN, 5),
    "swiglu": functools.partial(layers.SwiGLU, 5, per_token=True),
}


def make_inputs():
    return np.random.default_rng(0).normal(size=SHAPE).astype("float32")


def make_layer(mixer="head_mixing", feed_forward="gelu", **kwargs):
    layer = layers.QueryBoosting(mixer, NETWORKS[feed_forward](), **kwargs)
    layer.build(SHAPE)
    randomize_weights(layer)
    return layer


class QueryBoostingTest(TestCase):
    def test_basics(self):
        gelu = 4 * (2 * 8 * 5 + 5 + 8)
        swiglu = 4 * 3 * 8 * 5
        for name, scheme, num_weights, num_parameters in (
            ("gelu", "no_norm", 4, gelu),
            ("swiglu", "post_layer", 5, swiglu + 16),
        ):
            with self.subTest(feed_forward=name, residual=scheme):
                self.run_layer_test(
                    layers.QueryBoosting,
                    init_kwargs={
                        "feed_forward": NETWORKS[name](),
                        "residual": scheme,
                    },
                    input_shape=SHAPE,
                    expected_output_shape=SHAPE,
                    expected_num_trainable_weights=num_weights,
                    expected_num_parameters=num_parameters,
                )

    def test_equals_the_paper(self):
        """HyFormer, eq. 11-15: one residual around mixing and network."""
        q = make_inputs()
        layer = make_layer()
        expected = q + per_token_ffn(head_mixing(q), layer.feed_forward)
        self.assertAllClose(layer(q), expected, atol=1e-5)

    def test_reverts_another_number_of_heads(self):
        """TokenMixer-Large: mix to H tokens, networks, revert, residual."""
        q = make_inputs()
        layer = make_layer(mixer=layers.HeadMixing(2))
        self.assertEqual(tuple(layer.feed_forward.up_kernel.shape), (2, 16, 5))
        mixed = np.stack(
            [q[..., 4 * h : 4 * h + 4].reshape(2, 3, 16) for h in range(2)],
            axis=-2,
        )
        refined = per_token_ffn(mixed, layer.feed_forward)
        pieces = refined.reshape(2, 3, 2, 4, 4)
        reverted = np.swapaxes(pieces, -2, -3).reshape(SHAPE)
        self.assertAllClose(layer(q), q + reverted, atol=1e-5)
        with self.assertRaisesRegex(ValueError, "or have a method `revert`"):
            make_layer(mixer=keras.layers.Reshape((3, 2, 16)))

    def test_norms_and_ablations(self):
        q = make_inputs()
        for scheme in ("no_norm", "none", "pre_rms", "post_layer"):
            for feed_forward, network in (
                ("gelu", per_token_ffn),
                ("swiglu", swiglu),
            ):
                for mixer, mix in (
                    ("head_mixing", head_mixing),
                    (None, lambda x: x),
                ):
                    layer = make_layer(mixer, feed_forward, residual=scheme)
                    expected = residual(
                        q,
                        lambda x: network(mix(x), layer.feed_forward),
                        layer.residual,
                        "token",
                    )
                    self.assertAllClose(layer(q), expected, atol=1e-5)

    def test_a_layer_as_mixer(self):
        q = make_inputs()
        mixer = layers.TokenSelfAttention(2)
        layer = make_layer(mixer=mixer)
        outputs = layer(q)
        expected = q + per_token_ffn(to_numpy(mixer(q)), layer.feed_forward)
        self.assertAllClose(outputs, expected, atol=1e-5)
        self.assertLen(layer.weights, 4 + 4)

        copy = layers.QueryBoosting.from_config(layer.get_config())
        self.assertIsInstance(copy.mixer, layers.TokenSelfAttention)
        copy.build(q.shape)
        copy.set_weights(layer.get_weights())
        self.assertAllClose(copy(q), outputs, atol=1e-6)

    def test_candidates_are_independent(self):
        q = make_inputs()
        for mixer in ("head_mixing", layers.TokenSelfAttention(2)):
            layer = make_layer(mixer=mixer)
            outputs = to_numpy(layer(q))
            flat = layer(q.reshape(6, 1, 4, 8))
            self.assertAllClose(flat, outputs.reshape(6, 1, 4, 8), atol=1e-5)
            swapped = layer(q[:, ::-1])
            self.assertAllClose(swapped, outputs[:, ::-1], atol=1e-5)

    def test_scale_at_initialization(self):
        q = np.random.default_rng(0).normal(size=(100, 4, 16, 64))
        network = layers.PerTokenFFN(96)
        outputs = layers.QueryBoosting(feed_forward=network)(q)
        outputs = to_numpy(outputs)
        self.assertBetween(outputs.std(), 0.9, 1.3)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`mixer` must be"):
            layers.QueryBoosting("attention")
        with self.assertRaisesRegex(ValueError, "`residual` must be one of"):
            layers.QueryBoosting(residual="rms")
        with self.assertRaisesRegex(ValueError, "`feed_forward` must be one"):
            layers.QueryBoosting(feed_forward=None)
        with self.assertRaisesRegex(ValueError, "widths for 4 tokens"):
            layers.QueryBoosting().build((None, 4, 6))
