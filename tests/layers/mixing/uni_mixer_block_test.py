import numpy as np

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import head_mixing
from tests.layers.references import normalize
from tests.layers.references import per_token_ffn
from tests.layers.references import swiglu
from tests.layers.references import uni_mixing
from tests.test_case import TestCase
from tests.test_case import to_numpy


class UniMixerBlockTest(TestCase):
    def test_basics(self):
        network = 3 * 4 * 8 * 5
        gelu = layers.PerTokenFFN(5)
        # Few iterations are quick to trace.
        full, lite = layers.UniMixing, layers.UniMixingLite
        full, lite = full(num_iterations=3), lite(num_iterations=3)
        for init_kwargs, num_weights, num_parameters in (
            ({"mixer": full}, 6, network + 8 + 8 * 16 + 64 + 2),
            ({"mixer": lite}, 8, network + 8 + 64 + 32 + 16 + 2),
            ({"mixer": "identity"}, 4, network + 8),
            ({"mixer": None}, 3, network),
            ({"mixer": "fm", "feed_forward": gelu}, 6, 8 + 32 + 372),
        ):
            swiglu = layers.SwiGLU(5, per_token=True)
            with self.subTest(num_weights=num_weights):
                self.run_layer_test(
                    layers.UniMixerBlock,
                    init_kwargs={"feed_forward": swiglu, **init_kwargs},
                    input_shape=(2, 3, 4, 8),
                    expected_output_shape=(2, 3, 4, 8),
                    expected_num_trainable_weights=num_weights,
                    expected_num_parameters=num_parameters,
                )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        layer = layers.UniMixerBlock()
        layer.build(x.shape)
        randomize_weights(layer)
        layer.mixer.planned_steps.assign(0.0)
        local, mixing = (to_numpy(m) for m in layer.mixer.matrices())
        v = normalize(x + uni_mixing(x, local, mixing), layer.mixer_norm)
        self.assertAllClose(layer(x), swiglu(v, layer.feed_forward), atol=1e-4)

    def test_other_mixers(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        layer = layers.UniMixerBlock("head_mixing", "gelu")
        outputs = layer(x)
        v = normalize(x + head_mixing(x), layer.mixer_norm)
        expected = per_token_ffn(v, layer.feed_forward)
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_errors(self):
        with self.assertRaisesRegex(
            ValueError, r"(?s)must be one of .*'fm'.*mixer='unimixing'"
        ):
            layers.UniMixerBlock("unimixing")
        with self.assertRaisesRegex(ValueError, "`QueryBoosting` can revert"):
            layer = layers.UniMixerBlock(layers.HeadMixing(2))
            layer.build((None, 4, 8))
        with self.assertRaisesRegex(ValueError, "`feed_forward` must be one"):
            layers.UniMixerBlock(feed_forward=None)
