import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import sinkhorn
from tests.layers.references import uni_mixing
from tests.layers.tensor_sizes import tensor_sizes
from tests.test_case import TestCase
from tests.test_case import to_numpy


class UniMixingTest(TestCase):
    def test_basics(self):
        # The temperature stays: the steps are unknown.
        for init_kwargs, num_parameters in (
            ({"num_iterations": 20}, 16 * 4 * 4 + 16 * 16),
            ({"block_size": 64, "anneal_steps": 10}, 64 * 64 + 1),
            ({"shared_local": True, "stddev": 1.0}, 4 * 4 + 16 * 16),
            ({"symmetric": False}, 16 * 4 * 4 + 16 * 16),
        ):
            with self.subTest(**init_kwargs):
                self.run_layer_test(
                    layers.UniMixing,
                    # Few iterations are quick to trace.
                    init_kwargs={"num_iterations": 3, **init_kwargs},
                    input_shape=(2, 3, 4, 16),
                    expected_output_shape=(2, 3, 4, 16),
                    expected_num_trainable_weights=2,
                    expected_num_parameters=num_parameters + 2,
                )

    @parameterized.parameters(
        {},
        {"block_size": 8},
        {"shared_local": True},
        {"symmetric": False},
        {"num_iterations": 2},
    )
    def test_equals_the_paper(self, **init_kwargs):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 16))
        layer = layers.UniMixing(**init_kwargs)
        outputs = layer(x)
        local, mixing = (
            sinkhorn(
                to_numpy(logits),
                num_iterations=layer.num_iterations,
                symmetric=layer.symmetric,
            )
            for logits in (layer.local_logits, layer.global_logits)
        )
        self.assertAllClose(outputs, uni_mixing(x, local, mixing), atol=1e-5)

    def test_tokens_of_any_number(self):
        """T need not divide D; blocks may cross the border of two tokens."""
        x = np.random.default_rng(0).normal(size=(2, 3, 10))
        layer = layers.UniMixing(block_size=6)
        outputs = layer(x)
        local, mixing = (to_numpy(m) for m in layer.matrices())
        self.assertAllClose(outputs, uni_mixing(x, local, mixing), atol=1e-5)

    @parameterized.parameters((4, 8), (3, 9), (2, 6))
    def test_permutation_logits_are_head_mixing(self, num_tokens, dim):
        width = dim // num_tokens
        layer = layers.UniMixing(block_size=width)
        layer.build((None, num_tokens, dim))
        blocks = np.arange(num_tokens**2).reshape(num_tokens, num_tokens)
        permutation = np.eye(num_tokens**2)[blocks.T.ravel()]
        layer.global_logits.assign(50 * permutation)
        layer.local_logits.assign(
            np.broadcast_to(50 * np.eye(width), (num_tokens**2, width, width))
        )
        x = np.random.default_rng(0).normal(size=(2, 3, num_tokens, dim))
        x = x.astype("float32")
        self.assertAllClose(layer(x), layers.HeadMixing()(x), atol=0, rtol=0)

    def test_matrices(self):
        layer = layers.UniMixing(block_size=4)
        layer.build((None, 8, 32))
        for matrices in layer.matrices():
            matrices = to_numpy(matrices)
            self.assertAllClose(matrices.sum(-1), 1, atol=1e-5)
            self.assertAllClose(matrices.sum(-2), 1, atol=1e-5)
            self.assertAllClose(matrices, np.swapaxes(matrices, -1, -2))

    def test_starts_between_uniform_and_fixed(self):
        """The number of blocks that a block reads, as exp(entropy)."""
        layer = layers.UniMixing(block_size=4)
        layer.build((None, 64, 64))  # 1,024 blocks

        def reads(temperature):
            matrix = to_numpy(layer.matrices(temperature)[1])
            log = np.log(np.maximum(matrix, 1e-30))
            return np.exp(-(matrix * log).sum(-1)).mean()

        self.assertBetween(reads(1.0), 950, 1_015)
        self.assertBetween(reads(0.05), 8, 60)

    def test_anneals_by_training_steps(self):
        x = np.ones((2, 4, 8), "float32")
        layer = layers.UniMixing(anneal_steps=4)
        layer.build(x.shape)
        layer(x)
        self.assertAllClose(layer.temperature(), 1.0)
        seen = []
        for _ in range(6):
            seen.append(float(layer.temperature()))
            layer(x, training=True)
        expected = [1.0, 0.7625, 0.525, 0.2875, 0.05, 0.05]
        self.assertAllClose(seen, expected, atol=1e-6)
        # A step uses the temperature that it finds.
        layer.step.assign(2.0)
        cold = sinkhorn(to_numpy(layer.global_logits), 0.525)
        self.assertAllClose(layer.matrices()[1], cold, atol=1e-5)
        outputs = layer(x, training=True)
        self.assertAllClose(
            layer.matrices(0.2875)[1], layer.matrices()[1], atol=1e-6
        )
        layer.step.assign(2.0)
        self.assertAllClose(layer(x), outputs)

    def test_the_first_plan_counts(self):
        x = np.ones((2, 4, 8), "float32")
        layer = layers.UniMixing(start_temperature=0.5)
        layer.build(x.shape)
        # Steps before the plan are no part of it.
        layer.step.assign(3.0)
        self.assertFalse(layer.planned)
        self.assertAllClose(layer.temperature(), 0.5)
        layer.plan(500)
        self.assertTrue(layer.planned)
        self.assertAllClose(layer.temperature(), 0.5)
        # Nor does a plan count that no step has followed.
        layer.plan(50)  # A fifth of them.
        layer.step.assign(3.0)
        self.assertAllClose(layer.temperature(), 0.5 - 0.45 * 0.3)
        layer.plan(500)
        self.assertAllClose(layer.temperature(), 0.5 - 0.45 * 0.3)
        layer = layers.UniMixing(anneal_steps=5)
        layer.build(x.shape)
        layer.plan(10)
        layer.step.assign(2.5)
        self.assertAllClose(layer.temperature(), 0.525)

    def test_the_temperature_is_saved(self):
        inputs = keras.Input((4, 8))
        model = keras.Model(inputs, layers.UniMixing(anneal_steps=4)(inputs))
        model.compile("sgd", "mse")
        x = np.random.default_rng(0).normal(size=(6, 4, 8)).astype("float32")
        model.fit(x, x, batch_size=3, verbose=0)
        self.assertAllClose(model.layers[1].temperature(), 0.525)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertAllClose(loaded.layers[1].temperature(), 0.525)
        self.assertAllClose(loaded(x), model(x))

    def test_fold(self):
        x = np.random.default_rng(0).normal(size=(2, 4, 8)).astype("float32")
        layer = layers.UniMixing()
        outputs = layer(x)
        layer.fold()
        self.assertAllClose(layer(x), outputs)
        layer.global_logits.assign(to_numpy(layer.global_logits) * 3)
        self.assertAllClose(layer(x), outputs)
        layer.unfold()
        self.assertGreater(np.abs(to_numpy(layer(x)) - outputs).max(), 1e-3)

    def test_no_matrix_of_the_full_width(self):
        layer = layers.UniMixing(block_size=16)
        layer.build((None, 16, 64))
        x = ops.ones((3, 16, 64))
        largest = max(tensor_sizes(layer, x))
        self.assertEqual(largest, 64 * 16 * 16)  # the local matrices
        # Nothing but the tokens grows with the batch.
        x = ops.ones((100, 16, 64))
        self.assertEqual(max(tensor_sizes(layer, x)), 100 * 1024)

    def test_counts_in_half_precision(self):
        """bfloat16 has no 257."""
        layer = layers.UniMixing(dtype="mixed_bfloat16", anneal_steps=1_000)
        x = np.ones((2, 4, 8), "float32")
        layer(x)
        layer.step.assign(300.0)
        layer(x, training=True)
        self.assertAllClose(layer.step, 301.0)
        self.assertAllClose(layer.temperature(), 1 - 0.95 * 0.301)

    def test_logits_stay_float32(self):
        layer = layers.UniMixing(dtype="mixed_bfloat16")
        layer.build((None, 4, 16))
        for matrix in layer.matrices():
            dtype = keras.backend.standardize_dtype(matrix.dtype)
            self.assertEqual(dtype, "float32")

    def test_errors(self):
        with self.assertRaisesRegex(
            ValueError, r"4 \* 6 = 24. Nearest legal sizes: \[4, 6\]"
        ):
            layers.UniMixing(block_size=5).build((None, 4, 6))
        with self.assertRaisesRegex(ValueError, r"legal sizes: \[24\]"):
            layers.UniMixing(block_size=25).build((None, 4, 6))
        for name in ("block_size", "num_iterations", "anneal_steps"):
            for value in (0, 2.0, "4", True):
                with self.assertRaisesRegex(
                    ValueError, f"`{name}` must be a positive integer"
                ):
                    layers.UniMixing(**{name: value})
        for name in ("start_temperature", "end_temperature", "stddev"):
            for value in (-1.0, "1", float("inf"), float("nan"), 1e5):
                with self.assertRaisesRegex(
                    ValueError, f"`{name}` must be a number between"
                ):
                    layers.UniMixing(**{name: value})
        with self.assertRaisesRegex(ValueError, "must not rise"):
            layers.UniMixing(start_temperature=0.1, end_temperature=0.2)
        for name in ("symmetric", "shared_local"):
            with self.assertRaisesRegex(ValueError, "must be True or False"):
                layers.UniMixing(**{name: "False"})
        layer = layers.UniMixing()
        for shape in ((4,), (None, None, 8), (None, 4, None)):
            with self.assertRaisesRegex(ValueError, "both numbers must be kn"):
                layer.build(shape)
        layer = layers.UniMixing()
        layer(np.ones((2, 8, 16)))
        with self.assertRaisesRegex(ValueError, "axis -2 .* have value 8"):
            layer(np.ones((2, 4, 16)))
        with self.assertRaisesRegex(ValueError, "`temperature` must be a num"):
            layer.matrices(0.0)
        with self.assertRaisesRegex(ValueError, "`run_steps` must be a pos"):
            layer.plan(0)

    def test_integers(self):
        ones = np.ones((2, 4, 8), "int32")
        self.assertAllClose(layers.UniMixing()(ones), ones, atol=1e-5)

    def test_scale_at_initialization(self):
        """Averaging: a mixed token is small, never large."""
        x = np.random.default_rng(0).normal(size=(50, 16, 32))
        layer = layers.UniMixing()
        self.assertBetween(to_numpy(layer(x)).std(), 0.02, 0.5)
        randomize_weights(layer)
        self.assertBetween(to_numpy(layer(x)).std(), 0.02, 0.5)
