"""The sizes of HyFormer and RankMixer: closed forms and published counts."""

from absl.testing import parameterized

import keras_unirec as ku
from keras_unirec import layers
from keras_unirec.analysis import paper_schema
from keras_unirec.analysis import profile
from keras_unirec.analysis.closed_form import hyformer_closed_form
from keras_unirec.analysis.closed_form import rankmixer_closed_form
from keras_unirec.analysis.closed_form import unimixer_closed_form
from tests.small_log import small_schema
from tests.test_case import TestCase

# Events of the long history in Tables 1 and 2 of HyFormer.
LENGTHS = {"long_term": 1_000}


def widths(schema):
    """Widths: of all features, of item columns, of events by history."""
    features, target = 0, 0
    events = {sequence.name: 0 for sequence in schema.sequences}
    for encoded in schema.encoded:
        width = 1
        if encoded.kind == "length":
            continue
        if encoded.embedding is not None:
            width = schema.embeddings[encoded.embedding].dim
        elif encoded.kind == "number":
            width = schema.numerical(encoded.feature).embedding_dim or 1
        if encoded.sequence is not None and encoded.kind != "count":
            events[encoded.sequence] += width
        else:
            features += width
            target += width if encoded.side == "item" else 0
    return features, target, events


def by_part(result, parts):
    """Counts of `result` by part of a closed form, without column layers."""
    found = {name: [0, 0] for name in parts}
    for part in result.grouped():
        role = part.name.split(" x ")[0]
        if role.endswith(("embeddings", "numbers", "_pooling")):
            continue
        if role.endswith(("_tower", "_logit")):
            role = "towers"
        (name,) = [name for name in parts if name in role]
        found[name][0] += part.dense_parameters
        found[name][1] += part.flops // 2
    return {name: tuple(counts) for name, counts in found.items()}


class ClosedFormTest(TestCase):
    @parameterized.parameters(
        ({"encoder": layers.Longer(recent_length=20, num_heads=2)}, {}),
        (
            {"encoder": layers.Longer(recent_length=3, num_heads=2)},
            {"recent_length": 3},
        ),
        (
            {"encoder": layers.TransformerEncoder(num_heads=2, ratio=3)},
            {"encoder": "transformer", "encoder_hidden_dim": 96},
        ),
        (
            {"events": layers.Events(24, position="newest_first")},
            {"encoder": "swiglu", "sequence_dim": 24},
        ),
        (
            {
                "queries": layers.QueryGeneration(
                    hidden_dim=32, context="target"
                ),
                "tower": layers.Tower((7, 5)),
            },
            {"encoder": "swiglu", "tower_units": (7, 5), "head_dim": 6},
        ),
    )
    def test_hyformer(self, parts, written):
        schema = small_schema()
        features, target, events = widths(schema)
        written = {"head_dim": 16, "sequence_dim": 32, **written}
        if "queries" in parts:
            written["target_dim"] = target
        lengths = {"watched": 6}
        for kv_mode in ("absorbed", "projected"):
            reader = layers.QueryDecoding(
                2, head_dim=written["head_dim"], kv_mode=kv_mode
            )
            model = ku.applications.load(
                "hyformer_tiny",
                schema,
                reader=reader,
                residual="no_norm",
                readout="concatenate",
                **parts,
            )
            expected = hyformer_closed_form(
                num_tokens=16,
                dim=32,
                num_layers=2,
                feature_dim=features,
                histories=[
                    (
                        events[s.name],
                        s.max_length,
                        lengths.get(s.name, s.max_length),
                    )
                    for s in schema.sequences
                ],
                hidden_dim=48,
                num_heads=2,
                query_hidden_dim=32,
                num_labels=2,
                kv_mode=kv_mode,
                batch_size=3,
                candidates=2,
                **written,
            )
            result = profile(
                model, batch_size=3, candidates=2, history_length=lengths
            )
            self.assertEqual(by_part(result, expected), expected)

    @parameterized.parameters(
        ({}, {}),
        (
            {
                "history_reader": layers.MeanReader(12),
                "tower": layers.Tower((7, 5)),
            },
            {"sequence_dim": 12, "tower_units": (7, 5)},
        ),
    )
    def test_rankmixer(self, parts, written):
        schema = small_schema()
        model = ku.applications.load("rankmixer_tiny", schema, **parts)
        features, _, events = widths(schema)
        expected = rankmixer_closed_form(
            num_tokens=16,
            dim=32,
            num_layers=2,
            feature_dim=features,
            histories=[
                (events[s.name], s.max_length) for s in schema.sequences
            ],
            hidden_dim=128,
            num_labels=2,
            batch_size=3,
            candidates=2,
            **{"sequence_dim": 32, **written},
        )
        result = profile(model, batch_size=3, candidates=2)
        self.assertEqual(by_part(result, expected), expected)

    @parameterized.parameters(
        ("unimixer_tiny", {}, {}),
        (
            "unimixer_tiny",
            {"mixer": layers.UniMixing(8, num_iterations=3)},
            {"block_size": 8, "num_iterations": 3},
        ),
        ("unimixer_lite_tiny", {}, {"num_bases": 4}),
        (
            "unimixer_lite_tiny",
            {
                "mixer": layers.UniMixingLite(num_bases=3, rank=5),
                "num_layers": 3,
            },
            {"num_bases": 3, "rank": 5, "num_layers": 3},
        ),
    )
    def test_unimixer(self, name, parts, written):
        schema = small_schema()
        model = ku.applications.load(name, schema, **parts)
        features, _, events = widths(schema)
        expected = unimixer_closed_form(
            num_tokens=16,
            dim=32,
            feature_dim=features,
            histories=[
                (events[s.name], s.max_length) for s in schema.sequences
            ],
            hidden_dim=80 if "lite" in name else 72,
            sequence_dim=32,
            num_labels=2,
            batch_size=3,
            candidates=2,
            **{"num_layers": 2, **written},
        )
        result = profile(model, batch_size=3, candidates=2)
        self.assertEqual(by_part(result, expected), expected)


