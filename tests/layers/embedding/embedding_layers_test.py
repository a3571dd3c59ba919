import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

from keras_unirec import layers
from keras_unirec.schema import GAP_BOUNDARIES
from tests.layers.inputs import randomize_weights
from tests.test_case import TestCase


class RowEmbeddingTest(TestCase):
    def test_equals_keras_embedding(self):
        layer = layers.RowEmbedding(rows=12, dim=4)
        ids = np.array([[2, 5], [11, 0]])
        outputs = layer(ids)
        expected = keras.layers.Embedding(12, 4)
        expected.build()
        expected.embeddings.assign(layer.embeddings)
        self.assertAllClose(outputs, expected(ids))
        copy = layers.RowEmbedding.from_config(layer.get_config())
        self.assertEqual(copy.get_config(), layer.get_config())

    def test_gradient_lists_its_rows(self):
        if keras.backend.backend() != "tensorflow":
            self.skipTest("Row gradients are TensorFlow's.")
        import tensorflow as tf

        layer = layers.RowEmbedding(rows=1000, dim=4)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(np.array([3, 3, 7])))
        gradient = tape.gradient(total, layer.trainable_variables)[0]
        self.assertIsInstance(gradient, tf.IndexedSlices)
        self.assertEqual(gradient.values.shape, (3, 4))

    def test_mixed_precision_casts_rows(self):
        layer = layers.RowEmbedding(12, 4, dtype="mixed_bfloat16")
        outputs = layer(np.array([1, 2]))
        dtype = keras.backend.standardize_dtype(outputs.dtype)
        self.assertEqual(dtype, "bfloat16")

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`rows` must hold"):
            layers.RowEmbedding(rows=2, dim=4)
        with self.assertRaisesRegex(ValueError, "`dim` must be a positive"):
            layers.RowEmbedding(rows=5, dim=0)


class EmbeddingPoolingTest(TestCase):
    def test_padding_takes_no_part(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2, 3, 4)).astype("float32")
        ids = np.array([[3, 7, 0], [0, 0, 0]])
        mean = layers.EmbeddingPooling()(x, ids)
        self.assertAllClose(mean[0], x[0, :2].mean(axis=0))
        self.assertAllClose(mean[1], np.zeros(4))
        total = layers.EmbeddingPooling("sum")(x, ids)
        self.assertAllClose(total[0], x[0, :2].sum(axis=0))
        with self.assertRaisesRegex(ValueError, "`pooling` must be"):
            layers.EmbeddingPooling("max")


class TimeGapBucketTest(TestCase):
    def test_buckets(self):
        bucket = layers.TimeGapBucket([1, 60, 3600])
        gaps = np.array([[0, 1, 59], [60, 10**9, -1]], "int32")
        self.assertAllClose(bucket(gaps), [[2, 3, 3], [4, 5, 1]])
        with self.assertRaisesRegex(ValueError, "must increase"):
            layers.TimeGapBucket([1, 1])

    def test_boundaries_are_exact(self):
        boundaries = np.array(GAP_BOUNDARIES)
        bucket = layers.TimeGapBucket(GAP_BOUNDARIES)
        at = np.asarray(bucket(boundaries.astype("int32")))
        self.assertAllClose(at, np.arange(len(boundaries)) + 3)
        self.assertAllClose(
            boundaries.astype("float32").astype("int64"), boundaries
        )


class LengthMaskTest(TestCase):
    def test_mask(self):
        mask = layers.LengthMask()(np.zeros((3, 4, 2)), np.array([0, 3, 4]))
        self.assertAllClose(mask, [[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])


class NewestFirstPositionTest(TestCase):
    def test_counts_from_the_newest(self):
        layer = layers.NewestFirstPosition(max_length=3)
        history = np.zeros((2, 5, 4), "float32")
        mask = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], "bool")
        outputs = np.asarray(layer(history, mask=mask))
        table = np.asarray(layer.positions)
        self.assertAllClose(outputs[0, :2], table[[1, 0]])
        # The oldest share the last row.
        self.assertAllClose(outputs[1], table[[2, 2, 2, 1, 0]])
        longer = np.asarray(
            layer(
                np.pad(history, ((0, 0), (0, 2), (0, 0))),
                mask=np.pad(mask, ((0, 0), (0, 2))),
            )
        )
        self.assertAllClose(
            longer[mask.nonzero()[0], mask.nonzero()[1]], outputs[mask]
        )
        with self.assertRaisesRegex(ValueError, "`max_length` must be"):
            layers.NewestFirstPosition(0)


class SavedModelTest(TestCase):
    """What stands between the inputs of a model and its embeddings."""

    @parameterized.parameters("float32", "mixed_bfloat16")
    def test_every_layer(self, dtype):
        policy = {"dtype": keras.DTypePolicy(dtype)}
        inputs = {
            "ids": keras.Input((None, 3), dtype="int32", name="ids"),
            "gaps": keras.Input((None,), dtype="int32", name="gaps"),
            "length": keras.Input((), dtype="int32", name="length"),
        }
        x = layers.RowEmbedding(12, 4, **policy)(inputs["ids"])
        x = layers.EmbeddingPooling("sum", **policy)(x, inputs["ids"])
        bucket = layers.TimeGapBucket([1, 60, 3600], **policy)
        gaps = layers.RowEmbedding(7, 4, "zeros", **policy)
        x = x + gaps(bucket(inputs["gaps"]))
        mask = layers.LengthMask(**policy)(x, inputs["length"])
        x = layers.NewestFirstPosition(5, **policy)(x, mask=mask)
        merge = layers.HistoryMerge(4, **policy)
        outputs = merge([x, x], [mask, mask], [inputs["gaps"]] * 2)
        model = keras.Model(inputs, outputs)
        randomize_weights(model)
        rng = np.random.default_rng(0)
        arrays = {
            "ids": rng.integers(0, 12, (2, 5, 3)),
            "gaps": rng.integers(-1, 10_000, (2, 5)),
            "length": np.array([3, 0]),
        }
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        for actual, expected in zip(loaded(arrays), model(arrays)):
            self.assertEqual(actual.dtype, expected.dtype)
            self.assertAllClose(
                ops.cast(actual, "float32"), ops.cast(expected, "float32")
            )
