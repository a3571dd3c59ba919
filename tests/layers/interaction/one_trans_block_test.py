import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

from keras_unirec import layers
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, C, T, N, D = 3, 2, 7, 4, 8
LENGTHS = (7, 3, 0)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def rms(x, scale):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def one_trans(block, events, tokens, causal=True):
    """The equations on `[S; NS]` of one request and one candidate.

    Each row has its own matrices, by its kind; no masks, no caches.
    """
    value = {w.path.split("/", 1)[-1]: to_numpy(w.value) for w in block.weights}
    shared = len(events)
    x = np.concatenate([events, tokens])
    heads, width = block.num_heads, D // block.num_heads

    def kernel(name, row):
        if row < shared:
            return value[f"event_{name}_kernel"]
        return value[f"token_{name}_kernel"][row - shared]

    def mixed(x, name):
        rows = [x[i] @ kernel(name, i) for i in range(len(x))]
        return np.array(rows).reshape(len(x), heads, width)

    normed = rms(x, value["attention_norm/scale"])
    q, k, v = (mixed(normed, name) for name in ("query", "key", "value"))
    read = np.zeros((len(x), D))
    for i in range(len(x)):
        last = i + 1 if causal else (shared if i < shared else len(x))
        for h in range(heads):
            scores = k[:last, h] @ q[i, h] / np.sqrt(width)
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            read[i, h * width : (h + 1) * width] = weights @ v[:last, h]
    z = read @ value["output_kernel"] + x
    normed = rms(z, value["feed_forward_norm/scale"])
    outputs = []
    for i in range(len(x)):
        side = "event" if i < shared else "token"
        up, up_bias, down, down_bias = (
            value[f"{side}_feed_forward/{name}"]
            for name in ("up_kernel", "up_bias", "down_kernel", "down_bias")
        )
        if side == "token":
            j = i - shared
            up, down = up[j], down[j]
            up_bias, down_bias = up_bias[j, 0], down_bias[j, 0]
        hidden = gelu(normed[i] @ up + up_bias)
        outputs.append(z[i] + hidden @ down + down_bias)
    return np.array(outputs)


