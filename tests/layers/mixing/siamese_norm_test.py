import keras
import numpy as np

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import normalize
from tests.layers.references import rms_norm
from tests.test_case import TestCase
from tests.test_case import to_numpy


def dense_blocks(num):
    return [keras.layers.Dense(8, name=f"block_{i}") for i in range(num)]


class SiameseNormTest(TestCase):
    def test_basics(self):
        for init_kwargs, num_norms in (
            ({}, 5),
            ({"norm": "pre_rms"}, 3),
            ({"norm": "post_rms"}, 2),
            ({"normalize_input": True, "scale_by_depth": True}, 7),
        ):
            with self.subTest(**init_kwargs):
                layer = layers.SiameseNorm(dense_blocks(2), **init_kwargs)
                layer.build((2, 3, 8))
                self.assertEqual(len(layer.weights), 4 + num_norms)
                path = f"{self.get_temp_dir()}/model.keras"
                inputs = keras.Input((3, 8))
                model = keras.Model(inputs, layer(inputs))
                model.save(path)
                x = np.random.default_rng(0).normal(size=(2, 3, 8))
                loaded = keras.models.load_model(path)
                self.assertAllClose(loaded(x), model(x))
                copy = layers.SiameseNorm.from_config(layer.get_config())
                self.assertEqual(copy.get_config(), layer.get_config())
                gradients = self.gradients(layer, layer, x.astype("float32"))
                for gradient in gradients:
                    self.assertFinite(gradient)
                    self.assertGreater(np.abs(gradient).max(), 0)
        half = layers.SiameseNorm(
            [layers.UniMixerBlock(5, dtype="mixed_bfloat16")],
            dtype="mixed_bfloat16",
        )
        outputs = half(np.ones((2, 3, 4, 8)))
        dtype = keras.backend.standardize_dtype(outputs.dtype)
        self.assertEqual(dtype, "bfloat16")

    def check(self, reference, **init_kwargs):
        x = np.random.default_rng(0).normal(size=(2, 3, 8))
        blocks = dense_blocks(3)
        layer = layers.SiameseNorm(blocks, **init_kwargs)
        layer.build(x.shape)
        randomize_weights(layer)

        def run(i, u):
            return u @ to_numpy(blocks[i].kernel) + to_numpy(blocks[i].bias)

        self.assertAllClose(layer(x), reference(layer, run, x), atol=1e-5)

    def test_equals_the_paper(self):
        def reference(layer, run, x):
            y = x
            for i in range(3):
                o = run(i, x + normalize(y, layer.y_norms[i]))
                x, y = normalize(x + o, layer.x_norms[i]), y + o
            return x + normalize(y, layer.y_norms[3])

        self.check(reference)

    def test_auxiliaries(self):
        def reference(layer, run, x):
            y = x
            for i in range(3):
                u = x + normalize(y, layer.y_norms[i])
                o = run(i, normalize(u, layer.input_norms[i]))
                scaled = o / np.sqrt(i + 1)
                x, y = normalize(x + scaled, layer.x_norms[i]), y + o
            return x + normalize(y, layer.y_norms[3])

        self.check(reference, normalize_input=True, scale_by_depth=True)

    def test_pre_norm(self):
        def reference(layer, run, y):
            for i in range(3):
                y = y + run(i, normalize(y, layer.y_norms[i]))
            return normalize(y, layer.y_norms[3])

        self.check(reference, norm="pre_rms")

    def test_post_norm(self):
        def reference(layer, run, x):
            for i in range(3):
                x = normalize(x + run(i, x), layer.x_norms[i])
            return x

        self.check(reference, norm="post_rms")

    def test_no_block(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 8))
        self.assertAllClose(
            layers.SiameseNorm([])(x), x + rms_norm(x), atol=1e-5
        )

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`norm` must be one of"):
            layers.SiameseNorm([], norm="post_layer")
        same = keras.layers.Dense(8)
        for blocks in (None, "", [None], [same, same], {"a": same}):
            with self.assertRaisesRegex(ValueError, "list of different layers"):
                layers.SiameseNorm(blocks)
        with self.assertRaisesRegex(ValueError, r"blocks\[0\]=.*turns"):
            layers.SiameseNorm([keras.layers.Dense(1)]).build((2, 3, 8))
        with self.assertRaisesRegex(ValueError, "must be True or False"):
            layers.SiameseNorm([], normalize_input="no")
        with self.assertRaisesRegex(ValueError, "`scale_by_depth` scales"):
            layers.SiameseNorm([], norm="pre_rms", scale_by_depth=True)
