import keras
import numpy as np
from absl.testing import parameterized
from keras import ops

from keras_unirec import layers
from tests.layers.inputs import randomize_weights
from tests.layers.references import layer_norm
from tests.layers.references import normalize
from tests.layers.references import rms_norm
from tests.layers.references import silu
from tests.test_case import TestCase
from tests.test_case import to_numpy

STEPS = ("block_0", "block_1", "block_2")
# The arguments of each scheme, with the number of norms of two steps.
SCHEMES = [
    (layers.SiameseNorm, {}, 5),
    (layers.SiameseNorm, {"normalize_input": True, "scale_by_depth": True}, 7),
    (layers.PreNorm, {}, 2),
    (layers.PreNorm, {"final_norm": True}, 3),
    (layers.PreNorm, {"norm": "layer"}, 2),
    (layers.PostNorm, {}, 2),
    (layers.PostNorm, {"norm": "rms"}, 2),
    (layers.NoNorm, {}, 0),
    (layers.NoNorm, {"residual": False}, 0),
]


def reference(scheme, run, x):
    """What the steps make of `x`; `run(i, u)` is sublayer i."""
    norms = dict(scheme.norms)

    def norm(x, name):
        return normalize(x, norms.pop(name))

    if isinstance(scheme, layers.SiameseNorm):
        expected = _siamese(scheme, norm, run, x)
    else:
        for i, name in enumerate(STEPS):
            if isinstance(scheme, layers.PreNorm):
                x = x + run(i, norm(x, f"{name}_norm"))
            elif isinstance(scheme, layers.PostNorm):
                x = norm(x + run(i, x), f"{name}_norm")
            else:
                x = x + run(i, x) if scheme.residual else run(i, x)
        if getattr(scheme, "final_norm", False):
            x = norm(x, f"{scheme.name}_final_norm")
        expected = x
    assert not norms, f"norms that nothing reads: {norms}"
    return expected


def _siamese(scheme, norm, run, x):
    """UniMixer, eq. 19-20, and what the authors of SiameseNorm add."""
    y = x
    for i, name in enumerate(STEPS):
        u = x + norm(y, f"{name}_y_norm")
        if scheme.normalize_input:
            u = norm(u, f"{name}_input_norm")
        o = run(i, u)
        scale = np.sqrt(i + 1) if scheme.scale_by_depth else 1
        x, y = norm(x + o / scale, f"{name}_x_norm"), y + o
    return x + norm(y, f"{scheme.name}_y_norm")


def run_steps(scheme, x, blocks):
    streams = scheme.start(x)
    for block in blocks:
        streams = scheme.step(streams, block)
    return scheme.finish(streams)


def dense_blocks(num, **kwargs):
    return [keras.layers.Dense(8, name=STEPS[i], **kwargs) for i in range(num)]


