import numpy as np

import keras_unirec as ku
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase


class AttentionTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, _, _ = small_batch(self.schema)

    def maps(self, name, **overrides):
        model = ku.applications.load(name, self.schema, **overrides)
        return ku.analysis.attention_weights(model, self.inputs)

    def test_softmax_sums_to_one_over_events(self):
        for name, overrides, layer in (
            (
                "hyformer_tiny",
                {"attention": "softmax"},
                "query_decoding_0_watched",
            ),
            (
                "hyformer_tiny",
                {
                    "attention": "softmax",
                    "kv_mode": "projected",
                    "norm": None,
                },
                "query_decoding_1_liked",
            ),
            ("longer_rankmixer_tiny", {}, "query_decoding_0_liked"),
            ("mixformer_tiny", {"attention": "softmax"}, "cross_attention_1"),
            *(
                (
                    "ui_mixformer_tiny",
                    {"attention": "softmax", "kv_mode": kv_mode},
                    f"{side}_cross_attention_1",
                )
                for side in ("user", "item")
                for kv_mode in ("absorbed", "projected")
            ),
        ):
            with self.subTest(name=name, **overrides):
                weights = self.maps(name, **overrides)[layer]
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
