"""Parts that meet: what no paper tried works, or is refused with the reason."""

import keras
from absl.testing import parameterized

import keras_unirec as ku
from keras_unirec import layers
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase

MIXING = layers.UniMixing(num_iterations=2, anneal_steps=100)

WORK = {
    "sharing_of_a_residual_scheme": (
        "mixformer_tiny",
        {"residual": layers.Shared("pre_rms")},
    ),
    "queries_that_decode_in_mixformer": (
        "mixformer_tiny",
        {"reader": layers.QueryDecoding()},
    ),
    "queries_that_decode_whole_events": (
        "ui_mixformer_tiny",
        {"reader": layers.QueryDecoding(), "events": layers.Events(256)},
    ),
    "merged_events_in_mixformer": (
        "mixformer_tiny",
        {"encoder": layers.Longer(token_merge=2)},
    ),
    "merged_events_of_both_sides": (
        "ui_mixformer_tiny",
        {"encoder": layers.Longer(token_merge=2, recent_length=3)},
    ),
    "projected_tokens_of_both_sides": (
        "ui_mixformer_tiny",
        {"tokenizer": "projected"},
    ),
    "no_encoder": ("hyformer_tiny", {"encoder": None}),
    "one_encoder_for_all_layers": (
        "hyformer_tiny",
        {"encoder": layers.Shared("swiglu")},
    ),
    "streams_through_rankmixer": ("rankmixer_tiny", {"residual": "siamese"}),
    "a_network_per_candidate": ("rankmixer_tiny", {"history_reader": "din"}),
}
REFUSED = {
    "streams_in_mixformer": (
        "mixformer_tiny",
        {"residual": "siamese"},
        "around each sublayer; a scheme of several streams",
    ),
    "streams_in_hyformer": (
        "hyformer_tiny",
        {"residual": layers.PreNorm(final_norm=True)},
        "with a norm at its end",
    ),
    "other_tokens": (
        "rankmixer_tiny",
        {"tokenizer": layers.FeatureTokenizer(num_tokens=4)},
        "`num_tokens` of the `tokenizer` must be that of the model, 16",
    ),
    "other_tokens_in_a_block": (
        "onetrans_tiny",
        {"block": layers.OneTransBlock(num_tokens=1)},
        "`num_tokens` of the `block` must be that of the model, 8",
    ),
    "another_width": (
        "rankmixer_tiny",
        {"history_reader": layers.DecodingReader(dim=16)},
        "`dim` of the `DecodingReader` must be that of the tokens",
    ),
    "a_block_of_a_pyramid_for_all": (
        "onetrans_tiny",
        {"block": layers.Shared(layers.OneTransBlock(2))},
        "`block` cannot be `Shared`",
    ),
    "a_network_that_broadcasts": (
        "rankmixer_tiny",
        {"feed_forward": keras.layers.Dense(1)},
        "must have their shape",
    ),
    "histories_apart": (
        "mixformer_tiny",
        {"events": layers.Events(join="apart")},
        "This model reads one history",
    ),
    "a_readout_of_a_vector": (
        "ta_dcnv2_tiny",
        {"readout": "concatenate"},
        "`readout` reads tokens, and `Stacked` returns one vector",
    ),
    "no_reader": (
        "mixformer_tiny",
        {"reader": layers.SwiGLU()},
        "a layer like these, with .'request', 'candidates'.",
    ),
}


class CombinationsTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, self.labels, _ = small_batch(self.schema)

    @parameterized.named_parameters(
        (name, *case) for name, case in WORK.items()
    )
    def test_works(self, name, parts):
        model = ku.applications.load(name, self.schema, **parts)
        self.assertFinite(model(self.inputs)["is_click"])

    @parameterized.named_parameters(
        (name, *case) for name, case in REFUSED.items()
    )
    def test_refused(self, name, parts, message):
        with self.assertRaisesRegex(ValueError, message):
            ku.applications.load(name, self.schema, **parts)

    def test_a_shared_mixer_counts_steps(self):
        model = ku.applications.load(
            "unimixer_tiny",
            self.schema,
            mixer=layers.Shared(MIXING),
            num_layers=2,
        )
        (mixing,) = model.mixings
        model.compile("sgd")
        model.fit(self.inputs, self.labels, epochs=3, verbose=0)
        self.assertAllClose(mixing.step, 3.0)

    def test_sharing_shares_no_norms(self):
        model = ku.applications.load(
            "rankmixer_tiny", self.schema, mixer=layers.Shared("head_mixing")
        )
        plain = ku.applications.load("rankmixer_tiny", self.schema)
        self.assertEqual(model.count_params(), plain.count_params())

    def test_a_network_of_all_heads_serves_both_sides(self):
        for parts in (
            {"feed_forward": keras.layers.Dense(32)},
            {"fusion": layers.SwiGLU(ratio=2)},
        ):
            whole, sides = (
                ku.applications.load(name, self.schema, **parts)
                for name in ("mixformer_tiny", "ui_mixformer_tiny")
            )
            self.assertEqual(whole.count_params(), sides.count_params())
