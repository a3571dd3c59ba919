"""The sizes of HyFormer and RankMixer: closed forms and published counts."""

from absl.testing import parameterized

import keras_unirec as ku
from keras_unirec.analysis import paper_schema
from keras_unirec.analysis import profile
from keras_unirec.analysis.closed_form import hyformer_closed_form
from keras_unirec.analysis.closed_form import rankmixer_closed_form
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


class PublishedSizesTest(TestCase):
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

    @parameterized.parameters(
        ("hyformer_tiny", "click_logit"),
        ("longer_rankmixer_tiny", "click_logit"),
        ("rankmixer_tiny", "finish_logit"),
        ("mixformer_tiny", "finish_logit"),
    )
    def test_of_a_name(self, name, layer):
        parts = {part.name for part in profile(name, candidates=1).parts}
        self.assertIn(layer, parts)
