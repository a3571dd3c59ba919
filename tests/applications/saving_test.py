"""Weights of a model that differs are refused before one is touched."""

import keras
from absl.testing import parameterized

import keras_unirec as ku
from keras_unirec import layers
from keras_unirec.training import saving
from tests.applications.families import weights_of
from tests.small_log import small_batch
from tests.small_log import small_frame
from tests.small_log import small_schema
from tests.test_case import TestCase

TINY = {
    "feed_forward": layers.SwiGLU(ratio=2, per_token=True),
    "reader": layers.HeadCrossAttention(attention="sigmoid"),
}


@keras.saving.register_keras_serializable(package="tests")
class Parity(keras.layers.Layer):
    """A position without weights."""

    def call(self, history, mask):
        number = keras.ops.cumsum(keras.ops.cast(mask, history.dtype), axis=1)
        return history + (number % 2)[..., None]

    def compute_output_shape(self, history_shape):
        return history_shape


def other_frame():
    """The small log with another city."""
    frame = small_frame()
    frame["city"] = frame["city"].replace("Oslo", "Bodø")
    return frame


def without(schema, name):
    """The schema without one of its item columns."""
    item = [column for column in schema.item if column.name != name]
    return _changed(schema, item=item)


def _changed(schema, **columns):
    fields = ("user", "context", "item", "sequences", "labels")
    return ku.Schema(
        **{name: columns.get(name, getattr(schema, name)) for name in fields},
        timestamp=schema.timestamp,
    ).adapt(small_frame())


class Refused(TestCase):
    """Files that the tests below share."""

    __test__ = False
    name = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.schema = small_schema()
        cls.model = ku.applications.load(cls.name, cls.schema)

    def paths(self):
        folder = self.get_temp_dir()
        self.model.save(f"{folder}/model.keras")
        self.model.save_weights(f"{folder}/model.weights.h5")
        return f"{folder}/model.weights.h5", f"{folder}/model.keras"

    def assertRefused(self, other, *texts):
        before = weights_of(other)
        for path in self.paths():
            with self.assertRaises(ValueError) as caught:
                other.load_weights(path)
            for text in texts:
                self.assertIn(text, str(caught.exception))
        for path, value in weights_of(other).items():
            self.assertAllClose(value, before[path], atol=0, rtol=0)

    def assertAccepted(self, other):
        expected = weights_of(self.model)
        for path in self.paths():
            for weight in other.weights:
                weight.assign(weight * 0 + 7)
            other.load_weights(path)
            found = weights_of(other)
            self.assertEqual(sorted(found), sorted(expected))
            for name, value in found.items():
                self.assertAllClose(value, expected[name], atol=0, rtol=0)


