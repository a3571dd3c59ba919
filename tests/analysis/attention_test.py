import numpy as np

import keras_unirec as ku
from keras_unirec import layers
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase


class AttentionTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, _, _ = small_batch(self.schema)

    def maps(self, name, **parts):
        model = ku.applications.load(name, self.schema, **parts)
        return ku.analysis.attention_weights(model, self.inputs)

    def test_softmax_sums_to_one_over_events(self):
        softmax = layers.HeadCrossAttention()
        projected = layers.HeadCrossAttention(kv_mode="projected")
        decoding = {
            "history_reader": "decoding",
            "residual": "siamese",
        }
        for name, parts, layer in (
            (
                "hyformer_tiny",
                {"reader": layers.QueryDecoding(2)},
                "query_decoding_0_watched",
            ),
            (
                "hyformer_tiny",
                {
                    "reader": layers.QueryDecoding(2, kv_mode="projected"),
                    "residual": "no_norm",
                },
                "query_decoding_1_liked",
            ),
            ("longer_rankmixer_tiny", {}, "query_decoding_0_liked"),
            ("unimixer_tiny", decoding, "query_decoding_1_watched"),
            (
                "rankmixer_tiny",
                {"history_reader": "target_attention"},
                "target_attention_liked",
            ),
            ("mixformer_tiny", {"reader": softmax}, "cross_attention_1"),
            (
                "mixformer_tiny",
                {"reader": layers.Shared(projected)},
                "cross_attention_0_1",
            ),
            *(
                (
                    "ui_mixformer_tiny",
                    {"reader": reader},
                    f"{side}_cross_attention_1",
                )
                for side in ("user", "item")
                for reader in (softmax, projected)
            ),
        ):
            with self.subTest(name=name, layer=layer):
                weights = self.maps(name, **parts)[layer]
                self.assertEqual(weights.dtype, "float32")
                total = weights.sum(-1)
                self.assertEqual(total.shape[:2], (6, 3))
                length = self.inputs["watched.length"]
                if layer.endswith("liked"):
                    length = self.inputs["liked.length"]
                elif "cross" in layer:
                    length = length + self.inputs["liked.length"]
                read = (length > 0).astype("float32")
                read = read.reshape(-1, *[1] * (total.ndim - 1))
                self.assertAllClose(
                    total, np.broadcast_to(read, total.shape), atol=1e-5
                )

    def test_plot(self):
        path = f"{self.get_temp_dir()}/folder/attention.png"
        maps = self.maps("hyformer_tiny")
        figure = ku.analysis.plot_attention(maps, request=5, path=path)
        titles = [axis.get_title() for axis in figure.axes]
        self.assertIn("query_decoding_1_liked", titles)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "read a history with atten"):
            self.maps("rankmixer_tiny")
        with self.assertRaisesRegex(ValueError, "at least one layer"):
            ku.analysis.plot_attention({})
