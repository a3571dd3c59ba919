"""The state of a request: nested in a family, flat between the halves."""

import keras
from keras import ops

import keras_unirec as ku
from keras_unirec.applications._state import State
from keras_unirec.layers.embedding._columns import Columns
from keras_unirec.layers.embedding._columns import column
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase


def vector(width=3, **kwargs):
    return keras.Input((width,), **kwargs)


def events(width=4):
    return keras.Input((None, width))


def mask():
    return keras.Input((None,), dtype="bool")


class StateTest(TestCase):
    def test_names_are_paths(self):
        a, b, c, d = vector(), vector(), vector(), vector()
        state = State({"x": [a, [b, None]], "y": {"z": (c, "text"), 1: d}})
        self.assertEqual(
            list(state.tensors),
            [
                *("state_x_0", "state_x_1_0"),
                *("state_y_z_0", "state_y_1"),
            ],
        )
        names = {name: name for name in state.tensors}
        self.assertEqual(
            state.nested(names),
            {
                "x": ["state_x_0", ["state_x_1_0", None]],
                "y": {"z": ("state_y_z_0", "text"), 1: "state_y_1"},
            },
        )
        self.assertEqual(state.lengths, [])

    def test_inputs_are_like_the_tensors(self):
        state = State({"ids": vector(dtype="int32"), "events": events()})
        inputs = state.inputs()
        for name, tensor in state.tensors.items():
            self.assertEqual(inputs[name].name, name)
            self.assertEqual(inputs[name].shape, tensor.shape)
            self.assertEqual(inputs[name].dtype, tensor.dtype)

    def test_one_tensor_in_two_places(self):
        a, b = vector(), vector()
        state = State({"x": a, "y": [b, a], "z": {"w": a}})
        self.assertEqual(list(state.tensors), ["state_x", "state_y_0"])
        self.assertEqual(
            state.nested({"state_x": 1, "state_y_0": 2}),
            {"x": 1, "y": [2, 1], "z": {"w": 1}},
        )

    def test_names_that_collide(self):
        with self.assertRaisesRegex(ValueError, "same name.*'state_x_y'"):
            State({"x": {"y": vector()}, "x_y": vector()})
        # One tensor is no second one.
        a = vector()
        self.assertLen(State({"x": {"y": a}, "x_y": a}).tensors, 1)

    def test_columns(self):
        a, b = vector(2), vector(3)
        columns = Columns(
            [column("a", "user", "id", a), column("b", "context", "id", b)]
        )
        state = State({"context": columns, "none": Columns(())})
        self.assertEqual(list(state.tensors), ["state_context"])
        self.assertEqual(state.tensors["state_context"].shape, (None, 5))
        nested = state.nested(state.inputs())
        self.assertEqual(nested["context"].widths, {"a": 2, "b": 3})
        self.assertLen(nested["none"], 0)

    def test_events_and_mask_have_one_length(self):
        x, keys = events(), keras.Input((2, None, 4))
        m, other = mask(), mask()
        state = State(
            {
                "context": vector(),
                "watched": {"events": [x, (keys, keys)], "mask": m},
                "liked": {"events": events(), "mask": other},
                "apart": events(),
            }
        )
        self.assertEqual(
            state.lengths,
            [
                {
                    "state_watched_events_0": 1,
                    "state_watched_events_1_0": 2,
                    "state_watched_mask": 1,
                },
                {"state_liked_events": 1, "state_liked_mask": 1},
            ],
        )

    def test_one_mask_of_two_dicts(self):
        m = mask()
        state = State(
            [{"events": events(), "mask": m}, {"events": events(), "mask": m}]
        )
        self.assertEqual(
            state.lengths,
            [{"state_0_events": 1, "state_0_mask": 1, "state_1_events": 1}],
        )

    def test_errors(self):
        for nothing in ({}, {"x": None}, [], {"x": Columns(())}):
            with self.assertRaisesRegex(ValueError, "at least one tensor"):
                State(nothing)
        with self.assertRaisesRegex(ValueError, "must be the requests.*'stat"):
            State({"x": keras.Input(batch_shape=(2, 3))})


class Flexible(ku.applications.RankingModel):
    """A family whose state is given."""

    needs_histories = False
    state = None

    def request(self, context, histories):
        return type(self).state(context, histories)

    def candidates(self, items, state):
        return items.tensor


class ModelTest(TestCase):
    def make(self, state):
        class Model(Flexible):
            pass

        Model.state = staticmethod(state)
        return Model(small_schema())

    def test_a_state_without_tensors(self):
        for state in (
            lambda context, histories: {},
            lambda context, histories: {"x": None},
        ):
            with self.assertRaisesRegex(ValueError, "`request` must return"):
                self.make(state)

    def test_a_state_of_constants(self):
        with self.assertRaisesRegex(ValueError, "`request` must return|first"):
            self.make(lambda context, histories: {"x": ops.ones((2, 3))})

    def test_lengths_are_checked(self):
        def state(context, histories):
            history = histories["watched"]
            return {"h": {"events": history.events, "mask": history.mask}}

        model = self.make(state)
        inputs, _, _ = small_batch(model.schema)
        self.assertEqual(
            model.state_lengths, [{"state_h_events": 1, "state_h_mask": 1}]
        )
        state = model.encode_user(inputs)
        self.assertFinite(model.score_items(state, inputs)["is_click"])
        short = {**state, "state_h_mask": state["state_h_mask"][:, :1]}
        with self.assertRaisesRegex(ValueError, "same number of events"):
            model.score_items(short, inputs)

    def test_columns_that_clash(self):
        schema = small_schema()
        schema = ku.Schema(
            user=schema.user,
            item=[*schema.item, ku.Categorical("state_id", 5, 4)],
            labels=schema.labels,
        )
        with self.assertRaisesRegex(ValueError, "rename them.*state_id"):
            ku.applications.load("rankmixer_tiny", schema)