class MixFormerTest(Refused):
    __test__ = True
    name = "mixformer_tiny"

    def load(self, schema=None, **arguments):
        return ku.applications.load(
            self.name, schema or self.schema, **arguments
        )

    @parameterized.named_parameters(
        ("again", {}),
        ("name", {"name": "mine"}),
        ("dtype", {"dtype": "mixed_bfloat16"}),
        ("recipe", {"default_recipe": "paper"}),
        ("activation", {"output_activation": "sigmoid"}),
        ("prototype", {"mixer": layers.HeadMixing()}),
        ("the_number", {"mixer": layers.HeadMixing(8)}),
        ("a_name", {"residual": layers.PreNorm(), "encoder": "swiglu"}),
        ("width", {"events": layers.Events(32)}),
        (
            "one_width_by_history",
            {"events": layers.Events({"watched": 32, "liked": 32})},
        ),
        ("ratio", {"encoder": layers.HistoryEncoder(ratio=1.0)}),
        ("hidden_dim", {"encoder": layers.HistoryEncoder(hidden_dim=32)}),
        ("both", {"feed_forward": layers.SwiGLU(64, per_token=True)}),
        ("units", {"tower": layers.Tower((32,))}),
        (
            "kv_mode",
            {
                "reader": layers.HeadCrossAttention(
                    attention="sigmoid", kv_mode="projected"
                )
            },
        ),
        ("shared_map", {"reader": TINY["reader"]}),
        ("size", {"num_layers": 2, "num_heads": 8}),
    )
    def test_the_same_network_is_accepted(self, arguments):
        self.assertAccepted(self.load(**arguments))

    @parameterized.named_parameters(
        (
            "argument",
            {"num_layers": 1},
            "argument `num_layers`: 1 here, 2 in the file",
        ),
        (
            "option",
            {"reader": "head_cross_attention"},
            "part `reader` `attention`: 'softmax' here, 'sigmoid' in the file",
        ),
        (
            "part",
            {"mixer": "identity"},
            "part `mixer`: 'Activation' here, 'HeadMixing' in the file",
        ),
        (
            "no_part",
            {"mixer": None},
            "part `mixer`: 'none' here, 'HeadMixing' in the file",
        ),
        (
            "all",
            {"events": layers.Events(max_length=5)},
            "part `events` `max_length`: 5 here, 'all' in the file",
        ),
        (
            "groups",
            {
                "tokenizer": layers.FeatureTokenizer(
                    groups=[
                        *(["user_id"], ["city"], ["hour"], ["watched.count"]),
                        *(["liked.count"], ["price"], ["genres"]),
                        ["video_id", "video_id.author", "video_id.duration"],
                    ]
                )
            },
            "part `tokenizer` `groups`: [['user_id'], ",
        ),
        (
            "inside_a_part",
            {"encoder": layers.HistoryEncoder(residual="post_layer")},
            "part `encoder` `residual`: 'PostNorm' here, 'PreNorm' in the",
        ),
        (
            "shared",
            {"encoder": layers.Shared("swiglu")},
            "part `encoder` `shared`: True here, nothing in the file",
        ),
        (
            "lengths",
            {"history_lengths": False},
            "argument `history_lengths`: False here, True in the file",
        ),
        # What is open on one side explains the shapes that differ.
        (
            "default",
            {"feed_forward": layers.SwiGLU(per_token=True)},
            "part `feed_forward` `ratio`: None here, 2 in the file",
        ),
        (
            "default_units",
            {"tower": layers.Tower((16,))},
            "part `tower` `units`: [16] here, None in the file",
        ),
    )
    def test_another_network_is_refused(self, arguments, text):
        self.assertRefused(
            self.load(**arguments),
            "belong to another network. No weight was loaded. "
            "What differs from this MixFormer: ",
            text,
            "`keras.saving.load_model` on a `.keras` file",
        )

    def test_the_function_of_keras(self):
        other = self.load(num_layers=1)
        for path in self.paths():
            with self.assertRaisesRegex(ValueError, "1 here, 2 in the file"):
                keras.saving.load_weights(other, path)

    def test_only_what_differs_is_said(self):
        other = self.load(num_layers=1)
        with self.assertRaises(ValueError) as caught:
            other.load_weights(self.paths()[0])
        self.assertNotIn("weights here", str(caught.exception))
        self.assertNotIn(";", str(caught.exception))

    def test_columns(self):
        schema = self.schema
        more = [*schema.user, ku.Categorical("request", 20, 4)]
        for other, text in (
            # A vocabulary of as many values.
            (
                small_schema(other_frame()),
                "column `city` `values`: '3 values, ",
            ),
            (without(schema, "price"), "column `price`: nothing here, {"),
            (
                _changed(schema, item=schema.item[::-1]),
                "column `order of item`: ['genres', 'price', 'video_id'] here",
            ),
            (_changed(schema, user=more), "column `request`: {"),
            (
                _changed(
                    schema,
                    user=[
                        ku.Categorical("user_id", 20, 8),
                        ku.Categorical("city", None, 4, vocabulary="lookup"),
                    ],
                ),
                "column `user_id` `embedding_dim`: 8 here, 4 in the file",
            ),
        ):
            with self.subTest(text):
                self.assertRefused(self.load(other), text)

    def test_columns_that_a_model_does_not_see(self):
        schema = _changed(self.schema)  # Neither group_id nor request_id.
        self.assertIsNone(schema.group_id)
        self.assertAccepted(self.load(schema))

    def test_another_family(self):
        self.assertRefused(
            ku.applications.load("hyformer_tiny", self.schema),
            "from this HyFormer: class: 'HyFormer' here, 'MixFormer' in the",
        )

    def test_what_no_argument_says(self):
        """A table of paths and shapes is left."""

        class Wide(keras.layers.Layer):
            width = 3

            def build(self, input_shape):
                shape = (input_shape[-1], self.width)
                self.kernel = self.add_weight(shape=shape, name="kernel")

            def call(self, inputs):
                return inputs + keras.ops.sum(self.kernel)

            def compute_output_shape(self, input_shape):
                return tuple(input_shape)

        keras.saving.register_keras_serializable("tests")(Wide)
        model = self.load(mixer=Wide())
        path = f"{self.get_temp_dir()}/model.weights.h5"
        model.save_weights(path)
        self.load(mixer=Wide(), weights=path)
        Wide.width = 4
        other = self.load(mixer=Wide())
        before = weights_of(other)
        with self.assertRaisesRegex(
            ValueError,
            r"weights here: `query_mixer/mixer/kernel` of shape \(32, 4\); "
            r"weights in the file: `.*` of shape \(32, 3\)",
        ):
            other.load_weights(path)
        for path, value in weights_of(other).items():
            self.assertAllClose(value, before[path], atol=0, rtol=0)

    def test_layers_that_keras_numbers(self):
        class Unnamed(keras.layers.Layer):
            def build(self, input_shape):
                self.dense = keras.layers.Dense(input_shape[-1])
                self.dense.build(input_shape)

            def call(self, inputs):
                return self.dense(inputs)

            def compute_output_shape(self, input_shape):
                return tuple(input_shape)

        keras.saving.register_keras_serializable("tests")(Unnamed)
        model = self.load(mixer=Unnamed())
        path = f"{self.get_temp_dir()}/model.weights.h5"
        model.save_weights(path)
        other = self.load(mixer=Unnamed(), weights=path)
        inputs, _, _ = small_batch(self.schema)
        self.assertAllClose(
            other(inputs)["is_click"], model(inputs)["is_click"], atol=1e-6
        )

    def test_skip_mismatch(self):
        other = self.load(num_layers=1)
        other.load_weights(self.paths()[0], skip_mismatch=True)
        path = "history_map/kernel"
        self.assertAllClose(
            weights_of(other)[path], weights_of(self.model)[path]
        )

    def test_shards(self):
        path = f"{self.get_temp_dir()}/model.weights.json"
        self.model.save_weights(path, max_shard_size=0.0001)
        other, same = self.load(num_layers=1), self.load()
        before = weights_of(other)
        with self.assertRaisesRegex(ValueError, "1 here, 2 in the file"):
            other.load_weights(path)
        for name, value in weights_of(other).items():
            self.assertAllClose(value, before[name], atol=0, rtol=0)
        same.load_weights(path)
        for name, value in weights_of(self.model).items():
            found = weights_of(same)[name]
            self.assertAllClose(found, value, atol=0, rtol=0)

    def test_files_of_keras_itself(self):
        """They say nothing of what they mean, and are not stopped."""
        dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        path = f"{self.get_temp_dir()}/dense.weights.h5"
        dense.save_weights(path)
        self.assertIsNone(saving.stored_meaning(path))
        with self.assertRaises(ValueError):
            self.load().load_weights(path)


