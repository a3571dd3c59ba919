import functools

import keras
import numpy as np
from absl.testing import parameterized
from keras import ops
from keras.src.saving.serialization_lib import ObjectSharingScope

import keras_unirec
from keras_unirec import layers
from keras_unirec.layers import _parts
from tests.test_case import TestCase

KNOWN = {
    "head_mixing": layers.HeadMixing,
    "fm": layers.FMMixing,
    "self_attention": functools.partial(layers.TokenSelfAttention, 2),
}


class Unregistered(keras.layers.Layer):
    """A layer of somebody's own, of which Keras knows nothing."""

    def __init__(self, width=3, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1],), name="kernel")

    def call(self, inputs):
        return inputs * self.kernel

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class WithoutConfig(keras.layers.Layer):
    def __init__(self, thing, **kwargs):
        super().__init__(**kwargs)
        self.thing = thing


@keras.saving.register_keras_serializable(package="tests")
class Blocks(keras.layers.Layer):
    """Makes its blocks as a model does: also while Keras loads it."""

    def __init__(self, part, num_blocks=4, **kwargs):
        super().__init__(**kwargs)
        self.part, self.num_blocks = part, num_blocks
        names = [f"block_{i}" for i in range(num_blocks)]
        self.blocks = _parts.copies("part", part, self.dtype_policy, names)

    def build(self, input_shape):
        for block in dict.fromkeys(self.blocks):
            block.build(input_shape)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def get_config(self):
        part = keras.saving.serialize_keras_object(self.part)
        config = super().get_config()
        return {**config, "part": part, "num_blocks": self.num_blocks}

    @classmethod
    def from_config(cls, config):
        return cls(**_parts.deserialized(config, "part"))


class MakeTest(TestCase):
    def make(self, part, **kwargs):
        return _parts.make("mixer", part, KNOWN, **kwargs)

    def test_a_name_is_a_new_layer(self):
        layer = self.make("fm", dtype="mixed_bfloat16")
        self.assertIsInstance(layer, layers.FMMixing)
        self.assertEqual(layer.name, "mixer")
        self.assertEqual(layer.compute_dtype, "bfloat16")
        self.assertIsNot(self.make("fm"), layer)
        self.assertEqual(self.make("self_attention").num_heads, 2)

    def test_a_layer_stays(self):
        for layer in (layers.HeadMixing(2), keras.layers.Dense(8)):
            self.assertIs(self.make(layer), layer)
        self.assertIsNone(self.make(None, optional=True))

    def test_shared(self):
        shared = self.make(layers.Shared("fm"))
        self.assertIsInstance(shared, layers.Shared)
        self.assertIsInstance(shared.part, layers.FMMixing)
        layer = layers.HeadMixing()
        self.assertIs(self.make(layers.Shared(layer)).part, layer)
        with self.assertRaisesRegex(ValueError, "Received: mixer=keras_un"):
            self.make(layers.Shared("fm"), shared=False)
        with self.assertRaisesRegex(ValueError, "mixer='unknown'"):
            self.make(layers.Shared("unknown"))

    def test_needs(self):
        layer = self.make(layers.HeadMixing(), needs=("revert",))
        self.assertIsInstance(layer, layers.HeadMixing)
        for part in (layers.FMMixing(), layers.Shared(layers.FMMixing())):
            with self.assertRaisesRegex(
                ValueError, r"`mixer` must be one of .* with \['revert'\]"
            ):
                self.make(part, needs=("revert",))

    def test_errors(self):
        names = r"`mixer` must be one of \('head_mixing', 'fm', 'self_att"
        for part in (
            "x",
            "",
            None,
            3,
            True,
            float("nan"),
            [],
            {},
            set(),
            b"fm",
        ):
            with self.assertRaisesRegex(ValueError, f"{names}.*Received: mix"):
                self.make(part)
        with self.assertRaisesRegex(ValueError, "'self_attention', None"):
            self.make("x", optional=True)
        with self.assertRaisesRegex(ValueError, "an instance, not a class"):
            self.make(layers.HeadMixing)
        # A name that is nearly one.
        for near in ("headmixing", "head_mixin", "HEAD_mixing"):
            with self.assertRaisesRegex(
                ValueError, "Did you mean 'head_mixing'"
            ):
                self.make(near)
        with self.assertRaisesRegex(ValueError, "^(?!.*Did you mean)"):
            self.make("transformer")


