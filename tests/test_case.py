import json
import tempfile

import keras
import numpy as np
from absl.testing import parameterized
from keras import ops


class TestCase(parameterized.TestCase):
    """Shared checks; every test starts from the same seed."""

    def setUp(self):
        super().setUp()
        keras.utils.set_random_seed(0)

    def get_temp_dir(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def assertAllClose(self, actual, expected, atol=1e-6, rtol=1e-6):
        np.testing.assert_allclose(
            to_numpy(actual), to_numpy(expected), atol=atol, rtol=rtol
        )

    def assertFinite(self, x):
        self.assertTrue(np.isfinite(to_numpy(x)).all())

    def run_layer_test(
        self,
        cls,
        init_kwargs,
        input_shape,
        expected_output_shape,
        expected_num_trainable_weights,
        expected_num_parameters=None,
        supports_masking=True,
        call_kwargs=None,
        custom_objects=None,
    ):
        """Checks what every layer of the library promises.

        Config and `.keras` round trips, weights complete after `build`, output
        shapes with static and dynamic axes, no implicit mask out, gradients,
        `mixed_bfloat16`, and a jitted call.

        Args:
            input_shape: Shape of the input, or a dict from the names of the
                tensor arguments to shapes. All axes of an input but the last
                ones that appear in a weight may be dynamic; axis 0 always is.
            call_kwargs: Optional dict of more arrays, such as a mask.
        """
        one_input = not isinstance(input_shape, dict)
        shapes = {"inputs": input_shape} if one_input else input_shape
        rng = np.random.default_rng(0)
        inputs = {
            name: rng.normal(size=shape).astype("float32")
            for name, shape in shapes.items()
        }
        call_kwargs = call_kwargs or {}

        def call(layer, inputs, **kwargs):
            if one_input:
                return layer(inputs["inputs"], **kwargs)
            return layer(**inputs, **kwargs)

        # === Config ===
        layer = cls(**init_kwargs)
        config = layer.get_config()
        json.dumps(keras.saving.serialize_keras_object(layer))
        copy = cls.from_config(config)
        assert _plain(copy.get_config()) == _plain(config)
        for name in init_kwargs:
            assert hasattr(layer, name), f"`{name}` is not an attribute"
            assert name in config, f"`{name}` is not in the config"
        assert layer.supports_masking == supports_masking

        # === Weights ===
        if one_input:
            layer.build(input_shape)
        elif not hasattr(cls.build, "_is_default"):  # It has weights.
            layer.build(**{f"{k}_shape": v for k, v in shapes.items()})
        assert len(layer.trainable_weights) == expected_num_trainable_weights
        if expected_num_parameters is not None:
            assert layer.count_params() == expected_num_parameters
        num_weights = len(layer.weights)

        # === Outputs ===
        outputs = call(layer, inputs, **call_kwargs)
        assert len(layer.weights) == num_weights, "a call added weights"
        assert tuple(outputs.shape) == expected_output_shape
        assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
        assert getattr(outputs, "_keras_mask", None) is None
        self.assertFinite(outputs)
        computed = (
            layer.compute_output_shape(input_shape)
            if one_input
            else layer.compute_output_shape(
                **{f"{k}_shape": v for k, v in shapes.items()}
            )
        )
        assert tuple(computed) == expected_output_shape

        # === Functional model, dynamic batch axis, saving, jit ===
        def as_inputs(arrays):
            return {
                name: keras.Input(
                    array.shape[1:], dtype=array.dtype.name, name=name
                )
                for name, array in arrays.items()
            }

        symbolic = as_inputs(inputs)
        more = as_inputs(call_kwargs)
        model = keras.Model({**symbolic, **more}, call(layer, symbolic, **more))
        assert tuple(model.output_shape) == (None, *expected_output_shape[1:])
        arrays = {**inputs, **call_kwargs}
        self.assertAllClose(model(arrays), outputs, atol=1e-5)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path, custom_objects=custom_objects)
        self.assertAllClose(loaded(arrays), outputs, atol=1e-5)
        if keras.backend.backend() != "torch":
            model.compile(jit_compile=True)
            predicted = model.predict(arrays, verbose=0)
            self.assertAllClose(predicted, outputs, atol=1e-4)

        # === Gradients ===
        for gradient in self.gradients(
            layer, lambda x: call(layer, x, **call_kwargs), inputs
        ):
            self.assertFinite(gradient)

        # === Precision ===
        half = cls(**init_kwargs, dtype="mixed_bfloat16")
        outputs = call(half, inputs, **call_kwargs)
        assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
        self.assertFinite(ops.cast(outputs, "float32"))
        for weight in half.weights:
            assert keras.backend.standardize_dtype(weight.dtype) == "float32"

    def gradients(self, layer, function, inputs, convert=True):
        """Gradients of `sum(function(inputs) ** 2)`, which runs `layer`.

        Returns NumPy arrays: for each input (a dict, sorted by key, or one
        array), then for each trainable weight; tensors if not `convert`. An
        input or weight that is not used raises.
        """
        names = sorted(inputs) if isinstance(inputs, dict) else [None]
        arrays = [inputs if n is None else inputs[n] for n in names]

        def loss(arrays):
            tensors = dict(zip(names, arrays))
            outputs = function(tensors.get(None, tensors))
            return ops.sum(ops.square(ops.cast(outputs, "float32")))

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            arrays = [tf.convert_to_tensor(a) for a in arrays]
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                value = loss(arrays)
            weights = [w.value for w in layer.trainable_weights]
            result = tape.gradient(value, [*arrays, *weights])
        elif keras.backend.backend() == "jax":
            import jax

            def stateless(arrays, values):
                mapping = list(zip(layer.trainable_weights, values))
                with keras.StatelessScope(state_mapping=mapping):
                    return loss(arrays)

            values = [w.value for w in layer.trainable_weights]
            arrays = [ops.convert_to_tensor(a) for a in arrays]
            # One compilation instead of one for each operation.
            gradient = jax.jit(jax.grad(stateless, (0, 1)))
            by_input, by_weight = gradient(arrays, values)
            result = [*by_input, *by_weight]
        else:
            tensors = [
                ops.convert_to_tensor(a).requires_grad_() for a in arrays
            ]
            loss(tensors).backward()
            weights = [w.value for w in layer.trainable_weights]
            result = [x.grad for x in [*tensors, *weights]]
        assert all(g is not None for g in result), "unused input or weight"
        return [to_numpy(g) for g in result] if convert else result


def to_numpy(x):
    if not ops.is_tensor(x):
        return np.asarray(x)
    # As a tensor first: NumPy copies variables by a deprecated way.
    return ops.convert_to_numpy(ops.convert_to_tensor(x))


def _plain(config):
    """The config as JSON has it: lists for tuples."""
    return json.loads(json.dumps(config))
