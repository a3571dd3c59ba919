import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

import keras_unirec as ku
from keras_unirec import layers
from keras_unirec.applications.onetrans import schedule
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import TestCase


class OneTransTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.inputs, _, _ = small_batch(self.schema)

    def load(self, **parts):
        return ku.applications.load("onetrans_tiny", self.schema, **parts)

    def test_schedule(self):
        # 1,190 events in 6 layers, as the paper's small size.
        self.assertEqual(schedule(1190, 6, 32), [992, 800, 608, 416, 224, 0])
        self.assertEqual(schedule(12, 2, 8), [8, 0])
        self.assertEqual(schedule(3, 2, 8), [3, 0])
        self.assertEqual(schedule(100, 3, None), [None, None, 0])

    def test_state_is_keys_and_values(self):
        state = self.load().encode_user(self.inputs)
        shapes = {name: tuple(x.shape) for name, x in state.items()}
        for layer, length in ((0, 12), (1, 8)):
            for kind in ("keys", "values"):
                name = f"state_layers_{layer}_{kind}"
                self.assertEqual(shapes.pop(name), (6, 2, length, 16))
            self.assertEqual(
                shapes.pop(f"state_layers_{layer}_mask"), (6, length)
            )
        self.assertEqual(list(shapes), ["state_context"])

    def test_keys_are_no_values(self):
        state = self.load().encode_user(self.inputs)
        for i in range(2):
            keys = ops.convert_to_numpy(state[f"state_layers_{i}_keys"])
            values = ops.convert_to_numpy(state[f"state_layers_{i}_values"])
            self.assertGreater(np.abs(keys - values).max(), 1e-3)

    def test_halves_equal_the_blocks(self):
        # The traced halves against calls of the blocks, one after the other.
        model = self.load()
        events = np.random.default_rng(0).normal(size=(6, 12, 32))
        tokens = np.random.default_rng(1).normal(size=(6, 3, 8, 32))
        mask = np.arange(12) < np.array([12, 7, 3, 0, 12, 1])[:, None]
        x = keras.Input((None, 32))
        m = keras.Input((None,), dtype="bool")
        t = keras.Input((None, 8, 32))
        rows, kept_mask, outputs = x, m, t
        eager_rows, eager_mask, expected = events, mask, tokens
        for block in model.blocks:
            rows, kept_mask, kept = block.request(rows, kept_mask)
            outputs = block.candidates(outputs, kept)
            eager_rows, eager_mask, kept = block.request(eager_rows, eager_mask)
            expected = block.candidates(expected, kept)
        traced = keras.Model([x, m, t], outputs)
        self.assertAllClose(traced([events, mask, tokens]), expected, 1e-5)

    def test_without_pyramid(self):
        model = self.load(pyramid=None)
        state = model.encode_user(self.inputs)
        outputs = model(self.inputs)["is_click"]
        self.assertEqual(len(model.blocks), 2)
        self.assertEqual(
            [block.num_queries for block in model.blocks], [None, 0]
        )
        self.assertAllClose(
            model.score_items(state, self.inputs)["is_click"], outputs, 1e-5
        )

    @parameterized.named_parameters(
        ("groupwise", {"tokenizer": "even"}),
        ("without_pyramid", {"pyramid": None}),
        (
            "full_attention",
            {"block": layers.OneTransBlock(num_heads=2, causal=False)},
        ),
        (
            "swiglu",
            {"block": layers.OneTransBlock(4, layers.SwiGLU(ratio=4))},
        ),
        ("no_positions", {"events": layers.Events()}),
        ("recent_events", {"events": layers.Events(max_length=5)}),
        ("concatenate", {"readout": "concatenate"}),
    )
    def test_options(self, parts):
        model = self.load(**parts)
        outputs = model(self.inputs)
        self.assertFinite(outputs["is_click"])
        copy = type(model).from_config(model.get_config())
        self.assertEqual(copy.get_config(), model.get_config())

    def test_older_events_do_not_see_newer_ones(self):
        model = self.load(pyramid=None)
        self.inputs["watched.length"][:] = 8
        self.inputs["liked.length"][:] = 4
        before = model.encode_user(self.inputs)["state_layers_1_keys"]
        changed = dict(self.inputs)
        changed["liked_id"] = changed["liked_id"].copy()
        changed["liked_id"][:, -1] = changed["liked_id"][:, -1] % 20 + 7
        after = model.encode_user(changed)["state_layers_1_keys"]
        self.assertAllClose(after[:, :, :-1], before[:, :, :-1], atol=1e-6)
        moved = ops.max(ops.abs(after[:, :, -1] - before[:, :, -1]))
        self.assertGreater(float(moved), 1e-6)

    def test_parameters(self):
        n, d, layers_, hidden = 8, 32, 2, 64
        model = self.load()
        widths = sum(map(sum, (w.values() for w in model.column_widths())))
        network = 2 * d * hidden + hidden + d
        block = (n + 1) * (3 * d * d + network) + d * d + 2 * d
        blocks = layers_ * block - (d * d + network)  # The last one.
        self.assertEqual(
            sum(block.count_params() for block in model.blocks), blocks
        )
        self.assertEqual(model.tokenizer.count_params(), (widths + 1) * n * d)

    def test_errors(self):
        for parts, message in (
            ({"pyramid": 0}, "`pyramid` must be a positive integer"),
            ({"dim": None}, "`dim` must be a positive integer"),
            ({"block": "transformer"}, "`block` must be one of"),
            ({"num_heads": 2}, "block=keras_unirec.layers.OneTransBlock"),
            (
                {"events": layers.Events({"watched": 8, "liked": 4})},
                "share one `dim`",
            ),
        ):
            with self.assertRaisesRegex(ValueError, message):
                self.load(**parts)

    def test_half_precision_state(self):
        model = self.load(dtype="mixed_bfloat16")
        state = model.encode_user(self.inputs)
        self.assertEqual(
            keras.backend.standardize_dtype(state["state_layers_0_keys"].dtype),
            "bfloat16",
        )
        self.assertTrue(
            np.isfinite(np.array(model(self.inputs)["is_click"])).all()
        )
