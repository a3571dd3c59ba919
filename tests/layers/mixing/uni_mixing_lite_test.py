import numpy as np
from absl.testing import parameterized

from keras_unirec import layers
from tests.layers.references import sinkhorn
from tests.layers.references import uni_mixing
from tests.test_case import TestCase
from tests.test_case import to_numpy


class UniMixingLiteTest(TestCase):
    def test_basics(self):
        for init_kwargs, num_parameters in (
            ({}, 4 * 16 + 16 * 4 + 2 * 16 * 2),
            ({"num_bases": 2, "rank": 5}, 2 * 16 + 16 * 2 + 2 * 16 * 5),
            ({"block_size": 16}, 4 * 256 + 4 * 4 + 2 * 4),
        ):
            with self.subTest(**init_kwargs):
                self.run_layer_test(
                    layers.UniMixingLite,
                    # Few iterations are quick to trace.
                    init_kwargs={"num_iterations": 3, **init_kwargs},
                    input_shape=(2, 3, 4, 16),
                    expected_output_shape=(2, 3, 4, 16),
                    expected_num_trainable_weights=4,
                    expected_num_parameters=num_parameters + 2,
                )

    @parameterized.parameters(
        {}, {"num_bases": 3, "rank": 5}, {"block_size": 8, "symmetric": False}
    )
    def test_equals_the_paper(self, **init_kwargs):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 16))
        layer = layers.UniMixingLite(**init_kwargs)
        outputs = layer(x)
        omega, bases = to_numpy(layer.coefficients), to_numpy(layer.bases)
        local = np.stack(
            [
                sinkhorn(
                    sum(w * z for w, z in zip(weights, bases)),
                    symmetric=layer.symmetric,
                )
                for weights in omega
            ]
        )
        mixing = sinkhorn(
            to_numpy(layer.left) @ to_numpy(layer.right),
            symmetric=layer.symmetric,
        )
        self.assertAllClose(outputs, uni_mixing(x, local, mixing), atol=1e-5)

    def test_logits_at_initialization(self):
        """Of deviation 0.3, like those of `UniMixing`."""
        layer = layers.UniMixingLite(num_bases=8, rank=16)
        layer.build((None, 32, 32))  # 256 blocks
        self.assertBetween(to_numpy(layer._global_logits()).std(), 0.27, 0.33)
        self.assertBetween(to_numpy(layer._local_logits()).std(), 0.2, 0.4)

    def test_the_global_matrix_has_nearly_full_rank(self):
        """The paper's Figure 5: 128 blocks from rank 16."""
        layer = layers.UniMixingLite(block_size=6, rank=16, stddev=1.0)
        layer.build((None, 24, 32))
        for temperature in (1.0, 0.05):
            mixing = to_numpy(layer.matrices(temperature)[1])
            self.assertGreater(np.linalg.matrix_rank(mixing, tol=1e-4), 100)

    def test_anneals(self):
        x = np.ones((2, 4, 8), "float32")
        layer = layers.UniMixingLite(anneal_steps=2, end_temperature=0.5)
        layer.build(x.shape)
        layer(x, training=True)
        self.assertAllClose(layer.temperature(), 0.75)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "number of blocks, 16. Rec"):
            layers.UniMixingLite(rank=17).build((None, 4, 16))
        for name in ("num_bases", "rank", "block_size"):
            with self.assertRaisesRegex(ValueError, f"`{name}` must be a pos"):
                layers.UniMixingLite(**{name: 0})
