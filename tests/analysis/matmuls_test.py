"""The walk over matrix products, on layers whose counts are known by hand."""

import keras
import pytest
from absl.testing import parameterized
from keras import ops

from keras_unirec.analysis import _matmuls
from tests.test_case import TestCase

on_tensorflow = keras.backend.backend() == "tensorflow"


def count(function, *shapes, variables=(), differentiate=None):
    inputs = [keras.KerasTensor(shape, "float32") for shape in shapes]
    found = _matmuls.walk(
        lambda tensors: function(*tensors),
        list(variables),
        inputs,
        differentiate=differentiate,
    )
    return sum(macs for _, macs in found)


class MatmulsTest(TestCase):
    @parameterized.parameters(
        ("ab,bc->ac", (3, 5), (5, 7), 3 * 5 * 7),
        ("ab,cb->ac", (3, 5), (7, 5), 3 * 5 * 7),
        ("rcnd,end->rcne", (2, 3, 4, 5), (6, 4, 5), 2 * 3 * 4 * 5 * 6),
        ("rcne,rte->rcnt", (2, 3, 4, 5), (2, 6, 5), 2 * 3 * 4 * 5 * 6),
        ("...nd,ndk->...nk", (2, 3, 4, 5), (4, 5, 6), 2 * 3 * 4 * 5 * 6),
        ("...ld,...l->...d", (2, 3, 4), (2, 3), 2 * 3 * 4),
        ("a...b,b->a...", (2, 3, 4, 5), (5,), 2 * 3 * 4 * 5),
    )
    def test_einsum(self, equation, left, right, macs):
        self.assertEqual(
            count(lambda a, b: ops.einsum(equation, a, b), left, right), macs
        )

    @parameterized.parameters(
        ((3, 5), (5, 7), 3 * 5 * 7),
        ((2, 3, 5), (5, 7), 2 * 3 * 5 * 7),
        ((2, 3, 5), (2, 5, 7), 2 * 3 * 5 * 7),
        ((4, 1, 3, 5), (2, 5, 7), 4 * 2 * 3 * 5 * 7),
    )
    def test_matmul(self, left, right, macs):
        self.assertEqual(count(ops.matmul, left, right), macs)

    def test_elementwise_work_is_not_counted(self):
        def function(x):
            y = ops.transpose(ops.softmax(x) * x, (1, 0))
            return ops.sum(ops.concatenate([y, y], axis=0))

        self.assertEqual(count(function, (4, 5)), 0)

    def test_backward(self):
        first = keras.layers.Dense(7, use_bias=False)
        second = keras.layers.Dense(2, use_bias=False)
        first.build((None, 5))
        second.build((None, 7))
        weights = [first.kernel, second.kernel]
        macs = count(
            lambda x: second(ops.tanh(first(x))),
            (3, 5),
            variables=weights,
            differentiate=weights,
        )
        # Forward; by weight; by activation, which the first does not need.
        self.assertEqual(macs, 3 * (3 * 5 * 7 + 3 * 7 * 2) - 3 * 5 * 7)

    def test_a_nested_function_counts_under_its_layer(self):
        class Compiled(keras.layers.Layer):
            def call(self, x):
                if on_tensorflow:
                    import tensorflow as tf

                    return tf.function(ops.matmul, jit_compile=True)(x, x)
                import jax

                return jax.jit(ops.matmul)(x, x)

        layer = Compiled(name="compiled")
        found = _matmuls.walk(layer, [], keras.KerasTensor((4, 4), "float32"))
        self.assertEqual(sum(macs for _, macs in found), 64)
        self.assertEqual({scope[0] for scope, _ in found}, {"compiled"})

    def test_of_a_condition_the_dearer_branch_counts(self):
        def function(x, y):
            return ops.cond(
                ops.sum(x) > 0,
                lambda: ops.matmul(x, y),
                lambda: ops.matmul(x[:, :1], y[:1]),
            )

        self.assertEqual(count(function, (3, 5), (5, 7)), 3 * 5 * 7)

    def test_a_loop_with_products_is_refused(self):
        def function(x):
            return ops.while_loop(
                lambda x: ops.sum(x) > 0, lambda x: (ops.matmul(x, x),), (x,)
            )

        with self.assertRaisesRegex(NotImplementedError, "A loop"):
            count(function, (3, 3))

    def test_a_loop_over_an_axis_counts_its_rounds(self):
        def function(x, y):
            return ops.map(lambda row: ops.matmul(row, y), x)

        self.assertEqual(count(function, (7, 3, 5), (5, 2)), 7 * 3 * 5 * 2)

    def test_a_loop_without_products_is_fine(self):
        def function(x):
            x = ops.fori_loop(0, 5, lambda i, x: x / ops.sum(x), x)
            return ops.matmul(x, x)

        self.assertEqual(count(function, (3, 3)), 27)

    def test_convolutions_are_refused(self):
        layer = keras.layers.Conv2D(2, 3)
        layer.build((1, 8, 8, 3))
        with self.assertRaisesRegex(NotImplementedError, "Convolutions"):
            count(layer, (1, 8, 8, 3), variables=layer.variables)

    def test_layers_of_one_name_prefix_stay_apart(self):
        """Scopes are entered twice; numbers in names are no such thing."""
        layers = [
            keras.layers.Dense(i + 2, use_bias=False, name=name)
            for i, name in enumerate(("dense", "dense_1", "dense_1_1"))
        ]
        for layer in layers:
            layer.build((None, 3))

        def function(x):
            return [layer(x) for layer in layers + layers]

        found = _matmuls.walk(
            function,
            [layer.kernel for layer in layers],
            keras.KerasTensor((1, 3), "float32"),
        )
        by_layer = {}
        for scope, macs in found:
            by_layer[scope[0]] = by_layer.get(scope[0], 0) + macs
        self.assertEqual(
            by_layer, {"dense": 12, "dense_1": 18, "dense_1_1": 24}
        )

    def test_names_that_are_no_scopes(self):
        layer = keras.layers.Dense(2, use_bias=False, name="prix (€)")
        layer.build((None, 3))
        found = _matmuls.walk(
            layer, layer.variables, keras.KerasTensor((1, 3), "float32")
        )
        self.assertEqual(found, [(("prix (€)",), 6)])


@pytest.mark.skipif(not on_tensorflow, reason="shapes of TensorFlow graphs")
def test_dynamic_shapes_are_refused():
    import tensorflow as tf

    layer = keras.layers.Dense(2)
    layer.build((None, 3))

    def function(x):
        rows = tf.where(x[:, 0] > 0)[:, 0]
        return layer(tf.gather(x, rows))

    with pytest.raises(ValueError, match="must be static"):
        count(function, (4, 3), variables=layer.variables)