class HyFormerTest(Refused):
    __test__ = True
    name = "hyformer_tiny"

    @parameterized.named_parameters(
        (
            "by_history",
            {
                "encoder": {
                    "watched": "swiglu",
                    "liked": layers.HistoryEncoder(ratio=2),
                }
            },
        ),
        (
            "one_reader_by_history",
            {
                "reader": {
                    name: layers.QueryDecoding(
                        num_heads=2, attention="sigmoid", residual="pre_rms"
                    )
                    for name in ("watched", "liked")
                }
            },
        ),
        ("queries", {"queries": layers.QueryGeneration(2, 32, hidden_dim=32)}),
        ("apart", {"events": layers.Events(32, "apart", None, "newest_first")}),
        ("none", {"encoder": layers.HistoryEncoder(residual="pre_rms")}),
    )
    def test_the_same_network_is_accepted(self, arguments):
        self.assertAccepted(
            ku.applications.load(self.name, self.schema, **arguments)
        )

    @parameterized.named_parameters(
        (
            "encoder",
            {"encoder": {"watched": "swiglu", "liked": "transformer"}},
            "part `encoder`",
        ),
        (
            "reader",
            {"reader": layers.QueryDecoding(num_heads=2)},
            "part `reader` `attention`: 'softmax' here, 'sigmoid' in the file",
        ),
        # No weights say so.
        (
            "residual",
            {"residual": "none"},
            "part `reader` `residual`: 'NoNorm' here, 'PreNorm' in the file",
        ),
        (
            "tokens",
            {"queries": layers.QueryGeneration(hidden_dim=32, tokens=[0])},
            "part `queries` `tokens`: [0] here, 'all' in the file",
        ),
    )
    def test_another_network_is_refused(self, arguments, text):
        other = ku.applications.load(self.name, self.schema, **arguments)
        self.assertRefused(other, text)


