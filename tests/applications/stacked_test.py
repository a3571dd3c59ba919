import numpy as np

import keras_unirec as ku
from keras_unirec import layers
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase


def plain_schema():
    """Ids alone, so that an embedding is a row of its table."""
    watched = [
        ku.Categorical("hist_item", share_with="item"),
        ku.Categorical("hist_click", 2, 3),
    ]
    return ku.Schema(
        user=[ku.Categorical("user", 9, 4)],
        item=[ku.Categorical("shop", 5, 2), ku.Categorical("item", 7, 6)],
        sequences=[ku.Sequence("watched", 5, watched)],
        labels=[ku.Label("click")],
    )


class StackedTest(TestCase):
    def test_equations_of_ta_dcnv2(self):
        schema = plain_schema()
        inputs, _, _ = small_batch(schema, requests=4, candidates=3)
        reader = layers.QueryDecoding(num_heads=2, head_dim=5, residual="none")
        model = ku.applications.load(
            "ta_dcnv2_tiny",
            schema,
            history_reader=layers.TargetAttention(reader),
            interaction=layers.DCN(num_layers=2, units=(8,)),
            history_lengths=False,
        )
        for weight in model.weights:  # Biases matter too.
            rng = np.random.default_rng(len(weight.path))
            weight.assign(rng.normal(0, 0.5, weight.shape))
        value = {w.path: np.array(w.numpy()) for w in model.weights}
        table = {
            name: value[f"{name}_embedding/embeddings"]
            for name in ("user", "shop", "item", "hist_click")
        }
        outputs = model(inputs)["click"]
        for r in range(4):
            length = inputs["watched.length"][r]
            events = np.concatenate(
                [
                    table["item"][inputs["hist_item"][r, :length]],
                    table["hist_click"][inputs["hist_click"][r, :length]],
                ],
                axis=-1,
            )
            for c in range(3):
                item = table["item"][inputs["item"][r, c]]
                # Only events have clicks.
                target = np.concatenate([item, np.zeros(3)])
                kernel = {
                    name: value[f"target_attention_watched/{name}_kernel"]
                    for name in ("query", "key", "value", "output")
                }
                query = (target @ kernel["query"]).reshape(2, 5)
                keys = (events @ kernel["key"]).reshape(-1, 2, 5)
                values = (events @ kernel["value"]).reshape(-1, 2, 5)
                read = np.zeros((2, 5))
                for h in range(2):
                    scores = np.exp(keys[:, h] @ query[h] / np.sqrt(5))
                    if length:
                        read[h] = scores / scores.sum() @ values[:, h]
                x0 = np.concatenate(
                    [
                        table["user"][inputs["user"][r]],
                        table["shop"][inputs["shop"][r, c]],
                        item,
                        read.reshape(-1) @ kernel["output"],
                    ]
                )
                x = x0
                for i in range(2):
                    path = f"interaction/cross_{i}_dense"
                    x = (
                        x0
                        * (x @ value[f"{path}/kernel"] + value[f"{path}/bias"])
                        + x
                    )
                x = np.maximum(
                    x @ value["interaction/dense_0/kernel"]
                    + value["interaction/dense_0/bias"],
                    0,
                )
                logit = x @ value["click_logit/kernel"]
                logit += value["click_logit/bias"]
                self.assertAllClose(outputs[r, c], logit[0], 1e-4, 1e-4)

    def test_choices_of_parts(self):
        schema = small_schema()
        inputs, _, _ = small_batch(schema)
        tokens = layers.QueryDecoding(num_heads=2)
        for history_reader in (
            "mean",
            layers.DecodingReader(dim=16, reader=tokens, encoder="swiglu"),
            layers.TargetAttention(
                layers.QueryDecoding(
                    num_heads=1, attention="sigmoid", head_dim=4
                )
            ),
        ):
            model = ku.applications.Stacked(
                schema, history_reader=history_reader
            )
            self.assertFinite(model(inputs)["is_click"])
            copy = type(model).from_config(model.get_config())
            self.assertEqual(copy.get_config(), model.get_config())

    def test_target_attention_in_front_of_rankmixer(self):
        schema = small_schema()
        inputs, _, _ = small_batch(schema)
        model = ku.applications.load(
            "rankmixer_tiny", schema, history_reader="target_attention"
        )
        self.assertFinite(model(inputs)["is_click"])
        maps = ku.analysis.attention_weights(model, inputs)
        self.assertEqual(
            maps["target_attention_watched"].shape, (6, 3, 1, 4, 8)
        )

    def test_errors(self):
        schema = small_schema()
        for parts, message in (
            (
                {"history_reader": layers.DecodingReader()},
                "`dim` of the `DecodingReader` must be given",
            ),
            (
                {
                    "history_reader": layers.DecodingReader(
                        dim=8, queries=layers.QueryGeneration()
                    )
                },
                "without feature tokens generates queries from the item",
            ),
            ({"interaction": "dcn"}, "`interaction` must be one of"),
            ({"num_layers": 2}, "interaction=keras_unirec.layers.DCN"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                ku.applications.Stacked(schema, **parts)
        without = ku.Schema(
            user=schema.user, item=schema.item, labels=schema.labels
        )
        with self.assertRaisesRegex(ValueError, "`TargetAttention` reads hist"):
            ku.applications.load("ta_dcnv2_tiny", without)
