import numpy as np

import keras_unirec as ku
from tests.small_log import small_schema
from tests.test_case import TestCase
from tests.test_case import to_numpy


class MixingTest(TestCase):
    def load(self, name="unimixer_tiny", **overrides):
        return ku.applications.load(name, small_schema(), **overrides)

    def test_matrices(self):
        for name, overrides, layer in (
            ("unimixer_tiny", {}, "block_1/mixer"),
            ("unimixer_lite_tiny", {}, "block_0/mixer"),
            ("mixformer_tiny", {"mixer": "uni_mixing"}, "query_mixer_0/mixer"),
        ):
            with self.subTest(name=name):
                model = self.load(name, **overrides)
                matrices = ku.analysis.mixing_matrices(model)
                self.assertEqual(len(matrices), 2)
                for local, mixing in matrices.values():
                    self.assertAllClose(mixing.sum(-1), 1, atol=1e-5)
                    self.assertAllClose(local.sum(-1), 1, atol=1e-5)
                local, mixing = matrices[layer]
                self.assertEqual(local.shape[-2:], (4, 4))
                self.assertEqual(len(local), len(mixing))
                cold = ku.analysis.mixing_matrices(model, 0.05)[layer]
                self.assertGreater(cold[1].max(), mixing.max())
        mixing_layer = model.mixings[1]
        actual = ku.analysis.mixing_matrices(model)["query_mixer_1/mixer"]
        self.assertAllClose(actual[1], to_numpy(mixing_layer.matrices()[1]))

    def test_plot(self):
        path = f"{self.get_temp_dir()}/folder/mixing.png"
        model = self.load()
        figure = ku.analysis.plot_mixing(
            model, temperatures=[1.0, 0.05], num_local=2, path=path
        )
        titles = [axis.get_title() for axis in figure.axes]
        self.assertIn("block_1/mixer, temperature 0.05", titles)
        self.assertEqual(len(titles), 4 * 3)
        self.assertGreater(np.fromfile(path, "uint8").size, 1_000)
        model = self.load(mixer=ku.layers.UniMixing(shared_local=True))
        titles = [a.get_title() for a in ku.analysis.plot_mixing(model).axes]
        self.assertIn("all blocks", titles)
        self.assertIn("block_0/mixer, temperature 1", titles)

    def test_errors(self):
        for model in (self.load("rankmixer_tiny"), "unimixer_tiny", None):
            with self.assertRaisesRegex(ValueError, "ranking model with `Uni"):
                ku.analysis.plot_mixing(model)
        model = self.load()
        for temperature in (0, -1, "1", float("nan")):
            with self.assertRaisesRegex(ValueError, "`temperature` must be a"):
                ku.analysis.mixing_matrices(model, temperature)
        for arguments in (
            {"temperatures": 1.0},
            {"temperatures": []},
            {"num_local": -1},
            {"path": ""},
            {"path": self.get_temp_dir()},
        ):
            (name,) = arguments
            with self.assertRaisesRegex(ValueError, f"`{name}` must be"):
                ku.analysis.plot_mixing(model, **arguments)
