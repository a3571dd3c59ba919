import numpy as np
from keras import ops

from keras_unirec import layers
from tests.test_case import TestCase
from tests.test_case import to_numpy


class TokenSelfAttentionTest(TestCase):
    def test_basics(self):
        for input_shape in ((2, 4, 8), (2, 3, 4, 8)):
            with self.subTest(input_shape=input_shape):
                self.run_layer_test(
                    layers.TokenSelfAttention,
                    init_kwargs={"num_heads": 2},
                    input_shape=input_shape,
                    expected_output_shape=input_shape,
                    expected_num_trainable_weights=4,
                    expected_num_parameters=4 * 8 * 8,
                )

    def test_equals_the_definition(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")
        layer = layers.TokenSelfAttention(num_heads=2)
        outputs = layer(x)
        query, key, value, out = (to_numpy(w) for w in layer.weights)
        expected = np.zeros_like(x)
        for head in range(2):
            q, k, v = (x @ w[:, head] for w in (query, key, value))
            scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(4)
            weights = np.exp(scores)
            weights /= weights.sum(-1, keepdims=True)
            expected += weights @ v @ out[head]
        self.assertAllClose(outputs, expected, atol=1e-5)

    def test_candidates_are_independent(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        layer = layers.TokenSelfAttention(num_heads=2)
        self.assertAllClose(layer(x)[:, :1], layer(x[:, :1]), atol=1e-6)

    def test_context_is_attention_under_a_mask(self):
        """Items read the user's tokens and their own; the user only its own."""
        rng = np.random.default_rng(0)
        user = rng.normal(size=(2, 1, 3, 8)).astype("float32")
        items = rng.normal(size=(2, 4, 5, 8)).astype("float32")
        layer = layers.TokenSelfAttention(num_heads=2)
        everything = np.concatenate([np.repeat(user, 4, 1), items], axis=2)
        layer.build(everything.shape)
        query, key, value, out = (to_numpy(w) for w in layer.weights)
        allowed = np.ones((8, 8), bool)
        allowed[:3, 3:] = False
        expected = np.zeros_like(everything)
        for head in range(2):
            q, k, v = (everything @ w[:, head] for w in (query, key, value))
            scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(4)
            weights = np.where(allowed, np.exp(scores), 0.0)
            weights /= weights.sum(-1, keepdims=True)
            expected += weights @ v @ out[head]
        self.assertAllClose(layer(user), expected[:, :1, :3], atol=1e-5)
        outputs = layer(items, context=user)
        self.assertAllClose(outputs, expected[:, :, 3:], atol=1e-5)

    def test_scale_at_initialization(self):
        layer = layers.TokenSelfAttention(num_heads=8)
        layer.build((None, 4, 64))
        for weight in layer.weights:
            std = np.std(to_numpy(weight))
            self.assertAllClose(std, np.sqrt(1 / 64), rtol=0.1)
        self.assertFinite(layer(ops.ones((1, 4, 64))))

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "must be a positive integer"):
            layers.TokenSelfAttention(0)
        with self.assertRaisesRegex(ValueError, "`num_heads` must divide"):
            layers.TokenSelfAttention(3).build((None, 4, 8))
