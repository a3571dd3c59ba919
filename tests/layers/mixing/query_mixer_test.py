import keras
import numpy as np

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import head_mixing
from tests.layers.references import layer_norm
from tests.layers.references import normalize
from tests.layers.references import per_token_ffn
from tests.layers.references import rms_norm
from tests.layers.references import swiglu
from tests.test_case import TestCase
from tests.test_case import to_numpy


class QueryMixerTest(TestCase):
    def test_basics(self):
        network = 3 * 4 * 8 * 5 + 8
        for init_kwargs, num_weights, num_parameters in (
            ({}, 5, 8 + network),
            ({"mixer": None}, 4, network),
            ({"feed_forward": None}, 1, 8),
            ({"mixer": None, "feed_forward": None}, 0, 0),
            ({"residual": "post_layer"}, 7, 16 + network + 8),
            (
                {
                    "feed_forward": layers.PerTokenFFN(5),
                    "residual": "no_norm",
                },
                4,
                4 * (2 * 8 * 5 + 5 + 8),
            ),
        ):
            swiglu = layers.SwiGLU(5, per_token=True)
            with self.subTest(**init_kwargs):
                self.run_layer_test(
                    layers.QueryMixer,
                    init_kwargs={"feed_forward": swiglu, **init_kwargs},
                    input_shape=(2, 3, 4, 8),
                    expected_output_shape=(2, 3, 4, 8),
                    expected_num_trainable_weights=num_weights,
                    expected_num_parameters=num_parameters,
                )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")

        layer = layers.QueryMixer()
        p = head_mixing(rms_norm(x)) + x
        outputs = layer(x)
        expected = swiglu(rms_norm(p), layer.feed_forward) + p
        self.assertAllClose(outputs, expected, atol=1e-5)

        layer = layers.QueryMixer(residual="post_layer")
        p = layer_norm(head_mixing(x) + x)
        outputs = layer(x)
        expected = layer_norm(swiglu(p, layer.feed_forward) + p)
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_equals_rankmixer(self):
        """`S = LN(Mix(X) + X)`, `X' = LN(PFFN(S) + S)`, learned norms."""
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        layer = layers.QueryMixer(feed_forward="gelu", residual="post_layer")
        layer.build(x.shape)
        randomize_weights(layer)
        norms = layer.residual.norms
        s = normalize(head_mixing(x) + x, norms["mixer_norm"])
        expected = normalize(
            per_token_ffn(s, layer.feed_forward) + s,
            norms["feed_forward_norm"],
        )
        self.assertAllClose(layer(x), expected, atol=1e-5)

    def test_without_norm(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        for feed_forward, network in (
            ("gelu", per_token_ffn),
            ("swiglu", swiglu),
        ):
            layer = layers.QueryMixer(
                feed_forward=feed_forward, residual="no_norm"
            )
            p = head_mixing(x) + x
            outputs = layer(x)
            expected = network(p, layer.feed_forward) + p
            self.assertAllClose(outputs, expected, atol=1e-5)

    def test_scale_at_initialization(self):
        """Mixing adds what it reads, the network less than that."""
        x = np.random.default_rng(0).normal(size=(100, 16, 64))
        for residual, low, high in (
            ("post_layer", 0.9, 1.1),
            ("no_norm", 1.4, 1.8),
        ):
            layer = layers.QueryMixer(
                feed_forward=layers.PerTokenFFN(96), residual=residual
            )
            self.assertBetween(to_numpy(layer(x)).std(), low, high)

    def test_ablations(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")
        layer = layers.QueryMixer(mixer=None)
        outputs = layer(x)
        expected = swiglu(rms_norm(x), layer.feed_forward) + x
        self.assertAllClose(outputs, expected, atol=1e-5)

        layer = layers.QueryMixer(feed_forward=None)
        self.assertAllClose(layer(x), head_mixing(rms_norm(x)) + x, atol=1e-5)

        layer = layers.QueryMixer(mixer=None, feed_forward=None)
        self.assertAllClose(layer(x), x)

    def test_a_layer_as_mixer(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        mixer = layers.TokenSelfAttention(2)
        layer = layers.QueryMixer(mixer=mixer)
        x = x.astype("float32")
        outputs = layer(x)
        p = to_numpy(mixer(rms_norm(x))) + x
        expected = swiglu(rms_norm(p), layer.feed_forward) + p
        self.assertAllClose(outputs, expected, atol=1e-5)
        self.assertEqual(len(layer.weights), 5 + 4)

        copy = layers.QueryMixer.from_config(layer.get_config())
        self.assertIsInstance(copy.mixer, layers.TokenSelfAttention)
        copy.build(x.shape)
        copy.set_weights(layer.get_weights())
        self.assertAllClose(copy(x), outputs)

    def test_mixers_by_name(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")
        for name, cls in (
            ("head_mixing", layers.HeadMixing),
            ("self_attention", layers.TokenSelfAttention),
            ("heterogeneous_attention", layers.HeterogeneousAttention),
            ("fm", layers.FMMixing),
            ("uni_mixing", layers.UniMixing),
            ("uni_mixing_lite", layers.UniMixingLite),
            ("identity", keras.layers.Activation),
        ):
            layer = layers.QueryMixer(mixer=name, feed_forward=None)
            outputs = layer(x)
            self.assertIs(type(layer.mixer), cls)
            mixed = to_numpy(layer.mixer(rms_norm(x).astype("float32")))
            self.assertAllClose(outputs, mixed + x, atol=1e-5)
            copy = layers.QueryMixer.from_config(layer.get_config())
            self.assertIs(type(copy.mixer), cls)
        with self.assertRaisesRegex(ValueError, "must have their shape"):
            layer = layers.QueryMixer(mixer=layers.HeadMixing(2))
            layer.build(x.shape)
        with self.assertRaisesRegex(ValueError, "a layer of one tensor with"):
            layer = layers.QueryMixer(keras.layers.MultiHeadAttention(2, 4))
            layer.build(x.shape)

    def test_candidates_are_independent(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        for mixer in (
            "head_mixing",
            "heterogeneous_attention",
            "fm",
            "uni_mixing",
            layers.TokenSelfAttention(2),
        ):
            layer = layers.QueryMixer(mixer=mixer)
            outputs = layer(x)
            flat = layer(x.reshape(6, 1, 4, 8))
            self.assertAllClose(
                outputs, np.reshape(flat, (2, 3, 4, 8)), atol=1e-5
            )
            self.assertAllClose(layer(x[:, ::-1]), outputs[:, ::-1], atol=1e-5)

    def test_residual_and_context_of_another(self):
        rng = np.random.default_rng(0)
        user, items = (
            rng.normal(size=(2, 1, 3, 16)),
            rng.normal(size=(2, 4, 5, 16)),
        )
        for cls in (layers.PreNorm, layers.PostNorm):
            mixing, residual = layers.DecoupledHeadMixing(3, 5), cls()
            first = layers.QueryMixer(mixing, residual=residual)
            first.build(user.shape)
            norms = dict(residual.norms)
            self.assertCountEqual(norms, ["mixer_norm", "feed_forward_norm"])
            second = layers.QueryMixer(mixing, residual=residual)
            outputs = second(items, context=user)
            self.assertEqual(dict(residual.norms), norms)
            self.assertIsNot(second.feed_forward, first.feed_forward)
            if cls is layers.PreNorm:
                mixed = mixing(
                    rms_norm(items).astype("float32"),
                    context=rms_norm(user).astype("float32"),
                )
                mixed = to_numpy(mixed) + items
            else:
                mixed = to_numpy(
                    norms["mixer_norm"](mixing(items, context=user) + items)
                )
            alone = layers.QueryMixer(mixer=None, residual=cls())
            alone.build(items.shape)
            alone.set_weights(
                [
                    to_numpy(w)
                    for w in (
                        *second.feed_forward.weights,
                        *norms["feed_forward_norm"].weights,
                    )
                ]
            )
            self.assertAllClose(outputs, alone(mixed), atol=1e-5)
            # Its own networks, and no part of the first but the norms.
            self.assertEqual(
                second.count_params(),
                second.feed_forward.count_params()
                + sum(norm.count_params() for norm in norms.values()),
            )
            copy = layers.QueryMixer.from_config(second.get_config())
            copy.build(items.shape)
            self.assertEqual(copy.count_params(), second.count_params())
        residual = layers.PostNorm()
        for hidden_dim in (5, 7):
            fusion = layers.OutputFusion(
                layers.SwiGLU(hidden_dim, per_token=True), residual
            )
            fusion.build(items.shape)
            self.assertCountEqual(residual.norms, ["feed_forward_norm"])
        with self.assertRaisesRegex(ValueError, "`context` is for a mixer"):
            layers.QueryMixer("identity")(items, context=user)
        with self.assertRaisesRegex(ValueError, "scheme of one stream"):
            mixer = layers.QueryMixer(mixing, residual="siamese")
            mixer(items, context=user)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`mixer` must be"):
            layers.QueryMixer(mixer="attention")
        with self.assertRaisesRegex(ValueError, "`residual` must be one of"):
            layers.QueryMixer(residual="rms")
        with self.assertRaisesRegex(ValueError, "`feed_forward` must be one"):
            layers.QueryMixer(feed_forward="relu")
        with self.assertRaisesRegex(ValueError, "widths for 4 tokens"):
            layers.QueryMixer().build((None, 4, 6))
