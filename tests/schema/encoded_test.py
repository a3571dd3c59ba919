import numpy as np

from keras_unirec import schema as schemas
from keras_unirec.schema import Encoded
from keras_unirec.schema.encoded import default_embedding_dim
from tests.schema.rich_schema import frame
from tests.schema.rich_schema import rich_schema
from tests.test_case import TestCase


class EncodedTest(TestCase):
    def test_encoded_inputs(self):
        schema = rich_schema()
        found = [(e.key, e.kind, e.side, e.embedding) for e in schema.encoded]
        self.assertEqual(
            found,
            [
                ("country", "id", "user", "country"),
                ("page", "id", "user", "page"),
                ("hour", "number", "user", None),
                ("viewed.length", "length", "user", None),
                ("viewed.count", "count", "user", None),
                ("bought.length", "length", "user", None),
                ("bought.count", "count", "user", None),
                ("item_id", "id", "item", "item_id"),
                ("item_id.brand", "id", "item", "brand"),
                ("item_id.words", "id", "item", "words"),
                ("item_id.price", "number", "item", None),
                ("slots", "id", "item", "slots"),
                ("viewed_id", "id", "user", "item_id"),
                ("viewed_id.brand", "id", "user", "brand"),
                ("viewed_id.words", "id", "user", "words"),
                ("viewed_id.price", "number", "user", None),
                ("viewed_time", "gap", "user", "viewed_time"),
                ("bought_brand", "id", "user", "brand"),
            ],
        )
        by_key = {encoded.key: encoded for encoded in schema.encoded}
        self.assertEqual(
            by_key["viewed_id.words"],
            Encoded(
                "viewed_id.words",
                "id",
                "user",
                "sequence",
                "words",
                2,
                "mean",
                "viewed",
                "words",
            ),
        )
        self.assertEqual(by_key["page"].group, "context")
        self.assertEqual(by_key["slots"].pooling, "sum")
        self.assertEqual(by_key["slots"].shape, (None, 3))
        self.assertEqual(by_key["viewed_id.words"].shape, (None, 2))
        self.assertEqual(by_key["viewed.count"].shape, ())
        self.assertEqual(by_key["viewed.count"].dtype, "float32")
        self.assertEqual(by_key["viewed_time"].dtype, "int32")

    def test_inputs(self):
        schema = rich_schema().adapt(frame())
        user, item = schema.inputs()
        self.assertEqual(
            {*user, *item}, {encoded.key for encoded in schema.encoded}
        )
        self.assertEqual(
            set(item),
            {
                "item_id",
                "item_id.brand",
                "item_id.words",
                "item_id.price",
                "slots",
            },
        )
        self.assertEqual(item["slots"].shape, (None, None, 3))
        self.assertEqual(user["country"].shape, (None,))
        self.assertEqual(user["viewed_id.words"].shape, (None, None, 2))
        self.assertEqual(user["hour"].dtype, "float32")
        self.assertEqual(user["viewed_time"].dtype, "int32")
        with self.assertRaisesRegex(ValueError, "must be adapted"):
            rich_schema().inputs()

    def test_default_embedding_dim(self):
        dims = [
            default_embedding_dim(n)
            for n in (1, 2, 16, 100, 1_000, 7_583, 10**6, 10**9)
        ]
        self.assertEqual(dims, [4, 4, 4, 8, 20, 40, 64, 64])

    def test_gap_boundaries(self):
        boundaries = np.array(schemas.GAP_BOUNDARIES)
        self.assertTrue((np.diff(boundaries) > 0).all())
        np.testing.assert_array_equal(
            boundaries.astype("float32").astype("int64"), boundaries
        )
        self.assertEqual(list(boundaries[:5]), [1, 2, 3, 5, 7])
        self.assertGreater(boundaries[-1], 30 * 365 * 24 * 3600)
        self.assertLess(boundaries[-1], 2**31)
