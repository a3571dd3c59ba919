import keras
import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.layers.inputs import pad_histories
from tests.layers.inputs import randomize_weights
from tests.test_case import TestCase
from tests.test_case import to_numpy

R, DIM = 3, 4
# The lengths of each history, the width of its events, and the most of them.
LENGTHS = {"watched": (3, 1, 0), "bought": (2, 0, 4)}
WIDTHS = {"watched": 5, "bought": 2}
MOST = {"watched": 6, "bought": 4}
FIELDS = {"events": "float32", "mask": "bool", "gaps": "int32"}


@keras.saving.register_keras_serializable(package="tests")
class Twice(keras.layers.Layer):
    """Positions of somebody else."""

    supports_masking = True

    def call(self, events, mask):
        return events * 2.0

    def get_config(self):
        return super().get_config()


def make_histories():
    """By history, of each request the events and their gaps, in seconds.

    A history is in the order of time, and the two alternate.
    """
    rng = np.random.default_rng(0)
    return {
        name: [
            (
                rng.normal(size=(length, WIDTHS[name])),
                10 * np.arange(length)[::-1] + 5 * i,
            )
            for length in LENGTHS[name]
        ]
        for i, name in enumerate(LENGTHS)
    }


def padded(histories, extra=0):
    """Arrays of the inputs of `make_model`."""
    arrays = {}
    for name, requests in histories.items():
        length = MOST[name] + extra
        events, mask = pad_histories([x for x, _ in requests], "right", length)
        gaps, _ = pad_histories(
            [g[:, None] for _, g in requests], "right", length
        )
        arrays[f"{name}_events"], arrays[f"{name}_mask"] = events, mask
        arrays[f"{name}_gaps"] = gaps[..., 0].astype("int32")
    return arrays


def make_inputs(names=LENGTHS, timed=True):
    """Inputs of any length, and `History`s of them."""
    inputs, histories = {}, {}
    for name in names:
        tensors = {}
        for field, dtype in FIELDS.items():
            shape = (None, WIDTHS[name]) if field == "events" else (None,)
            key = f"{name}_{field}"
            tensors[field] = keras.Input(shape, dtype=dtype, name=key)
            inputs[key] = tensors[field]
        if not timed:
            tensors["gaps"] = None
        histories[name] = layers.History(
            name=name, ids={}, max_length=MOST[name], **tensors
        )
    return inputs, histories


def make_model(layer, names=LENGTHS):
    """A model of what `project` returns, and that."""
    inputs, histories = make_inputs(names)
    projected = layer.project(histories)
    outputs = {
        history.name: {"events": history.events, "mask": history.mask}
        for history in projected
    }
    model = keras.Model(inputs, outputs)
    randomize_weights(model)
    return model, projected


def real_events(events, mask):
    """The real events of each request, in their order."""
    return [x[real] for x, real in zip(to_numpy(events), to_numpy(mask))]


def reference(histories, layer, model):
    """dict by history, or of the joined one: the events of each request."""
    apart = {
        name: [
            (x @ to_numpy(model.get_layer(f"{name}_projection").kernel), gaps)
            for x, gaps in requests
        ]
        for name, requests in histories.items()
    }
    if layer.joins:
        joined = []
        for parts in zip(*apart.values()):
            events = np.concatenate([x for x, _ in parts])
            if layer.join == "time":
                gaps = np.concatenate([gaps for _, gaps in parts])
                events = events[np.argsort(-gaps, kind="stable")]
            if layer.max_length is not None:
                events = events[-layer.max_length :]
            joined.append((events, None))
        apart = {"joined": joined}
    result = {}
    for name, requests in apart.items():
        events = [x for x, _ in requests]
        if isinstance(layer.position, layers.NewestFirstPosition):
            table = to_numpy(model.get_layer(f"{name}_position").positions)
            for r, x in enumerate(events):
                newest = np.arange(len(x))[::-1]
                events[r] = x + table[np.minimum(newest, len(table) - 1)]
        result[name] = events
    return result