class OneTransBlockTest(TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.events = rng.normal(size=(R, T, D)).astype("float32")
        self.tokens = rng.normal(size=(R, C, N, D)).astype("float32")
        self.mask = np.arange(T) < np.array(LENGTHS)[:, None]

    def block(self, **kwargs):
        block = layers.OneTransBlock(num_heads=2, num_tokens=N, **kwargs)
        block.build((None, None, D))
        for weight in block.weights:  # Biases and scales matter too.
            noise = keras.random.normal(weight.shape, stddev=0.3, seed=1)
            weight.assign(weight.value + noise)
        return block

    @parameterized.parameters(True, False)
    def test_equations(self, causal):
        block = self.block(causal=causal)
        events, mask, kept = block.request(self.events, self.mask)
        tokens = block.candidates(self.tokens, kept)
        self.assertAllClose(mask, self.mask)
        for r, length in enumerate(LENGTHS):
            for c in range(C):
                expected = one_trans(
                    block, self.events[r, :length], self.tokens[r, c], causal
                )
                self.assertAllClose(tokens[r, c], expected[length:], atol=2e-5)
            self.assertAllClose(
                events[r, :length], expected[:length], atol=2e-5
            )

    def test_pyramid_keeps_the_recent_events(self):
        block = self.block()
        events, _, kept = block.request(self.events, self.mask)
        weights = [to_numpy(weight.value) for weight in block.weights]
        shorter = self.block(num_queries=2)
        for weight, value in zip(shorter.weights, weights):
            weight.assign(value)
        recent, mask, same = shorter.request(self.events, self.mask)
        self.assertEqual(recent.shape, (R, 2, D))
        self.assertAllClose(mask, [[1, 1], [1, 1], [0, 0]])
        self.assertAllClose(recent[0], events[0, 5:], atol=1e-5)
        self.assertAllClose(recent[1], events[1, 1:3], atol=1e-5)
        for name, value in kept.items():
            self.assertAllClose(same[name], value, atol=1e-5)
        last = self.block(num_queries=0)
        values = {w.path: v for w, v in zip(block.weights, weights)}
        for weight in last.weights:  # No query and no network of events.
            weight.assign(values[weight.path.replace(last.name, block.name)])
        _, _, same = last.request(self.events, self.mask)
        self.assertAllClose(same["keys"], kept["keys"])

    def test_padding_is_ignored(self):
        block = self.block()
        events, _, kept = block.request(self.events, self.mask)
        tokens = block.candidates(self.tokens, kept)
        padded = np.pad(self.events, [(0, 0), (0, 3), (0, 0)], "edge")
        mask = np.pad(self.mask, [(0, 0), (0, 3)])
        more_events, _, kept = block.request(padded, mask)
        more = block.candidates(self.tokens, kept)
        self.assertAllClose(more, tokens, atol=1e-5)
        self.assertAllClose(more_events[0, :T], events[0], atol=1e-5)
        self.assertFinite(more)  # The last history is empty.

    def test_no_events_at_all(self):
        block = self.block()
        _, _, kept = block.request(self.events[:, :0], self.mask[:, :0])
        tokens = block.candidates(self.tokens, kept)
        expected = one_trans(block, self.events[0, :0], self.tokens[0, 0])
        self.assertAllClose(tokens[0, 0], expected, atol=2e-5)

    def test_saved_in_a_plain_model(self):
        block = layers.OneTransBlock(num_heads=2, num_tokens=N, name="block")
        events = keras.Input((None, D), name="events")
        mask = keras.Input((None,), dtype="bool", name="mask")
        tokens = keras.Input((None, N, D), name="tokens")
        _, _, kept = block.request(events, mask)
        outputs = block.candidates(tokens, kept)
        model = keras.Model([events, mask, tokens], outputs)
        arrays = [self.events, self.mask, self.tokens]
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
        self.assertAllClose(loaded(arrays), model(arrays))

    def test_half_precision(self):
        block = layers.OneTransBlock(
            num_heads=2, num_tokens=N, dtype="mixed_bfloat16"
        )
        _, _, kept = block.request(self.events, self.mask)
        tokens = block.candidates(self.tokens, kept)
        self.assertEqual(
            keras.backend.standardize_dtype(tokens.dtype), "bfloat16"
        )
        self.assertFinite(ops.cast(tokens, "float32"))

    def test_number_of_parameters(self):
        network = layers.PerTokenFFN(ratio=2)
        block = layers.OneTransBlock(
            num_heads=2, num_tokens=N, feed_forward=network
        )
        block.build((None, None, D))
        own = 3 * D * D + 2 * D * 2 * D + 2 * D + D
        self.assertEqual(block.count_params(), (N + 1) * own + D * D + 2 * D)
        last = layers.OneTransBlock(2, network, num_tokens=N, num_queries=0)
        last.build((None, None, D))
        unused = own - 2 * D * D
        self.assertEqual(last.count_params(), block.count_params() - unused)

    def test_errors(self):
        for arguments, message in (
            ({"num_heads": 0}, "`num_heads` must be a positive integer"),
            ({"num_tokens": "4"}, "`num_tokens` must be a positive integer"),
            ({"num_queries": -1}, "`num_queries` must be an integer between"),
            ({"causal": 1}, "`causal` must be True or False"),
            ({"feed_forward": "relu"}, "`feed_forward` must be one of"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                layers.OneTransBlock(**arguments)
        with self.assertRaisesRegex(ValueError, "`num_heads` must divide"):
            layers.OneTransBlock(num_heads=3, num_tokens=N).build((1, 1, D))
        with self.assertRaisesRegex(ValueError, "`num_tokens` must be a pos"):
            layers.OneTransBlock().build((1, 1, D))
