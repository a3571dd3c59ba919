"""The sizes of HyFormer and RankMixer: closed forms and published counts."""

from absl.testing import parameterized

import keras_unirec as ku
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
    for part in result.parts:
        if part.name.endswith(("_embedding", "_number", "_pooling")):
            continue
        (name,) = [
            name
            for name in parts
            if name in part.name
            or (name == "towers" and part.name.endswith("_logit"))
            or (name == "towers" and "_tower_" in part.name)
        ]
        found[name][0] += part.dense_parameters
        found[name][1] += part.flops // 2
    return {name: tuple(counts) for name, counts in found.items()}


def hyformer(model, lengths=None, **arguments):
    schema = model.schema
    features, target, events = widths(schema)
    width = model.dim
    of_target = model.query_context == "target"
    return hyformer_closed_form(
        num_tokens=model.num_tokens,
        dim=width,
        num_layers=model.num_layers,
        feature_dim=features,
        histories=[
            (
                events[s.name],
                s.max_length,
                (lengths or {}).get(s.name, s.max_length),
            )
            for s in schema.sequences
        ],
        hidden_dim=round(model.hidden_ratio * width),
        num_heads=model.num_heads,
        head_dim=model.head_dim or width // model.num_heads,
        sequence_dim=model.sequence_dim,
        encoder=model.encoder,
        encoder_hidden_dim=model.encoder_hidden_ratio * model.sequence_dim,
        recent_length=model.recent_length,
        query_hidden_dim=model.query_hidden_dim,
        target_dim=target if of_target else None,
        tower_units=model.tower_units,
        num_labels=len(schema.labels),
        **arguments,
    )


class ClosedFormTest(TestCase):
    @parameterized.parameters(
        {"encoder": "longer"},
        {"encoder": "longer", "recent_length": 3, "token_merge": 1},
        {"encoder": "transformer", "encoder_hidden_ratio": 3},
        {"encoder": "swiglu", "sequence_dim": 24},
        {"query_context": "target", "tower_units": (7, 5), "head_dim": 6},
    )
    def test_hyformer(self, **overrides):
        schema = small_schema()
        for kv_mode in ("absorbed", "projected"):
            model = ku.applications.load(
                "hyformer_tiny",
                schema,
                norm=None,
                readout="concatenate",
                kv_mode=kv_mode,
                **overrides,
            )
            lengths = {"watched": 6}
            expected = hyformer(
                model, lengths, kv_mode=kv_mode, batch_size=3, candidates=2
            )
            result = profile(
                model, batch_size=3, candidates=2, history_length=lengths
            )
            self.assertEqual(by_part(result, expected), expected)

    @parameterized.parameters({}, {"sequence_dim": 12, "tower_units": (7, 5)})
    def test_rankmixer(self, **overrides):
        schema = small_schema()
        model = ku.applications.load("rankmixer_tiny", schema, **overrides)
        features, _, events = widths(schema)
        expected = rankmixer_closed_form(
            num_tokens=model.num_tokens,
            dim=model.dim,
            num_layers=model.num_layers,
            feature_dim=features,
            histories=[
                (events[s.name], s.max_length) for s in schema.sequences
            ],
            hidden_dim=round(model.hidden_ratio * model.dim),
            sequence_dim=model.sequence_dim,
            tower_units=model.tower_units,
            num_labels=len(schema.labels),
            batch_size=3,
            candidates=2,
        )
        result = profile(model, batch_size=3, candidates=2)
        self.assertEqual(by_part(result, expected), expected)

    @parameterized.parameters(
        ("unimixer_tiny", {}),
        ("unimixer_tiny", {"block_size": 8, "num_iterations": 3}),
        ("unimixer_lite_tiny", {}),
        ("unimixer_lite_tiny", {"num_bases": 3, "rank": 5, "num_layers": 3}),
    )
    def test_unimixer(self, name, overrides):
        schema = small_schema()
        model = ku.applications.load(name, schema, **overrides)
        features, _, events = widths(schema)
        lite = name == "unimixer_lite_tiny"
        expected = unimixer_closed_form(
            num_tokens=16,
            dim=32,
            num_layers=model.num_layers,
            feature_dim=features,
            histories=[
                (events[s.name], s.max_length) for s in schema.sequences
            ],
            hidden_dim=round(model.hidden_ratio * 32),
            block_size=model.block_size or 4,
            num_bases=(model.num_bases or 4) if lite else None,
            rank=model.rank,
            num_iterations=model.num_iterations or 20,
            sequence_dim=32,
            num_labels=len(schema.labels),
            batch_size=3,
            candidates=2,
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
        ("unimixer_lite_5m", {"num_bases": 8}, 4.98e6, None, 0.01),
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