class PublishedSizesTest(TestCase):
    @parameterized.parameters(
        # Tables 3 and 4: within 1 % in parameters, and 3 % in FLOPs.
        ("rankmixer_4m", {}, 4.44e6, 0.056, 0.01),
        ("rankmixer_4m", {"num_layers": 4}, 8.66e6, 0.108, 0.01),
        ("unimixer_6m", {}, 6.57e6, None, 0.01),
        ("unimixer_lite_5m", {}, 4.968e6, 0.161, 0.01),
        (
            "unimixer_lite_5m",
            {"mixer": layers.UniMixingLite(num_bases=8, rank=128)},
            4.98e6,
            None,
            0.01,
        ),
        ("unimixer_lite_5m", {"num_layers": 4}, 9.72e6, 0.316, 0.01),
        ("unimixer_lite_5m", {"num_layers": 8}, 19.21e6, 0.629, 0.01),
        # Table 2: within 3 % in both.
        ("unimixer_67m", {}, 67.5e6, 2.07, 0.03),
        ("unimixer_101m", {}, 101.5e6, 2.50, 0.03),
        ("unimixer_lite_42m", {}, 42.4e6, 2.17, 0.03),
        ("unimixer_lite_76m", {}, 76.2e6, 2.60, 0.03),
        ("unimixer_lite_38m", {}, 38.2e6, 1.26, 0.03),
        ("unimixer_lite_84m", {}, 84.5e6, 4.24, 0.03),
    )
    def test_unimixer(self, name, overrides, parameters, flops, tolerance):
        result = profile(name, batch_size=2_048, **overrides)
        self.assertLess(
            abs(result.dense_parameters / parameters - 1), tolerance
        )
        if flops is not None:
            tera = result.paper_units()["unimixer"]
            self.assertLess(abs(tera / flops - 1), 0.03)

    def test_hyformer_base(self):
        result = profile("hyformer_base", history_length=LENGTHS)
        self.assertLess(abs(result.dense_parameters / 418e6 - 1), 0.01)
        tera = result.paper_units()["hyformer"]
        self.assertLess(abs(tera / 3.9 - 1), 0.03)
        parts = hyformer_closed_form(
            num_tokens=16,
            dim=1_280,
            num_layers=5,
            feature_dim=3_291,
            histories=[(64, 3_000, 1_000), (64, 50, 50), (64, 50, 50)],
            hidden_dim=1_824,
            num_heads=8,
            head_dim=96,
            recent_length=200,
            query_hidden_dim=80,
            tower_units=(256,),
        )
        self.assertEqual(by_part(result, parts), parts)

    def test_longer_rankmixer_base(self):
        result = profile("longer_rankmixer_base", history_length=LENGTHS)
        self.assertLess(abs(result.dense_parameters / 386e6 - 1), 0.01)
        tera = result.paper_units()["hyformer"]
        self.assertLess(abs(tera / 3.5 - 1), 0.03)

    @parameterized.parameters(
        ("rankmixer_100m", 107e6, 16, 768, 2_112),
        ("rankmixer_1b", 1_100e6, 32, 1_536, 5_568),
    )
    def test_rankmixer(self, name, published, num_tokens, dim, hidden_dim):
        result = profile(name)
        self.assertLess(abs(result.dense_parameters / published - 1), 0.01)
        parts = rankmixer_closed_form(
            num_tokens, dim, 2, 3_001, [(162, 512)], hidden_dim, num_labels=2
        )
        self.assertEqual(by_part(result, parts), parts)


class ReferenceTest(TestCase):
    def test_schema_of_hyformer(self):
        schema = paper_schema("hyformer")
        self.assertTrue(schema.is_adapted)
        self.assertEqual(
            {s.name: s.max_length for s in schema.sequences},
            {"long_term": 3_000, "search": 50, "feed": 50},
        )
        self.assertEqual(schema.label_names, ("click",))
        self.assertEqual(schema, ku.Schema.from_json(schema.to_json()))
        features, _, events = widths(schema)
        self.assertEqual(features, 3_291)
        self.assertEqual(set(events.values()), {64})

    def test_schema_of_unimixer(self):
        schema = paper_schema("unimixer")
        self.assertTrue(schema.is_adapted)
        self.assertEqual(schema, ku.Schema.from_json(schema.to_json()))
        features, _, events = widths(schema)
        self.assertEqual(features + 2 * 64, 1_498)
        self.assertEqual(set(events.values()), {96})

    @parameterized.parameters(
        ("unimixer_tiny", "is_back_logit"),
        ("hyformer_tiny", "click_logit"),
        ("longer_rankmixer_tiny", "click_logit"),
        ("rankmixer_tiny", "finish_logit"),
        ("mixformer_tiny", "finish_logit"),
    )
    def test_of_a_name(self, name, layer):
        parts = {part.name for part in profile(name, candidates=1).parts}
        self.assertIn(layer, parts)
