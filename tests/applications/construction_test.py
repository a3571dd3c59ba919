"""Arguments of models: recorded once, and refused with what to write."""

import json
import re

import keras
import numpy as np
from absl.testing import parameterized

import keras_unirec as ku
from keras_unirec import layers
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase


@keras.saving.register_keras_serializable(package="tests")
class Swap(keras.layers.Layer):
    """A mixer of somebody: the tokens in another order, scaled."""

    def __init__(self, steps=1, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def build(self, input_shape):
        self.scale = self.add_weight(
            shape=(input_shape[-1],), initializer="ones", name="scale"
        )

    def call(self, inputs):
        return keras.ops.roll(inputs, self.steps, axis=-2) * self.scale

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}


class Unregistered(Swap):
    pass


def message_of(name, schema, **arguments):
    try:
        ku.applications.load(name, schema, **arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{name} takes {arguments}")


class ArgumentsTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()

    def load(self, name, **arguments):
        return ku.applications.load(name, self.schema, **arguments)

    @parameterized.named_parameters(
        (
            "prototypes",
            "mixformer_tiny",
            {
                "tokenizer": layers.FeatureTokenizer(),
                "events": layers.Events(16, position="newest_first"),
                "encoder": layers.HistoryEncoder(ratio=3),
                "mixer": layers.TokenSelfAttention(num_heads=2),
                "residual": layers.PreNorm("layer"),
                "tower": layers.Tower((8, 4)),
                "readout": layers.ConcatenatedReadout(),
            },
        ),
        (
            "of_keras",
            "mixformer_tiny",
            {
                "encoder": keras.layers.Dense(32, activation="relu"),
                "feed_forward": keras.layers.Dense(
                    32, kernel_initializer=keras.initializers.Zeros()
                ),
            },
        ),
        (
            "by_history",
            "hyformer_tiny",
            {
                "encoder": {"watched": layers.Longer(3), "liked": None},
                "reader": {
                    "watched": layers.QueryDecoding(num_queries=2),
                    "liked": "query_decoding",
                },
                "events": layers.Events({"watched": 24, "liked": 16}),
            },
        ),
        (
            "shared",
            "mixformer_tiny",
            {
                "encoder": layers.Shared("swiglu"),
                "mixer": layers.Shared(layers.TokenSelfAttention()),
            },
        ),
        ("of_somebody", "hyformer_tiny", {"mixer": Swap(2)}),
        (
            "none",
            "rankmixer_tiny",
            {"mixer": None, "dim": None, "history_lengths": False},
        ),
        (
            "inside",
            "rankmixer_tiny",
            {
                "history_reader": layers.DecodingReader(
                    events=layers.Events(8),
                    encoder={"watched": "longer", "liked": "transformer"},
                    reader=layers.QueryDecoding(head_dim=4, residual="none"),
                )
            },
        ),
    )
    def test_round_trip(self, name, arguments):
        model = self.load(name, **arguments)
        config = json.loads(json.dumps(model.get_config()))
        copy = type(model).from_config(config)
        self.assertEqual(copy.get_config(), model.get_config())
        self.assertEqual(
            [(weight.path, weight.shape) for weight in copy.weights],
            [(weight.path, weight.shape) for weight in model.weights],
        )
        self.assertEqual(copy.meaning(), model.meaning())
        # And through a file, where Keras looks for shared objects.
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertEqual(loaded.get_config(), model.get_config())
        self.assertEqual(
            sorted((w.path, w.shape) for w in loaded.weights),
            sorted((w.path, w.shape) for w in model.weights),
        )
        inputs, _, _ = small_batch(self.schema)
        self.assertAllClose(
            loaded(inputs)["is_click"], model(inputs)["is_click"], atol=1e-6
        )

    def test_shared_is_one_layer(self):
        for shared in (layers.Shared(Swap()), layers.Shared("self_attention")):
            one = self.load("mixformer_tiny", mixer=shared)
            two = self.load("mixformer_tiny", mixer=shared.part)
            self.assertIs(one.mixers[0], one.mixers[1])
            self.assertIsNot(two.mixers[0], two.mixers[1])
            self.assertLess(len(one.weights), len(two.weights))

    def test_what_is_given_is_a_prototype(self):
        mixer = layers.TokenSelfAttention(num_heads=2)
        model = self.load("mixformer_tiny", mixer=mixer)
        self.assertFalse(mixer.built)
        config = model.get_config()
        mixer.build((None, None, 8, 32))  # Whatever becomes of it.
        mixer.num_heads = 4
        self.assertEqual(model.get_config(), config)
        self.assertEqual(model.mixers[0].num_heads, 2)

    def test_by_position(self):
        given = ku.applications.RankMixer(self.schema, 8, 32, num_layers=1)
        config = given.get_config()
        self.assertEqual(
            [config[k] for k in ("num_tokens", "dim", "num_layers")],
            [8, 32, 1],
        )
        # Defaults of a family that another class takes.
        model = ku.applications.UniMixerLite(self.schema, 16, 32, 1)
        self.assertEqual(model.get_config()["mixer"], "uni_mixing_lite")
        with self.assertRaisesRegex(TypeError, "multiple values"):
            ku.applications.RankMixer(self.schema, 8, num_tokens=8)

    def test_not_registered(self):
        for part in (
            Unregistered(),
            layers.Shared(Unregistered()),
            layers.QueryMixer(mixer=Unregistered()),
        ):
            with self.assertRaisesRegex(
                ValueError,
                r"`mixer` must be what a saved model can be loaded with.*"
                r"register_keras_serializable.*`Unregistered`",
            ):
                self.load("mixformer_tiny", mixer=part)

    def test_not_writable(self):
        class Model(ku.applications.RankMixer):
            def __init__(self, schema, what=None, **kwargs):
                super().__init__(schema, **kwargs)

        with self.assertRaisesRegex(ValueError, "`what` must be a value that"):
            Model(self.schema, what=object())


class OptionsOfPartsTest(TestCase):
    """An option of a part is refused with the part and the line to write."""

    @parameterized.named_parameters(
        (
            "of_the_preset",
            "mixformer_tiny",
            {"kv_mode": "projected"},
            "reader=keras_unirec.layers.HeadCrossAttention("
            "attention='sigmoid', kv_mode='projected')",
        ),
        (
            "of_what_is_given",
            "mixformer_tiny",
            {
                "attention": "sigmoid",
                "reader": layers.QueryDecoding(num_heads=2),
            },
            "reader=keras_unirec.layers.QueryDecoding("
            "num_heads=2, attention='sigmoid')",
        ),
        (
            "of_a_name",
            "hyformer_tiny",
            {"encoder": "longer", "recent_length": 3},
            "encoder=keras_unirec.layers.Longer(recent_length=3)",
        ),
        (
            "of_another_name",
            "rankmixer_tiny",
            {"rank": 3},
            "mixer=keras_unirec.layers.UniMixingLite(rank=3)",
        ),
        (
            "of_one_that_is_shared",
            "mixformer_tiny",
            {
                "encoder": layers.Shared(layers.HistoryEncoder(ratio=3)),
                "hidden_dim": 8,
            },
            "encoder=keras_unirec.layers.Shared("
            "keras_unirec.layers.HistoryEncoder(ratio=3, hidden_dim=8))",
        ),
        (
            "by_history",
            "hyformer_tiny",
            {
                "encoder": {"watched": layers.Longer(3), "liked": "swiglu"},
                "token_merge": 2,
            },
            "encoder={'watched': keras_unirec.layers.Longer("
            "recent_length=3, token_merge=2), "
            "'liked': keras_unirec.layers.HistoryEncoder()}",
        ),
        (
            "of_a_part_of_a_part",
            "longer_rankmixer_tiny",
            {"kv_mode": "projected"},
            "history_reader=keras_unirec.layers.DecodingReader(",
        ),
        (
            "of_a_part_that_could_be",
            "unimixer_tiny",
            {"recent_length": 5},
            "history_reader=keras_unirec.layers.DecodingReader("
            "encoder=keras_unirec.layers.Longer(recent_length=5))",
        ),
    )
    def test_line(self, name, arguments, line):
        schema = small_schema()
        message = message_of(name, schema, **arguments)
        argument = line.partition("=")[0]
        self.assertIn(f"It is an option of a `{argument}`: `{line}", message)
        # What it says can be pasted, and is taken.
        code = re.search(r": `(\w+=.*)`\. Received", message).group(1)
        part = eval(f"dict({code})", {"keras_unirec": ku, "keras": keras})
        if argument in arguments or name.endswith("mixformer_tiny"):
            model = ku.applications.load(name, schema, **part)
            inputs, _, _ = small_batch(schema)
            self.assertFinite(model(inputs)["is_click"])

    def test_no_such_option(self):
        schema = small_schema()
        message = message_of("mixformer_tiny", schema, hidden_ratios=2)
        self.assertNotIn("It is an option of", message)
        self.assertIn("Received: hidden_ratios=2", message)
        message = message_of("mixformer_tiny", schema, num_layer=2)
        self.assertIn("Did you mean `num_layers`?", message)

    def test_numpy_numbers(self):
        schema = small_schema()
        message = message_of("mixformer_tiny", schema, ratio=np.float64(3))
        self.assertIn("(ratio=3.0", message)