class EventsTest(TestCase):
    def check(self, layer, histories=None):
        """Of any padding, and of a saved model; returns what is projected."""
        histories = histories or make_histories()
        model, projected = make_model(layer, histories)
        expected = reference(histories, layer, model)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        for each, extra in ((model, 0), (model, 3), (loaded, 0)):
            outputs = each(padded(histories, extra))
            self.assertCountEqual(outputs, expected)
            for name, requests in expected.items():
                actual = real_events(**outputs[name])
                for a, b in zip(actual, requests, strict=True):
                    self.assertAllClose(a, b, atol=1e-5)
        return projected, model

    def test_each_history_by_itself(self):
        projected, model = self.check(layers.Events(DIM))
        self.assertCountEqual(
            [weight.path for weight in model.weights],
            ["watched_projection/kernel", "bought_projection/kernel"],
        )
        _, given = make_inputs()
        for history, other in zip(projected, given.values()):
            self.assertEqual(history.name, other.name)
            self.assertEqual(history.max_length, other.max_length)
            self.assertEqual(history.events.shape, (None, None, DIM))
            self.assertIsNotNone(history.gaps)

    def test_a_width_for_each_history(self):
        widths = {"watched": 3, "bought": 7}
        layer = layers.Events(widths, join="apart")
        self.assertEqual(layer.widths(list(LENGTHS)), widths)
        self.assertEqual(
            layers.Events(8).widths(LENGTHS), {"watched": 8, "bought": 8}
        )
        projected, _ = self.check(layer)
        for history in projected:
            self.assertEqual(history.events.shape[-1], widths[history.name])

    @parameterized.product(
        join=["time", "concatenate"], max_length=[None, 3, 20]
    )
    def test_joins(self, join, max_length):
        layer = layers.Events(DIM, join=join, max_length=max_length)
        (joined,), _ = self.check(layer)
        self.assertEqual(joined.name, "joined")
        self.assertIsNone(joined.gaps)
        self.assertEqual(joined.max_length, min(max_length or 10, 10))

    @parameterized.parameters("time", "concatenate")
    def test_joins_one_history(self, join):
        histories = {"watched": make_histories()["watched"]}
        (joined,), _ = self.check(layers.Events(DIM, join=join), histories)
        self.assertEqual((joined.name, joined.max_length), ("joined", 6))

    def test_keeps_the_most_recent_of_one_history(self):
        histories = {"watched": make_histories()["watched"]}
        layer = layers.Events(DIM, join="concatenate", max_length=2)
        (joined,), _ = self.check(layer, histories)
        self.assertEqual(joined.max_length, 2)

    @parameterized.product(
        join=[None, "time", "concatenate"], num_positions=[None, 2]
    )
    def test_positions(self, join, num_positions):
        """As many as there can be events, where the number is not given."""
        position = layers.NewestFirstPosition(num_positions)
        layer = layers.Events(DIM, join=join, position=position)
        projected, model = self.check(layer)
        for history in projected:
            table = model.get_layer(f"{history.name}_position").positions
            expected = num_positions or history.max_length
            self.assertEqual(tuple(table.shape), (expected, DIM))

    def test_positions_by_name(self):
        layer = layers.Events(
            DIM, join="time", max_length=3, position="newest_first"
        )
        _, model = self.check(layer)
        table = model.get_layer("joined_position").positions
        self.assertEqual(tuple(table.shape), (3, DIM))

    def test_positions_of_somebody(self):
        histories = make_histories()
        layer = layers.Events(DIM, position=Twice())
        model, _ = make_model(layer)
        expected = reference(histories, layer, model)
        outputs = model(padded(histories))
        for name, requests in expected.items():
            actual = real_events(**outputs[name])
            for a, b in zip(actual, requests, strict=True):
                self.assertAllClose(a, 2 * b, atol=1e-5)

    def test_precision(self):
        layer = layers.Events(
            DIM, join="time", position="newest_first", dtype="mixed_bfloat16"
        )
        _, histories = make_inputs()
        (joined,) = layer.project(histories)
        self.assertEqual(joined.events.dtype, "bfloat16")

    def test_config(self):
        for kwargs in (
            {},
            {"dim": {"watched": 3, "bought": 4}, "join": "apart"},
            {"dim": 8, "join": "time", "max_length": 5},
            {"position": "newest_first"},
        ):
            config = layers.Events(**kwargs).get_config()
            copy = layers.Events.from_config(config)
            self.assertEqual(copy.get_config(), config)
            self.assertEqual(copy.dim, kwargs.get("dim"))
            self.assertEqual(copy.joins, kwargs.get("join") == "time")

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`join` must be one of"):
            layers.Events(join="concat")
        layer = layers.Events({"watched": 3, "bought": 4})
        for names in (["watched"], ["watched", "bought", "liked"]):
            with self.assertRaisesRegex(
                ValueError, "`dim` must be .*each history of .*{'watched': 3, "
            ):
                layer.widths(names)
        with self.assertRaisesRegex(ValueError, "share one `dim`"):
            layers.Events({"watched": 3, "bought": 4}, "time").widths(LENGTHS)
        for join in (None, "apart"):
            layer = layers.Events(DIM, join, max_length=3)
            with self.assertRaisesRegex(ValueError, "`max_length` is that of"):
                layer.widths(LENGTHS)
        _, untimed = make_inputs(timed=False)
        with self.assertRaisesRegex(
            ValueError, r"needs a `Timestamp`.*\['watched', 'bought'\]"
        ):
            layers.Events(DIM, "time").project(untimed)
        built = layers.NewestFirstPosition(3)
        built.build((None, 3, DIM))
        with self.assertRaisesRegex(ValueError, "`position` must be .*without"):
            layers.Events(DIM, position=built).project(untimed)
        # What a model says, and nobody has said.
        with self.assertRaisesRegex(ValueError, "`dim` must be given"):
            layers.Events().project(untimed)