class CopyTest(TestCase):
    def test_a_copy_is_a_new_layer(self):
        prototype = layers.SwiGLU(ratio=2, per_token=True, name="mine")
        copy = _parts.copy("network", prototype, "mixed_bfloat16", "network_0")
        self.assertIsNot(copy, prototype)
        self.assertIsInstance(copy, layers.SwiGLU)
        self.assertEqual((copy.ratio, copy.per_token), (2, True))
        self.assertEqual(copy.name, "network_0")
        self.assertEqual(copy.compute_dtype, "bfloat16")
        # The prototype is what it was.
        self.assertEqual(prototype.name, "mine")
        self.assertEqual(prototype.compute_dtype, "float32")
        copy.build((None, 4, 8))
        self.assertEmpty(prototype.weights)

    def test_layers_inside_have_the_dtype_policy(self):
        prototype = layers.TransformerEncoder(residual=layers.PreNorm("layer"))
        copy = _parts.copy("encoder", prototype, "mixed_bfloat16", "encoder_0")
        self.assertEqual(copy.residual.norm, "layer")
        self.assertEqual(copy.residual.compute_dtype, "bfloat16")
        outputs = copy(np.ones((2, 3, 8)))
        self.assertEqual(
            keras.backend.standardize_dtype(outputs.dtype), "bfloat16"
        )
        # Also in a list, or a dict by history.
        reader = layers.DecodingReader(
            encoder={"watched": "transformer", "bought": "swiglu"}
        )
        copy = _parts.copy("reader", reader, "mixed_bfloat16", "reader_0")
        for layer in (*copy.encoder.values(), copy.events, copy.queries):
            self.assertEqual(layer.compute_dtype, "bfloat16")
            self.assertEqual(layer.variable_dtype, "float32")

    def test_settings_fill_what_is_left_open(self):
        def copy(prototype, **kwargs):
            return _parts.copy("part", prototype, "float32", "part", **kwargs)

        # What is None, and only that; what the layer does not have is no error.
        layer = copy(layers.SwiGLU(), ratio=3, history_map=None, other=1)
        self.assertEqual(layer.ratio, 3)
        self.assertEqual(copy(layers.SwiGLU(ratio=2), ratio=3).ratio, 2)
        self.assertFalse(copy(layers.SwiGLU(), per_token=True).per_token)
        # A part of a part, as a config.
        scheme = keras.saving.serialize_keras_object(layers.PostNorm("rms"))
        layer = _parts.copy(
            "encoder",
            layers.HistoryEncoder(),
            "mixed_bfloat16",
            "encoder",
            residual=scheme,
        )
        self.assertIsInstance(layer.residual, layers.PostNorm)
        self.assertEqual(layer.residual.compute_dtype, "bfloat16")
        # What is no choice here.
        layer = copy(layers.SwiGLU(ratio=2), fixed={"ratio": 5, "other": 1})
        self.assertEqual(layer.ratio, 5)
        # What the base of a class takes.
        layer = copy(layers.Longer(), ratio=3)
        self.assertEqual(layer.ratio, 3)

    def test_a_prototype_of_somebody(self):
        copy = _parts.copy("mixer", Unregistered(5), "float32", "mixer_0")
        self.assertIsInstance(copy, Unregistered)
        self.assertEqual(copy.width, 5)

    def test_errors(self):
        built = layers.SwiGLU()
        built.build((None, 8))
        with self.assertRaisesRegex(
            ValueError, "`network` must be a layer without weights.*is built"
        ):
            _parts.copy("network", built, "float32", "network_0")
        inside = layers.QueryMixer(mixer=Unregistered())
        for prototype in (WithoutConfig(object()), inside):
            with self.assertRaisesRegex(
                ValueError, r"(?s)`part` must be a layer that its config des"
            ):
                _parts.copy("part", prototype, "float32", "part_0")

    def test_copies(self):
        names = ["a", "b", "c"]
        made = _parts.copies("mixer", layers.FMMixing(), "float32", names)
        self.assertEqual([layer.name for layer in made], names)
        self.assertLen(set(map(id, made)), 3)
        one, two, three = _parts.copies(
            "mixer", layers.Shared(layers.FMMixing()), "float32", names
        )
        self.assertEqual(one.name, "a")
        self.assertIs(one, two)
        self.assertIs(one, three)
        self.assertEqual(
            _parts.copies("mixer", None, "float32", names), [None] * 3
        )
        (layer,) = _parts.copies(
            "network", layers.SwiGLU(), "float32", ["a"], ratio=3
        )
        self.assertEqual(layer.ratio, 3)

    def test_copies_that_are_made_while_keras_loads(self):
        """What they hold is no more shared than elsewhere."""
        prototype = layers.HistoryEncoder(residual=layers.PostNorm())
        with ObjectSharingScope():
            made = _parts.copies("encoder", prototype, "float32", "abcd")
        self.assertLen({id(layer.residual) for layer in made}, 4)

        inputs = keras.Input((3, 8))
        outputs = Blocks(prototype, name="blocks")(inputs)
        model = keras.Model(inputs, outputs)
        x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        for i, weight in enumerate(model.weights):
            weight.assign(weight * (1 + 0.1 * i) + 0.01 * i)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertAllClose(loaded(x), model(x), atol=1e-5)
        blocks = loaded.get_layer("blocks").blocks
        self.assertLen({id(block.residual) for block in blocks}, 4)
        self.assertLen(loaded.weights, len(model.weights))