class OptionsWithoutWeightsTest(TestCase):
    """What no shape shows is refused, too."""

    @parameterized.named_parameters(
        (
            "residual_of_a_reader",
            "hyformer_tiny",
            {"residual": "no_norm"},
            {"residual": "no_norm", "reader": "none"},
            "part `reader` `residual` `residual`: False here, True in the file",
        ),
        (
            "recent_length",
            "hyformer_tiny",
            {"encoder": layers.Longer(3)},
            {"encoder": layers.Longer(None)},
            "part `encoder` `recent_length`: 'all' here, 3 in the file",
        ),
        (
            "a_part_without_weights",
            "mixformer_tiny",
            {"events": layers.Events(position=Parity())},
            {"events": layers.Events()},
            "part `events` `position`: 'none' here, 'tests>Parity' in the file",
        ),
        (
            "of_a_reader_of_histories",
            "longer_rankmixer_tiny",
            {},
            {"history_reader": "causal"},
            "part `history_reader` `encoder` `causal`: True here, False in the",
        ),
        (
            "groups_of_the_user",
            "ui_mixformer_tiny",
            {"tokenizer": "groups"},
            {"tokenizer": "other groups"},
            "part `tokenizer` `user_tokenizer` `groups`",
        ),
    )
    def test_refused(self, name, first, second, text):
        items = [["video_id"], ["video_id.author"], ["price"]]
        items += [["genres", "video_id.duration"]]
        users = [["user_id"], ["city"], ["hour", "watched.count"]]
        written = {
            "none": layers.QueryDecoding(
                num_heads=2, attention="sigmoid", residual="none"
            ),
            "causal": layers.DecodingReader(
                events=layers.Events(32, position="newest_first"),
                encoder=layers.Longer(20, num_heads=2, causal=True),
                queries=layers.QueryGeneration(hidden_dim=32, context="target"),
                reader=layers.QueryDecoding(num_heads=2, residual="pre_rms"),
            ),
            "groups": layers.FeatureTokenizer(
                groups=[*users, ["liked.count"], *items]
            ),
            "other groups": layers.FeatureTokenizer(
                groups=[*users[1::-1], users[2], ["liked.count"], *items]
            ),
        }
        schema = small_schema()
        model, other = (
            ku.applications.load(
                name,
                schema,
                **{
                    argument: written.get(part, part)
                    if isinstance(part, str)
                    else part
                    for argument, part in arguments.items()
                },
            )
            for arguments in (first, second)
        )
        path = f"{self.get_temp_dir()}/model.weights.h5"
        model.save_weights(path)
        with self.assertRaises(ValueError) as caught:
            other.load_weights(path)
        self.assertIn(text, str(caught.exception))


class DifferencesTest(TestCase):
    def test_none_leaves_open(self):
        def found(ours, theirs, same=True):
            weights = {"weights": [["a/kernel", [2]]]}
            others = weights if same else {"weights": [["a/kernel", [3]]]}
            return saving.differences({**ours, **weights}, {**theirs, **others})

        self.assertEqual(found({"x": None}, {"x": 3}), [])
        self.assertEqual(found({"x": {"y": 4}}, {"x": None}), [])
        self.assertEqual(found({"x": 2}, {"x": 2.0}), [])
        self.assertEqual(
            found({"x": None}, {"x": 3}, same=False),
            ["x: None here, 3 in the file"],
        )
        self.assertEqual(
            found({"x": 2}, {"x": 3}), ["x: 2 here, 3 in the file"]
        )
        self.assertEqual(
            found({"x": 2}, {"x": 2}, same=False),
            [
                "weights here: `a/kernel` of shape (2,)",
                "weights in the file: `a/kernel` of shape (3,)",
            ],
        )
        self.assertEqual(
            found({"x": {"class": "A", "z": 1}}, {"x": {"class": "B"}}),
            ["x: 'A' here, 'B' in the file"],
        )
        self.assertEqual(
            found({"x": 1}, {}), ["x: 1 here, nothing in the file"]
        )


del Refused