class SchemeTest(TestCase):
    @parameterized.parameters(SCHEMES)
    def test_basics(self, cls, init_kwargs, num_norms):
        scheme = cls(name="residual", **init_kwargs)
        copy = cls.from_config(scheme.get_config())
        self.assertEqual(copy.get_config(), scheme.get_config())
        for name in init_kwargs:
            self.assertEqual(getattr(scheme, name), init_kwargs[name])
            self.assertIn(name, scheme.get_config())
        # As two steps of a functional model.
        x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
        inputs = keras.Input((3, 8))
        blocks = dense_blocks(2)
        model = keras.Model(inputs, run_steps(scheme, inputs, blocks))
        self.assertLen(scheme.norms, num_norms)
        paths = {weight.path for weight in scheme.weights}
        self.assertLen(paths, len(scheme.weights))
        randomize_weights(scheme)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertAllClose(loaded(x), model(x), atol=1e-5)
        self.assertAllClose(run_steps(scheme, x, blocks), model(x), atol=1e-5)
        for gradient in self.gradients(model, model, x):
            self.assertFinite(gradient)
            self.assertGreater(np.abs(gradient).max(), 0)

    @parameterized.parameters(SCHEMES)
    def test_equals_the_paper(self, cls, init_kwargs, num_norms):
        x = np.random.default_rng(0).normal(size=(2, 3, 8))
        scheme, blocks = cls(**init_kwargs), dense_blocks(3, activation="silu")
        run_steps(scheme, x, blocks)
        randomize_weights(scheme)

        def run(i, u):
            kernel, bias = to_numpy(blocks[i].kernel), to_numpy(blocks[i].bias)
            return silu(u @ kernel + bias)

        expected = reference(scheme, run, x)
        self.assertAllClose(run_steps(scheme, x, blocks), expected, atol=1e-5)
        # For a layer that runs its own steps.
        again = cls(name=scheme.name, **init_kwargs)
        again.build_steps(x.shape, STEPS)
        self.assertCountEqual(again.norms, scheme.norms)
        for name, norm in scheme.norms.items():
            again.norms[name].set_weights(norm.get_weights())
        outputs = again.apply(x, *blocks, names=STEPS)
        self.assertAllClose(outputs, expected, atol=1e-5)

    @parameterized.parameters(SCHEMES)
    def test_half_precision(self, cls, init_kwargs, num_norms):
        """Also of a sublayer whose dtype policy is another one."""
        x = ops.ones((2, 3, 8), "bfloat16")
        scheme = cls(dtype="mixed_bfloat16", **init_kwargs)
        blocks = dense_blocks(2, dtype="mixed_bfloat16")
        blocks.append(keras.layers.Dense(8, name="float32_block"))
        outputs = run_steps(scheme, x, blocks)
        dtype = keras.backend.standardize_dtype(outputs.dtype)
        self.assertEqual(dtype, "bfloat16")
        self.assertFinite(ops.cast(outputs, "float32"))
        for weight in scheme.weights:
            dtype = keras.backend.standardize_dtype(weight.dtype)
            self.assertEqual(dtype, "float32")

    def test_no_step(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 8))
        for scheme, expected in (
            (layers.SiameseNorm(), x + rms_norm(x)),
            (layers.PreNorm(), x),
            (layers.PreNorm(final_norm=True), rms_norm(x)),
            (layers.PreNorm("layer", final_norm=True), layer_norm(x)),
            (layers.PostNorm(), x),
            (layers.NoNorm(), x),
        ):
            self.assertAllClose(run_steps(scheme, x, []), expected, atol=1e-5)

    def test_two_passes_share_the_norms_of_a_name(self):
        x = np.random.default_rng(0).normal(size=(2, 3, 8))
        for cls in (layers.PreNorm, layers.PostNorm, layers.SiameseNorm):
            scheme = cls()
            run_steps(scheme, x, dense_blocks(2))
            norms = dict(scheme.norms)
            run_steps(scheme, x[:, :2], dense_blocks(2))
            self.assertEqual(dict(scheme.norms), norms)
            run_steps(scheme, x, dense_blocks(3))
            self.assertGreater(len(scheme.norms), len(norms))

    def test_streams(self):
        """One of each scheme but `SiameseNorm`, and the number of steps."""
        x = np.ones((2, 3, 8), "float32")
        for cls, num_streams in (
            (layers.PreNorm, 1),
            (layers.PostNorm, 1),
            (layers.NoNorm, 1),
            (layers.SiameseNorm, 2),
        ):
            scheme = cls()
            streams = scheme.start(x)
            for i, block in enumerate(dense_blocks(2)):
                self.assertLen(streams.tensors, num_streams)
                self.assertEqual(streams.depth, i)
                streams = scheme.step(streams, block)

    def test_errors(self):
        for cls in (layers.PreNorm, layers.PostNorm):
            for norm in ("pre_rms", None, [], 2):
                with self.assertRaisesRegex(
                    ValueError, r"`norm` must be one of .*Received: norm="
                ):
                    cls(norm)
        for cls, name in (
            (layers.PreNorm, "final_norm"),
            (layers.NoNorm, "residual"),
            (layers.SiameseNorm, "normalize_input"),
            (layers.SiameseNorm, "scale_by_depth"),
        ):
            with self.assertRaisesRegex(
                ValueError, f"`{name}` must be True or False"
            ):
                cls(**{name: "no"})
        x = np.ones((2, 3, 8), "float32")
        for cls, *_ in SCHEMES:
            with self.assertRaisesRegex(ValueError, "scheme is not called"):
                cls()(x)
        scheme = layers.NoNorm()
        with self.assertRaisesRegex(ValueError, "`name` must be given"):
            scheme.step(scheme.start(x), lambda x: x)