class SharedTest(TestCase):
    def test_config(self):
        shared = layers.Shared(layers.SwiGLU(ratio=2))
        config = keras.saving.serialize_keras_object(shared)
        copy = keras.saving.deserialize_keras_object(config)
        self.assertIsInstance(copy, layers.Shared)
        self.assertEqual(copy.part.ratio, 2)
        shared = layers.Shared("swiglu")
        copy = layers.Shared.from_config(shared.get_config())
        self.assertEqual(copy.part, "swiglu")

    def test_repr(self):
        self.assertEqual(
            repr(layers.Shared("swiglu")),
            "keras_unirec.layers.Shared('swiglu')",
        )

    def test_errors(self):
        shared = layers.Shared("swiglu")
        for part in (None, shared, 3, [], layers.SwiGLU):
            with self.assertRaisesRegex(
                ValueError, "`part` must be the name of a part.*Received: part="
            ):
                layers.Shared(part)


class SavingTest(TestCase):
    """Composites that share a part, as layers of a plain functional model."""

    def check(self, model, inputs, *names, part):
        expected = model(inputs)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertAllClose(loaded(inputs), expected, atol=1e-6)
        self.assertLen(loaded.weights, len(model.weights))
        shared = {id(getattr(loaded.get_layer(n), part)) for n in names}
        self.assertLen(shared, 1)
        # Shared in the loaded model, too: a change is seen by both.
        layer = getattr(loaded.get_layer(names[0]), part)
        for weight in layer.weights:
            weight.assign(weight * 2.0)
        for weight in getattr(model.get_layer(names[0]), part).weights:
            weight.assign(weight * 2.0)
        changed = model(inputs)
        self.assertAllClose(loaded(inputs), changed, atol=1e-6)
        self.assertGreater(np.abs(changed - expected).max(), 1e-4)

    @parameterized.parameters(
        ("mixer", layers.TokenSelfAttention(2)),
        ("feed_forward", layers.SwiGLU(5, per_token=True)),
        ("residual", layers.PostNorm()),
        ("residual", layers.SiameseNorm()),
    )
    def test_query_mixers(self, part, layer):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        layer = type(layer).from_config(layer.get_config())
        inputs = keras.Input((3, 4, 8))
        outputs = inputs
        for name in "ab":
            mixer = layers.QueryMixer(**{part: layer}, name=name)
            outputs = mixer(outputs)
        model = keras.Model(inputs, outputs)
        self.check(model, x.astype("float32"), "a", "b", part=part)

    def test_composites_of_two_kinds(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        inputs = keras.Input((3, 4, 8))
        network, residual = layers.PerTokenFFN(5), layers.PreNorm("layer")
        outputs = layers.QueryBoosting(
            feed_forward=network, residual=residual, name="a"
        )(inputs)
        outputs = layers.OutputFusion(network, residual, name="b")(outputs)
        outputs = layers.UniMixerBlock("fm", network, name="c")(outputs)
        model = keras.Model(inputs, outputs)
        x = x.astype("float32")
        self.check(model, x, "a", "b", "c", part="feed_forward")
        self.check(model, x, "a", "b", part="residual")

    def test_a_part_that_is_a_layer_of_the_model(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 8))
        x = x.astype("float32")
        inputs = keras.Input((3, 4, 8))
        for first in (True, False):
            network = layers.SwiGLU(5, name="network")
            fusion = layers.OutputFusion(network, name="fusion")
            if first:
                outputs = fusion(network(inputs))
            else:
                outputs = network(fusion(inputs))
            model = keras.Model(inputs, outputs)
            path = f"{self.get_temp_dir()}/model.keras"
            model.save(path)
            loaded = keras.models.load_model(path)
            self.assertAllClose(loaded(x), model(x), atol=1e-6)
            self.assertIs(
                loaded.get_layer("network"),
                loaded.get_layer("fusion").feed_forward,
            )

    def test_a_part_two_levels_down(self):
        """A scheme of the encoder of one history, and of another layer."""
        x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        residual = layers.PostNorm()
        inputs = keras.Input((3, 8))
        outputs = layers.TransformerEncoder(residual=residual, name="a")(inputs)
        outputs = layers.HistoryEncoder(residual=residual, name="b")(outputs)
        model = keras.Model(inputs, outputs)
        # Each has a norm for its network, of the same name.
        self.assertLen(residual.norms, 2)
        self.check(model, x, "a", "b", part="residual")

    def test_a_map_of_two_readers(self):
        rng = np.random.default_rng(0)
        inputs = [
            rng.normal(size=(2, 3, 4, 8)).astype("float32"),
            rng.normal(size=(2, 5, 6)).astype("float32"),
        ]
        queries, history = keras.Input((None, 4, 8)), keras.Input((None, 6))
        history_map = layers.HistoryMap(4, 8)
        outputs = queries
        for name, kv_mode in (("a", "projected"), ("b", "absorbed")):
            reader = layers.HeadCrossAttention(
                history_map, kv_mode=kv_mode, name=name
            )
            kept = reader.request(history, (None, None, 4, 8))
            outputs = reader.candidates(outputs, kept)
        model = keras.Model([queries, history], outputs)
        self.check(model, inputs, "a", "b", part="history_map")

    def test_the_two_sides_of_a_model(self):
        """A mixer, a scheme, and what the one side tells the other."""
        rng = np.random.default_rng(0)
        arrays = [
            rng.normal(size=(2, 1, 3, 16)).astype("float32"),
            rng.normal(size=(2, 4, 5, 16)).astype("float32"),
        ]
        user, items = keras.Input((1, 3, 16)), keras.Input((4, 5, 16))
        mixing, residual = layers.DecoupledHeadMixing(3, 5), layers.PreNorm()
        of_user = layers.QueryMixer(mixing, residual=residual, name="a")(user)
        of_items = layers.QueryMixer(mixing, residual=residual, name="b")(
            items, context=user
        )
        of_items = ops.sum(of_items, axis=2) + ops.sum(of_user, axis=2)
        model = keras.Model([user, items], of_items)
        self.check(model, arrays, "a", "b", part="residual")

    def test_a_config_outside_of_saving_has_no_ids(self):
        mixer = layers.QueryMixer(mixer=layers.TokenSelfAttention(2))
        config = mixer.get_config()
        self.assertNotIn("shared_object_id", str(config))
        self.assertEqual(config, mixer.get_config())
        copy = layers.QueryMixer.from_config(config)
        self.assertIsNot(copy.mixer, mixer.mixer)


