import numpy as np

from keras_unirec import layers
from tests.layers import references
from tests.test_case import TestCase

NU, NG, D = 3, 5, 16


def masked(x, num_user_heads):
    """Eq. 10-11: the mask times the mixing of all heads."""
    num_heads, dim = x.shape[-2:]
    mask = np.ones((num_heads, dim))
    mask[:num_user_heads, num_user_heads * dim // num_heads :] = 0
    return mask * references.head_mixing(x)


class DecoupledHeadMixingTest(TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.user = rng.normal(size=(2, 1, NU, D)).astype("float32")
        self.items = rng.normal(size=(2, 4, NG, D)).astype("float32")

    def test_basics(self):
        arguments = {"num_user_heads": NU, "num_item_heads": NG}
        for inputs in (
            (2, 1, NU, D),
            {"inputs": (2, 4, NG, D), "context": (2, 1, NU, D)},
        ):
            self.run_layer_test(
                layers.DecoupledHeadMixing,
                init_kwargs=arguments,
                input_shape=inputs,
                expected_output_shape=(
                    inputs if isinstance(inputs, tuple) else inputs["inputs"]
                ),
                expected_num_trainable_weights=0,
            )

    def test_equals_the_paper(self):
        for num_user_heads in (1, 3, 4, 7):
            heads = np.random.default_rng(1).normal(size=(2, 4, 8, D))
            heads[:, :, :num_user_heads] = heads[:, :1, :num_user_heads]
            expected = masked(heads, num_user_heads)
            mixing = layers.DecoupledHeadMixing(
                num_user_heads, 8 - num_user_heads
            )
            user = heads[:, :1, :num_user_heads]
            items = heads[:, :, num_user_heads:]
            self.assertAllClose(
                mixing(user), expected[:, :1, :num_user_heads], atol=1e-6
            )
            self.assertAllClose(
                mixing(items, context=user),
                expected[:, :, num_user_heads:],
                atol=1e-6,
            )

    def test_nothing_is_multiplied(self):
        """Rows of the user are pieces of its heads, then zeros."""
        outputs = layers.DecoupledHeadMixing(NU, NG)(self.user)
        width = D // (NU + NG)
        self.assertAllClose(outputs[..., NU * width :], 0.0, atol=0)
        self.assertAllClose(
            outputs[:, :, 1, width : 2 * width],
            self.user[:, :, 1, width : 2 * width],
            atol=0,
        )

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "`num_item_heads` must be a"):
            layers.DecoupledHeadMixing(3, 0)
        mixing = layers.DecoupledHeadMixing(NU, NG)
        with self.assertRaisesRegex(ValueError, "3 or 5"):
            mixing.build((None, 4, D))
        user, items = self.user, self.items
        for inputs, context in (
            (items, None),
            (user, user),
            (items, user[:, :, :2]),
            (items, user[:, 0]),
        ):
            with self.assertRaisesRegex(ValueError, "heads of the user"):
                layers.DecoupledHeadMixing(NU, NG)(inputs, context=context)
        with self.assertRaisesRegex(ValueError, "must be divisible"):
            mixing.build((None, NU, D + 1))
