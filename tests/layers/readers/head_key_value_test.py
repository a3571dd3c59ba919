import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.test_case import TestCase

N, D, E = 4, 8, 12
# The readers, with the width of their events, heads and width of a key.
READERS = {
    "map": (E, N, D),
    "slices": (N * D, N, D),
    "decoding": (E, 2, 5),
}


def make_reader(form, **kwargs):
    if form == "decoding":
        reader = layers.QueryDecoding(2, 5, name="reader", **kwargs)
    else:
        history_map = layers.HistoryMap(N, D, name="map")
        reader = layers.HeadCrossAttention(
            history_map if form == "map" else None, name="reader", **kwargs
        )
    reader.build((None, None, N, D), (None, None, READERS[form][0]))
    randomize_weights(reader)
    return reader


class HeadKeyValueTest(TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.queries = rng.normal(size=(2, 3, N, D)).astype("float32")
        self.mask = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], "bool")

    def history(self, form):
        shape = (2, 5, READERS[form][0])
        return np.random.default_rng(1).normal(size=shape).astype("float32")

    @parameterized.product(form=list(READERS), attention=["softmax", "sigmoid"])
    def test_is_read_in_place_of_the_history(self, form, attention):
        history = self.history(form)
        event_dim, num_heads, head_dim = READERS[form]
        reader = make_reader(form, attention=attention)
        key_value = layers.HeadKeyValue(reader)
        outputs = key_value(history)
        shapes = key_value.compute_output_shape((2, 5, event_dim))
        for output, shape in zip(outputs, shapes, strict=True):
            self.assertEqual(tuple(output.shape), (2, num_heads, 5, head_dim))
            self.assertEqual(shape, (2, num_heads, 5, head_dim))
        self.assertAllClose(
            reader(self.queries, outputs, mask=self.mask),
            reader(self.queries, history, mask=self.mask),
            atol=1e-5,
        )
        self.assertAllClose(
            reader.weights_of_events(self.queries, outputs, self.mask),
            reader.weights_of_events(self.queries, history, self.mask),
            atol=1e-6,
        )

    @parameterized.parameters(*READERS)
    def test_no_events(self, form):
        event_dim, num_heads, head_dim = READERS[form]
        key_value = layers.HeadKeyValue(make_reader(form))
        for output in key_value(np.zeros((2, 0, event_dim), "float32")):
            self.assertEqual(tuple(output.shape), (2, num_heads, 0, head_dim))

    @parameterized.parameters(*READERS)
    def test_half_precision(self, form):
        reader = make_reader(form, dtype="mixed_bfloat16")
        key_value = layers.HeadKeyValue(reader, dtype="mixed_bfloat16")
        for output in key_value(self.history(form)):
            dtype = keras.backend.standardize_dtype(output.dtype)
            self.assertEqual(dtype, "bfloat16")

    @parameterized.parameters(*READERS)
    def test_shares_the_weights(self, form):
        reader = make_reader(form)
        key_value = layers.HeadKeyValue(reader)
        key_value.build((None, None, READERS[form][0]))
        self.assertEqual(
            {id(w) for w in key_value.weights}, {id(w) for w in reader.weights}
        )
        copy = layers.HeadKeyValue.from_config(key_value.get_config())
        self.assertEqual(copy.get_config(), key_value.get_config())
        self.assertTrue(copy.supports_masking)

    @parameterized.product(form=list(READERS), first=["both", "reader"])
    def test_a_saved_model_shares_the_weights(self, form, first):
        """As two layers of one model, of which neither length is static."""
        reader, history = make_reader(form), self.history(form)
        events = keras.Input((None, READERS[form][0]), name="history")
        queries = keras.Input((None, N, D), name="queries")
        asked = queries
        if first == "reader":  # Keras then writes the reader before the keys.
            asked = reader(queries, events)
        key_value = layers.HeadKeyValue(reader, name="key_value")(events)
        model = keras.Model([queries, events], reader(asked, key_value))
        inputs = [self.queries, history]
        expected = model(inputs)
        if first == "both":
            self.assertAllClose(expected, reader(*inputs), atol=1e-5)

        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertAllClose(loaded(inputs), expected, atol=1e-6)
        self.assertLen(loaded.weights, len(reader.weights))
        again = loaded.get_layer("reader")
        self.assertIs(loaded.get_layer("key_value").reader, again)
        # What is saved a second time is the same.
        again.key_kernel.assign(again.key_kernel * 2.0)
        loaded.save(path)
        self.assertAllClose(
            keras.models.load_model(path)(inputs), loaded(inputs), atol=1e-6
        )
        # Weights alone, in a model built from code.
        path = f"{self.get_temp_dir()}/model.weights.h5"
        loaded.save_weights(path)
        model.load_weights(path)
        self.assertAllClose(model(inputs), loaded(inputs), atol=1e-6)

    def test_errors(self):
        for reader in (None, "query_decoding", layers.HistoryMap(N, D)):
            with self.assertRaisesRegex(ValueError, "must be a `HeadCross"):
                layers.HeadKeyValue(reader)
        reader = layers.HeadCrossAttention()
        with self.assertRaisesRegex(ValueError, "must be built"):
            layers.HeadKeyValue(reader)(np.ones((2, 5, E)))
        keys = np.ones((2, N, 5, D))
        with self.assertRaisesRegex(ValueError, "`HeadKeyValue` of this"):
            reader(self.queries, (keys, keys))