class WritingTest(TestCase):
    def test_written(self):
        ku = "keras_unirec.layers"
        for part, expected in (
            ("swiglu", "'swiglu'"),
            (None, "None"),
            (layers.SwiGLU(), f"{ku}.SwiGLU()"),
            (
                layers.SwiGLU(ratio=2, per_token=True, name="mine"),
                f"{ku}.SwiGLU(ratio=2, per_token=True)",
            ),
            # What a layer holds for the name of a default is a default.
            (layers.QueryMixer(), f"{ku}.QueryMixer()"),
            (
                layers.QueryMixer("fm"),
                f"{ku}.QueryMixer(mixer={ku}.FMMixing())",
            ),
            (layers.DecodingReader(), f"{ku}.DecodingReader()"),
            (layers.NewestFirstPosition(), f"{ku}.NewestFirstPosition()"),
            # What has no default, and what a base takes.
            (layers.TokenMerge(4), f"{ku}.TokenMerge(size=4)"),
            (layers.Longer(ratio=3), f"{ku}.Longer(ratio=3)"),
            (layers.SiameseNorm(), f"{ku}.SiameseNorm()"),
            (layers.NoNorm(residual=False), f"{ku}.NoNorm(residual=False)"),
            (layers.Shared("fm"), f"{ku}.Shared('fm')"),
            (
                {"a": layers.Tower([8]), "b": None},
                f"{{'a': {ku}.Tower(units=(8,)), 'b': None}}",
            ),
            (
                Unregistered(5),
                f"{Unregistered.__module__}.Unregistered(width=5)",
            ),
            (
                keras.layers.Reshape((2, 4)),
                "keras.layers.Reshape(target_shape=",
            ),
        ):
            room = Unregistered.__module__.partition(".")[0]
            expected = expected.replace(Unregistered.__module__, room)
            self.assertStartsWith(_parts.written(part), expected)
        written = _parts.written(layers.SwiGLU(ratio=2), hidden_dim=8)
        self.assertEqual(written, f"{ku}.SwiGLU(ratio=2, hidden_dim=8)")
        self.assertEqual(
            _parts.line(layers.QueryDecoding, kv_mode="projected"),
            f"{ku}.QueryDecoding(kv_mode='projected')",
        )

    def test_written_is_code(self):
        for part in (
            layers.QueryMixer("fm", residual=layers.SiameseNorm(True)),
            layers.UniMixingLite(rank=3, symmetric=False),
            layers.DecodingReader(3, encoder={"a": layers.Longer(None)}),
            layers.Shared(layers.PostNorm("rms")),
        ):
            code = _parts.written(part)
            again = eval(code, {"keras_unirec": keras_unirec})
            self.assertEqual(_parts.written(again), code)

    def test_arguments(self):
        self.assertEqual(
            _parts.arguments(layers.Longer),
            {
                **{"recent_length": 100, "token_merge": 1},
                **{"inner_transformer": False, "num_heads": 4},
                **{"hidden_dim": None, "ratio": None, "residual": None},
                "causal": False,
            },
        )
        self.assertEqual(
            _parts.arguments(layers.SiameseNorm),
            {"normalize_input": False, "scale_by_depth": False},
        )
        self.assertCountEqual(
            _parts.arguments(layers.UniMixingLite),
            [
                *("block_size", "num_bases", "rank", "num_iterations"),
                *("symmetric", "start_temperature", "end_temperature"),
                *("anneal_steps", "stddev"),
            ],
        )
        self.assertEqual(_parts.arguments(layers.FMMixing), {})


