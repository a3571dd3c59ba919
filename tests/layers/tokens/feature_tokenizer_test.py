import keras
import numpy as np
from keras import ops

from keras_unirec import layers
from keras_unirec.layers.embedding._columns import column
from tests.test_case import TestCase
from tests.test_case import to_numpy


def reference(inputs, kernel, widths):
    """Eq. 2, one token after the other."""
    tokens, start = [], 0
    for width in widths:
        rows = slice(start, start + width)
        tokens.append(inputs[..., rows] @ kernel[rows])
        start += width
    return np.stack(tokens, axis=-2)


def make_columns(widths, leading=(2, 5), seed=0):
    rng = np.random.default_rng(seed)
    return layers.Columns(
        column(
            key,
            "item",
            "vector",
            ops.convert_to_tensor(
                rng.normal(size=(*leading, width)).astype("float32")
            ),
        )
        for key, width in widths.items()
    )


class FeatureTokenizerTest(TestCase):
    def test_basics(self):
        for init_kwargs, width in (
            ({"dim": 8, "num_tokens": 3}, 12),
            ({"dim": 8, "num_tokens": 3}, 14),
            ({"dim": 8, "group_dims": [1, 7, 4]}, 12),
        ):
            with self.subTest(**init_kwargs, width=width):
                self.run_layer_test(
                    layers.FeatureTokenizer,
                    init_kwargs=init_kwargs,
                    input_shape=(2, 5, width),
                    expected_output_shape=(2, 5, 3, 8),
                    expected_num_trainable_weights=1,
                    expected_num_parameters=width * 8,
                )

    def test_equals_the_paper(self):
        x = np.random.default_rng(0).normal(size=(2, 5, 14)).astype("float32")
        for arguments, widths in (
            ({"num_tokens": 7}, [2] * 7),
            ({"num_tokens": 4}, [4, 4, 3, 3]),
            ({"group_dims": [3, 1, 10]}, [3, 1, 10]),
        ):
            with self.subTest(**arguments):
                layer = layers.FeatureTokenizer(6, **arguments)
                outputs = layer(x)
                expected = reference(x, to_numpy(layer.kernel), widths)
                self.assertAllClose(outputs, expected, atol=1e-5)
                # A user without candidates has one axis less.
                self.assertAllClose(layer(x[0]), outputs[0], atol=1e-6)

    def test_slices_do_not_mix(self):
        layer = layers.FeatureTokenizer(6, group_dims=[3, 1, 10])
        x = np.ones((1, 14), "float32")
        changed = x.copy()
        changed[:, 3] = 7.0
        difference = to_numpy(layer(changed)) - to_numpy(layer(x))
        self.assertAllClose(difference[:, [0, 2]], np.zeros((1, 2, 6)))
        self.assertTrue((difference[:, 1] != 0).all())

    def test_semantic_groups(self):
        """Slices of the columns of each group, in the order of the group."""
        columns = make_columns({"a": 2, "b": 1, "c": 3, "d": 4})
        arrays = {c.key: to_numpy(c.embedding) for c in columns}
        for groups in (
            [["a"], ["b", "c"], ["d"]],  # In the order of the columns.
            [["d", "b"], ["c", "a"]],
            [["d", "c", "b", "a"]],
            (("b",), ("d",), ("c",), ("a",)),
        ):
            layer = layers.FeatureTokenizer(6, groups=groups)
            outputs = layer.tokens(columns)
            self.assertEqual(tuple(outputs.shape), (2, 5, len(groups), 6))
            self.assertEqual(
                layer.compute_output_shape((2, 10))[1:], (len(groups), 6)
            )
            kernel, start = to_numpy(layer.kernel), 0
            for j, group in enumerate(groups):
                x = np.concatenate([arrays[key] for key in group], axis=-1)
                rows = slice(start, start + x.shape[-1])
                expected = x @ kernel[rows]
                self.assertAllClose(outputs[..., j, :], expected, atol=1e-5)
                start = rows.stop
            self.assertEqual(start, kernel.shape[0])

    def test_tokens_without_groups(self):
        columns = make_columns({"a": 2, "b": 5})
        for arguments in ({"num_tokens": 3}, {"group_dims": [3, 4]}):
            layer = layers.FeatureTokenizer(6, **arguments)
            outputs = layer.tokens(columns)
            self.assertAllClose(outputs, layer(columns.tensor), atol=1e-6)

    def test_groups_in_a_saved_model(self):
        """The widths of the columns are no part of the config."""
        inputs = {
            key: keras.Input((None, width), name=key)
            for key, width in {"a": 2, "b": 1, "c": 3}.items()
        }
        columns = layers.Columns(
            column(key, "item", "vector", x) for key, x in inputs.items()
        )
        layer = layers.FeatureTokenizer(6, groups=[["c", "a"], ["b"]])
        model = keras.Model(inputs, layer.tokens(columns))
        arrays = make_columns({"a": 2, "b": 1, "c": 3})
        arrays = {c.key: c.embedding for c in arrays}
        path = f"{self.get_temp_dir()}/model.keras"
        for _ in range(2):  # A model that was loaded can be saved, too.
            expected = model(arrays)
            model.save(path)
            model = keras.models.load_model(path)
            self.assertAllClose(model(arrays), expected, atol=1e-6)

    def test_errors_of_groups(self):
        columns = make_columns({"a": 2, "b": 1, "c": 3})
        for groups in (
            [["a", "b"]],  # One is missing.
            [["a", "b"], ["c", "a"]],  # One is named twice.
            [["a", "b"], ["c", "d"]],  # There is no such column.
        ):
            layer = layers.FeatureTokenizer(6, groups=groups)
            with self.assertRaisesRegex(
                ValueError,
                r"(?s)`groups` must be \d lists .* \['a', 'b', 'c'\] exactly "
                r"once. Received: groups=\[\[",
            ):
                layer.tokens(columns)
        layer = layers.FeatureTokenizer(
            6, num_tokens=3, groups=[["a", "b"], ["c"]]
        )
        with self.assertRaisesRegex(ValueError, r"3 lists \(`num_heads`\)"):
            layer.tokens(columns, "`num_heads`")
        layer = layers.FeatureTokenizer(6, num_tokens=7)
        with self.assertRaisesRegex(
            ValueError, r"6 wide together.* 7 tokens \(`num_heads`\)"
        ):
            layer.tokens(columns, "`num_heads`")
        layer = layers.FeatureTokenizer(6, groups=[["a"]])
        with self.assertRaisesRegex(ValueError, r"call `tokens\(columns\)`"):
            layer(np.ones((2, 5, 2)))
        for groups in ([], [[]], [["a"], []], ["ab"], [[1]], "ab", {"a": "b"}):
            with self.assertRaisesRegex(
                ValueError, "`groups` must be a non-empty list of non-empty"
            ):
                layers.FeatureTokenizer(6, groups=groups)

    def test_scale_at_initialization(self):
        widths = [4, 400]
        layer = layers.FeatureTokenizer(64, group_dims=widths)
        x = np.random.default_rng(0).normal(size=(4000, 404))
        outputs = to_numpy(layer(x.astype("float32")))
        for token, width in enumerate(widths):
            expected = np.sqrt(2 * width / (width + 64))
            self.assertAllClose(outputs[:, token].std(), expected, rtol=0.1)

    def test_kernel_is_reproducible_and_not_repeated(self):
        layer = layers.FeatureTokenizer(8, num_tokens=2)
        layer.build((None, 6))
        kernel = to_numpy(layer.kernel)
        self.assertEqual(len(np.unique(kernel)), kernel.size)
        self.setUp()
        again = layers.FeatureTokenizer(8, num_tokens=2)
        again.build((None, 6))
        self.assertAllClose(again.kernel, kernel)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`dim` must be a positive"):
            layers.FeatureTokenizer(0, num_tokens=2)
        with self.assertRaisesRegex(ValueError, "`num_tokens` must be a pos"):
            layers.FeatureTokenizer(8, num_tokens=0)
        with self.assertRaisesRegex(ValueError, "`group_dims` must be a non-"):
            layers.FeatureTokenizer(8, group_dims=[4, 0])
        with self.assertRaisesRegex(ValueError, "must be 3 wid.* `num_tokens`"):
            layers.FeatureTokenizer(8, num_tokens=3, group_dims=[4, 4])
        with self.assertRaisesRegex(ValueError, "`groups` have the widths"):
            layers.FeatureTokenizer(8, groups=[["a"]], group_dims=[4])
        # What a model says, and nobody has said.
        with self.assertRaisesRegex(ValueError, "`num_tokens` must be a pos"):
            layers.FeatureTokenizer(8).build((None, 8))
        with self.assertRaisesRegex(ValueError, "`dim` must be a positive"):
            layers.FeatureTokenizer(num_tokens=2).build((None, 8))
        with self.assertRaisesRegex(ValueError, "at most the last axis .* 3"):
            layers.FeatureTokenizer(8, num_tokens=4).build((None, 3))
        with self.assertRaisesRegex(ValueError, "must sum to .* sums to 7"):
            layers.FeatureTokenizer(8, group_dims=[4, 3]).build((None, 8))
