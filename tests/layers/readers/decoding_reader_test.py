import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.layers.requests import C
from tests.layers.requests import R
from tests.layers.requests import Requests
from tests.test_case import TestCase
from tests.test_case import to_numpy

D, M, WIDTH = 8, 3, 4


def make_reader(**kwargs):
    arguments = {
        "dim": D,
        "events": layers.Events(WIDTH, position="newest_first"),
        "encoder": layers.Longer(2, num_heads=2),
        "queries": layers.QueryGeneration(hidden_dim=5, context="target"),
        "reader": layers.QueryDecoding(2),
    }
    return layers.DecodingReader(**{**arguments, **kwargs})


def make_features(num_tokens=M):
    shape = (R, C, num_tokens, D)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def names_of(layer):
    """The layers that have weights, by the first part of their paths."""
    return sorted({w.path.split("/")[0] for w in layer.weights})


class DecodingReaderTest(TestCase):
    def setUp(self):
        super().setUp()
        self.requests = Requests()

    def request(self, reader):
        requests = self.requests
        return reader.request(requests.context, requests.histories)

    def test_layer_by_layer(self):
        """What the class says, with the layers that it has made."""
        reader = make_reader()
        state = self.request(reader)
        queries = reader.generate(None, self.requests.items, state)
        flat = reader._generation(self.requests.items.tensor)
        self.assertAllClose(queries["watched"], flat[:, :, :1], atol=1e-6)
        self.assertAllClose(queries["liked"], flat[:, :, 1:], atol=1e-6)
        tokens = reader.read_tokens(None, self.requests.items, state)
        for name, actual in zip(("watched", "liked"), tokens, strict=True):
            x, kept = queries[name], state["histories"][name]
            self.assertLen(kept["events"], 2)
            for events, layer in zip(
                kept["events"], reader.made["reader"][name]
            ):
                x = layer(x, events, mask=kept["mask"])
            self.assertEqual(tuple(actual.shape), (R, C, 1, D))
            self.assertAllClose(actual, x, atol=1e-5)
        # An empty history returns the queries.
        self.assertAllClose(tokens[0][0], queries["watched"][0], atol=1e-6)
        self.assertAllClose(tokens[1][:2], queries["liked"][:2], atol=1e-6)
        self.assertGreater(
            np.abs(tokens[1][2:] - queries["liked"][2:]).max(), 0
        )

    def test_layers_and_their_names(self):
        reader = make_reader(residual="pre_rms")
        state = self.request(reader)
        reader.read_tokens(None, self.requests.items, state)
        expected = ["query_generation"]
        for name in ("watched", "liked"):
            expected += [f"{name}_projection", f"{name}_position"]
            for i in range(2):
                expected.append(f"{name}_encoder_{i}")
                expected.append(f"query_decoding_{i}_{name}")
        self.assertEqual(names_of(reader), sorted(expected))
        for layer in (
            *reader.made["reader"]["watched"],
            *reader.made["reader"]["liked"],
        ):
            self.assertIsInstance(layer.residual, layers.PreNorm)
        # The reader that says its own keeps it.
        given = layers.QueryDecoding(2, residual="post_layer")
        reader = make_reader(reader=given, residual="pre_rms")
        self.request(reader)
        for layer in reader.made["reader"]["watched"]:
            self.assertIsInstance(layer.residual, layers.PostNorm)

    def test_numbers_of_queries(self):
        one = layers.QueryDecoding(2, num_queries=3)
        each = {"watched": one, "liked": layers.QueryDecoding(2)}
        for kwargs, numbers in (
            ({}, {"watched": 1, "liked": 1}),
            ({"reader": one}, {"watched": 3, "liked": 3}),
            ({"reader": each}, {"watched": 3, "liked": 1}),
            ({"reader": layers.Shared(one)}, {"watched": 3, "liked": 3}),
            (
                {
                    "reader": one,
                    "events": layers.Events(WIDTH, join="concatenate"),
                },
                {"joined": 6},
            ),
        ):
            reader = make_reader(**kwargs)
            self.assertEqual(reader.num_queries(["watched", "liked"]), numbers)
            total = sum(numbers.values())
            schema = self.requests.schema
            self.assertEqual(reader.num_features(schema, 16), 16 - total)
            with self.assertRaisesRegex(
                ValueError, f"number of queries, {total} .*num_tokens={total}"
            ):
                reader.num_features(schema, total)
            state = self.request(reader)
            tokens = reader.read_tokens(None, self.requests.items, state)
            shapes = [tuple(x.shape) for x in tokens]
            expected = [(R, C, number, D) for number in numbers.values()]
            self.assertEqual(shapes, expected)

    def test_an_encoder_for_each_history(self):
        reader = make_reader(
            encoder={"watched": "transformer", "liked": None},
            queries=layers.QueryGeneration(hidden_dim=5, context="target"),
        )
        state = self.request(reader)
        liked = state["histories"]["liked"]["events"]
        self.assertIs(liked[0], liked[1])  # The events, in every layer.
        watched = state["histories"]["watched"]["events"]
        self.assertGreater(np.abs(watched[0] - watched[1]).max(), 1e-3)
        self.assertNotIn("liked_encoder_0", names_of(reader))

    def test_one_encoder_and_one_reader_for_all_layers(self):
        reader = make_reader(
            encoder=layers.Shared("transformer"),
            reader=layers.Shared(layers.QueryDecoding(2)),
        )
        self.request(reader)
        for name in ("watched", "liked"):
            one, two = reader.made["reader"][name]
            self.assertIs(one, two)
        for name in ("encoder_1", "query_decoding_1"):
            self.assertNotIn(name, " ".join(names_of(reader)))

    @parameterized.parameters("all", "without_pooling", "target")
    def test_what_queries_are_made_of(self, context):
        queries = layers.QueryGeneration(hidden_dim=5, context=context)
        reader = make_reader(queries=queries)
        state = self.request(reader)
        self.assertEqual("summary" in state, context == "all")
        features, items = make_features(), self.requests.items
        outputs = reader.generate(features, items, state)
        outputs = np.concatenate(list(map(to_numpy, outputs.values())), axis=2)
        generation = reader._generation
        if context == "target":
            expected = generation(items.tensor)
        else:
            flat = features.reshape(R, C, -1)
            summary = []
            if context == "all":
                projected = self.means(reader)
                self.assertAllClose(state["summary"], projected, atol=1e-5)
                summary = [state["summary"]]
            expected = generation(flat, *summary)
        self.assertAllClose(outputs, expected, atol=1e-5)

    def means(self, reader):
        """The means of the projected events of all histories."""
        weights = {w.path: to_numpy(w) for w in reader.weights}
        means = []
        for name, history in self.requests.histories.items():
            events = to_numpy(history.events)
            x = events @ weights[f"{name}_projection/kernel"]
            table = weights[f"{name}_position/positions"]
            mask = to_numpy(history.mask)
            mean = np.zeros((R, WIDTH))
            for r, real in enumerate(mask):
                newest = np.arange(real.sum())[::-1]
                if len(newest):
                    mean[r] = (x[r, real] + table[newest]).mean(axis=0)
            means.append(mean)
        return np.concatenate(means, axis=-1)

    def test_some_of_the_feature_tokens(self):
        queries = layers.QueryGeneration(hidden_dim=5, tokens=[2, 0])
        reader = make_reader(queries=queries)
        state = self.request(reader)
        features, items = make_features(), self.requests.items
        outputs = reader.generate(features, items, state)
        some = features[:, :, [2, 0]].reshape(R, C, -1)
        expected = reader._generation(some, state["summary"])
        self.assertAllClose(outputs["watched"], expected[:, :, :1], atol=1e-6)
        with self.assertRaisesRegex(
            ValueError, r"of the 2 feature tokens. Received: tokens=\[2, 0\]"
        ):
            reader.generate(make_features(2), items, state)

    @parameterized.parameters("absorbed", "projected")
    def test_the_state(self, kv_mode):
        decoding = layers.QueryDecoding(2, kv_mode=kv_mode)
        state = self.request(make_reader(reader=decoding))
        self.assertIs(state["context"], self.requests.context)
        for name, num_events in (("watched", 2), ("liked", 2)):
            kept = state["histories"][name]
            self.assertEqual(tuple(kept["mask"].shape), (R, num_events))
            for events in kept["events"]:
                if kv_mode == "absorbed":
                    self.assertEqual(tuple(events.shape), (R, 2, WIDTH))
                else:
                    keys, values = events
                    self.assertEqual(tuple(keys.shape), (R, 2, 2, D // 2))
                    self.assertEqual(keys.shape, values.shape)

    def test_joined_histories(self):
        events = layers.Events(
            WIDTH, join="time", position="newest_first", max_length=5
        )
        with self.assertRaisesRegex(
            ValueError, r"needs a `Timestamp`.*'liked'"
        ):
            self.request(make_reader(events=events))
        events = layers.Events(WIDTH, join="concatenate")
        reader = make_reader(events=events, encoder=None)
        state = self.request(reader)
        kept = state["histories"]["joined"]
        self.assertEqual(tuple(kept["mask"].shape), (R, 8 + 4))
        tokens = reader.read_tokens(None, self.requests.items, state)
        self.assertEqual([tuple(x.shape) for x in tokens], [(R, C, 2, D)])
        for part, value in (
            ("encoder", {"watched": "swiglu", "liked": "longer"}),
            (
                "reader",
                {
                    "watched": layers.QueryDecoding(2),
                    "liked": layers.QueryDecoding(2),
                },
            ),
        ):
            reader = make_reader(events=events, **{part: value})
            with self.assertRaisesRegex(ValueError, f"share one `{part}`"):
                self.request(reader)

    def test_defaults(self):
        reader = layers.DecodingReader()
        self.assertEqual((reader.events.dim, reader.events.join), (64, None))
        self.assertIsInstance(
            reader.events.position, layers.NewestFirstPosition
        )
        self.assertIsInstance(reader.encoder, layers.Longer)
        self.assertEqual(reader.queries.context, "target")
        self.assertIsInstance(reader.reader.residual, layers.PreNorm)

    def test_config(self):
        for kwargs in (
            {},
            {"num_layers": 3, "encoder": None, "residual": "post_layer"},
            {
                "encoder": {"watched": "swiglu", "liked": None},
                "reader": {
                    "watched": layers.Shared(layers.QueryDecoding(2)),
                    "liked": "query_decoding",
                },
            },
        ):
            reader = make_reader(**kwargs)
            config = reader.get_config()
            copy = layers.DecodingReader.from_config(config)
            self.assertEqual(copy.get_config(), config)
            self.assertEqual(type(copy.encoder), type(reader.encoder))

    def test_precision(self):
        requests = self.requests = Requests("mixed_bfloat16")
        reader = layers.DecodingReader(
            dim=D, dtype="mixed_bfloat16", encoder="swiglu"
        )
        state = self.request(reader)
        for tokens in reader.read_tokens(None, requests.items, state):
            dtype = keras.backend.standardize_dtype(tokens.dtype)
            self.assertEqual(dtype, "bfloat16")

    def test_errors(self):
        for part in ("events", "queries"):
            with self.assertRaisesRegex(ValueError, f"`{part}` must be a `"):
                make_reader(**{part: part})
        with self.assertRaisesRegex(ValueError, r"with \['num_queries'\]"):
            make_reader(reader=layers.HeadCrossAttention())
        for part in ("encoder", "reader"):
            value = {"watched": None if part == "encoder" else "query_decoding"}
            reader = make_reader(**{part: value})
            with self.assertRaisesRegex(
                ValueError, rf"`{part}` must be .* \['watched', 'liked'\]"
            ):
                self.request(reader)
        without = type("Schema", (), {"sequences": ()})
        with self.assertRaisesRegex(ValueError, "at least one `Sequence`"):
            make_reader().num_features(without, 16)