class ConfigTest(TestCase):
    def test_deserialized(self):
        config = {
            "mixer": keras.saving.serialize_keras_object(layers.FMMixing()),
            "by_history": {
                "a": keras.saving.serialize_keras_object(layers.FMMixing()),
                "b": None,
            },
            "name": "fm",
            "number": 3,
        }
        made = _parts.deserialized(config, "mixer", "by_history", "name", "x")
        self.assertIsInstance(made["mixer"], layers.FMMixing)
        self.assertIsInstance(made["by_history"]["a"], layers.FMMixing)
        self.assertIsNone(made["by_history"]["b"])
        self.assertEqual((made["name"], made["number"]), ("fm", 3))
        self.assertIsInstance(config["mixer"], dict)

    def test_replaced(self):
        reader = layers.DecodingReader(
            reader={"a": layers.QueryDecoding(), "b": layers.QueryDecoding()}
        )
        config = {"reader": keras.saving.serialize_keras_object(reader), "x": 1}
        new, changed = _parts.replaced(config, "kv_mode", "projected")
        self.assertTrue(changed)
        made = keras.saving.deserialize_keras_object(new["reader"])
        self.assertEqual(made.reader["a"].kv_mode, "projected")
        self.assertEqual(made.reader["b"].kv_mode, "projected")
        self.assertEqual(reader.reader["a"].kv_mode, "auto")
        same, changed = _parts.replaced(config, "no_option", 1)
        self.assertFalse(changed)
        self.assertEqual(same, config)
        # An option of nothing else than a layer.
        _, changed = _parts.replaced({"kv_mode": "auto"}, "kv_mode", "x")
        self.assertFalse(changed)

    def test_meaning(self):
        def meaning(**kwargs):
            return _parts.meaning(layers.QueryDecoding(**kwargs))

        usual = meaning()
        for same in (
            {"name": "mine"},
            {"dtype": "mixed_bfloat16"},
            {"kv_mode": "projected"},
            {"trainable": False},
        ):
            self.assertEqual(meaning(**same), usual)
        for other in (
            {"num_heads": 2},
            {"attention": "sigmoid"},
            {"residual": "post_layer"},
        ):
            self.assertNotEqual(meaning(**other), usual)
        self.assertNotEqual(
            meaning(residual=layers.PreNorm()),
            meaning(residual=layers.PreNorm("layer")),
        )
        # A layer that is built means the same.
        layer = layers.QueryDecoding()
        layer.build((None, None, 1, 8), (None, None, 8))
        self.assertEqual(_parts.meaning(layer), usual)
