import os
import re
import subprocess
import sys
import unittest

import keras
import numpy as np

import keras_unirec as ku
from tests.small_log import small_frame
from tests.small_log import small_requests
from tests.small_log import small_schema
from tests.test_case import TestCase

# What a server does: TensorFlow, the folder, raw columns.
SERVER = """
import sys
sys.modules["keras_unirec"] = None  # Importing it is an error.
import numpy as np
import tensorflow as tf

for folder in sys.argv[1:]:
    served = tf.saved_model.load(folder + "/1").signatures
    raw = dict(np.load(folder + "/raw.npz"))
    raw = {name: tf.constant(value) for name, value in raw.items()}

    def call(name, inputs):
        names = served[name].structured_input_signature[1]
        return served[name](**{key: inputs[key] for key in names})

    results = {"signatures": sorted(served)}
    for suffix in ("", "_xla"):
        if "encode_user" + suffix in served:
            outputs = call("serving_default" + suffix, raw)
            state = call("encode_user" + suffix, raw)
            halves = call("score_items" + suffix, {**raw, **state})
            for name in outputs:
                results[f"whole{suffix}/{name}"] = outputs[name].numpy()
                results[f"halves{suffix}/{name}"] = halves[name].numpy()
    np.savez(folder + "/served.npz", **results)
"""


@keras.saving.register_keras_serializable(package="tests")
class Unnamed(keras.layers.Layer):
    """A mixer whose sublayer Keras names, another way each time."""

    def build(self, input_shape):
        self.dense = keras.layers.Dense(input_shape[-1])
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@unittest.skipIf(
    keras.backend.backend() != "tensorflow", "Export needs TensorFlow."
)
class ExportTest(TestCase):
    def serve(self, model, raw, **kwargs):
        """Exports, and scores raw columns in a fresh process."""
        return self.serve_all([(model, kwargs)], raw)[0]

    def serve_all(self, models, raw):
        """The same for pairs of a model and arguments of its export."""
        raw = {
            # Strings as bytes: no pickles between the two processes.
            name: np.char.encode(value.astype("U"), "utf-8")
            if value.dtype == object
            else value
            for name, value in raw.items()
        }
        folders = [self.get_temp_dir() for _ in models]
        for folder, (model, kwargs) in zip(folders, models):
            model.export(f"{folder}/1", **kwargs)
            self.assertTrue(os.path.exists(f"{folder}/1/schema.json"))
            self.assertFalse(os.path.exists(f"{folder}/1.partial"))
            np.savez(f"{folder}/raw.npz", **raw)
        subprocess.run([sys.executable, "-c", SERVER, *folders], check=True)
        return [dict(np.load(f"{folder}/served.npz")) for folder in folders]

    def test_fresh_process(self):
        frame = small_frame()
        schema = small_schema(frame)
        model = ku.applications.load("mixformer_tiny", schema)
        model.compile("sgd")
        data = ku.data.from_pandas(frame, schema, batch_size=32, shuffle=True)
        model.fit(data, verbose=0)

        # Values that training never saw are served, as unknown.
        new = small_frame(seed=1)
        new.loc[3, "city"] = "Bodø"
        expected = ku.predict(model, new)
        served = self.serve(model, ku.serving.raw_inputs(new, schema))
        self.assertEqual(
            list(served["signatures"]),
            ["encode_user", "score_items", "serving_default"],
        )
        for label in schema.label_names:
            for half in ("whole", "halves"):
                self.assertAllClose(
                    served[f"{half}/{label}"][:, 0], expected[label], atol=1e-5
                )

    def test_every_application(self):
        """Both halves, micro-batches and XLA equal `predict`."""
        frame, schema = small_requests()
        names = ku.applications.list_models("*_tiny")
        quick = {
            "unimixer_tiny": ku.layers.UniMixing(num_iterations=3),
            "unimixer_lite_tiny": ku.layers.UniMixingLite(num_iterations=3),
        }
        parts = {name: {"mixer": mixer} for name, mixer in quick.items()}
        models = {
            name: ku.applications.load(name, schema, **parts.get(name, {}))
            for name in names
        }
        # 4 candidates: two micro-batches, of which one is short. Compiled
        # programs are few: one application has them all.
        arguments = {name: {"micro_batch_size": 3} for name in names}
        arguments["ui_mixformer_tiny"]["xla_signatures"] = True
        arguments["ui_mixformer_tiny"]["kv_mode"] = "projected"
        served = self.serve_all(
            [(model, arguments[name]) for name, model in models.items()],
            ku.serving.raw_inputs(frame, schema, requests=True),
        )
        for (name, model), outputs in zip(models.items(), served):
            expected = ku.predict(model, frame)
            suffixes = ("",)
            if "xla_signatures" in arguments[name]:
                suffixes = ("", "_xla")
            self.assertLen(outputs["signatures"], 3 * len(suffixes))
            for suffix in suffixes:
                for half in ("whole", "halves"):
                    for label in schema.label_names:
                        scores = outputs[f"{half}{suffix}/{label}"]
                        self.assertEqual(scores.shape, (16, 4))
                        self.assertAllClose(
                            scores.ravel(), expected[label], atol=1e-5
                        )

    def test_any_number_of_candidates(self):
        import tensorflow as tf

        frame, schema = small_requests()
        model = ku.applications.load("ui_mixformer_tiny", schema)
        folder = self.get_temp_dir()
        model.export(f"{folder}/1", micro_batch_size=5, xla_signatures=True)
        loaded = tf.saved_model.load(f"{folder}/1")
        raw = ku.serving.raw_inputs(frame, schema, requests=True)
        items = ("video_id", "price", "genres", "genres_length")
        for number in (0, 1, 5, 11, 40):
            some = {
                key: np.concatenate([value] * 10, axis=1)[:2, :number]
                if key in items
                else value[:2]
                for key, value in raw.items()
            }
            some = {k: tf.constant(v) for k, v in some.items()}
            outputs = loaded.signatures["serving_default"](**some)["is_click"]
            self.assertEqual(outputs.shape, (2, number))
            # The same four candidates again and again.
            again = [np.resize(row[:4], number) for row in outputs.numpy()]
            self.assertAllClose(outputs, again, atol=1e-6)
            if number < 11:
                xla = loaded.signatures["serving_default_xla"](**some)
                self.assertAllClose(xla["is_click"], outputs, atol=1e-5)

    def test_unequal_inputs_are_named(self):
        import tensorflow as tf

        frame, schema = small_requests()
        model = ku.applications.load("rankmixer_tiny", schema)
        folder = self.get_temp_dir()
        model.export(f"{folder}/1")
        signatures = tf.saved_model.load(f"{folder}/1").signatures
        raw = ku.serving.raw_inputs(frame, schema, requests=True)
        raw = {key: tf.constant(value) for key, value in raw.items()}
        names = signatures["encode_user"].structured_input_signature[1]
        state = signatures["encode_user"](**{k: raw[k] for k in names})
        for name, inputs, text in (
            ("serving_default", {"city": raw["city"][:1]}, "city"),
            ("serving_default", {"price": raw["price"][:, :1]}, "price"),
            (
                "score_items",
                {"state_context": state["state_context"][:1]},
                "state_context",
            ),
            (
                "score_items",
                {"state_origin": state["state_origin"] + 1},
                None,
            ),
        ):
            given = {**raw, **state, **inputs}
            names = signatures[name].structured_input_signature[1]
            message = f"the same number.*{text}"
            if text is None:
                message = "another version of the model"
            with self.assertRaisesRegex(
                tf.errors.InvalidArgumentError, message
            ):
                signatures[name](**{key: given[key] for key in names})

    def test_bad_arguments(self):
        model = ku.applications.load("rankmixer_tiny", small_schema())
        folder = f"{self.get_temp_dir()}/1"
        for arguments, message in (
            ({"micro_batch_size": 0}, "`micro_batch_size` must be an integer"),
            ({"xla_signatures": 1}, "`xla_signatures` must be True or False"),
            (
                {"micro_batch_size": None, "xla_signatures": True},
                "`xla_signatures` need",
            ),
            ({"warmup": [{"city": ["Oslo"]}]}, "Missing inputs"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                model.export(folder, **arguments)
            self.assertFalse(os.path.exists(folder))
            self.assertFalse(os.path.exists(f"{folder}.partial"))

    def test_nothing_else_is_replaced(self):
        model = ku.applications.load("rankmixer_tiny", small_schema())
        folder = self.get_temp_dir()
        os.makedirs(f"{folder}/exported/1")
        open(f"{folder}/exported/1/mine.txt", "w").close()
        open(f"{folder}/file", "w").close()
        os.symlink(f"{folder}/exported", f"{folder}/link")
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        for path in (
            *("exported", "exported/1", "file", "link", ".", folder, ""),
            *("gs://bucket/1", 3),
        ):
            with self.assertRaisesRegex(ValueError, "`filepath` must be"):
                model.export(path)
        self.assertEqual(sorted(os.listdir()), ["exported", "file", "link"])
        self.assertEqual(os.listdir("exported/1"), ["mine.txt"])
        # An earlier export is, and nothing of it stays.
        model.export("exported/2/")
        open("exported/2/stale.txt", "w").close()
        model.export("exported/2")
        self.assertEqual(sorted(os.listdir("exported")), ["1", "2"])
        self.assertNotIn("stale.txt", os.listdir("exported/2"))

    def test_names_of_every_kind(self):
        """A history named as its column, and a column named `self`."""
        frame = small_frame().rename(columns={"user_id": "self"})
        watched = ku.Categorical("hist_video_id", share_with="video_id")
        schema = ku.Schema(
            user=[ku.Categorical("self", 20, 8)],
            item=[ku.Categorical("video_id", 30, 16)],
            sequences=[ku.Sequence("hist_video_id", 8, [watched])],
            labels=[ku.Label("is_click")],
        ).adapt(frame)
        model = ku.applications.load("rankmixer_tiny", schema)
        served = self.serve(model, ku.serving.raw_inputs(frame, schema))
        self.assertAllClose(
            served["whole/is_click"][:, 0],
            ku.predict(model, frame)["is_click"],
            atol=1e-5,
        )

    def test_kv_mode_needs_names(self):
        model = ku.applications.load(
            "mixformer_tiny", small_schema(), mixer=Unnamed()
        )
        with self.assertRaisesRegex(ValueError, "name every sublayer"):
            model.export(f"{self.get_temp_dir()}/1", kv_mode="projected")

    def test_mixing_matrices_are_constants(self):
        """No Sinkhorn iteration is served, at the temperature of the model."""
        import tensorflow as tf

        frame = small_frame()
        schema = small_schema(frame)
        mixer = ku.layers.UniMixing(anneal_steps=4)
        model = ku.applications.load("unimixer_tiny", schema, mixer=mixer)
        for mixing in model.mixings:
            mixing.step.assign(3.0)
        expected = ku.predict(model, frame)
        served = self.serve(model, ku.serving.raw_inputs(frame, schema))
        for label in schema.label_names:
            self.assertAllClose(
                served[f"whole/{label}"][:, 0], expected[label], atol=1e-5
            )
        # The model itself goes on training.
        before = model.mixings[0].matrices()[1]
        model.mixings[0].step.assign(4.0)
        change = model.mixings[0].matrices()[1] - before
        self.assertGreater(float(keras.ops.max(keras.ops.abs(change))), 1e-3)

        folder = self.get_temp_dir()
        model.export(f"{folder}/1")
        signatures = tf.saved_model.load(f"{folder}/1").signatures
        for name in ("serving_default", "score_items"):
            functions = signatures[name].graph.as_graph_def().library.function
            types = [
                node.op
                for function in functions
                for node in function.node_def
                if re.search(r"/mixer(_\d+)?/", node.name)
            ]
            self.assertEqual(
                sorted(kind for kind in types if "MatMul" in kind),
                ["BatchMatMulV2"] * 2 + ["MatMul"] * 2,
            )
            # What logits and iterations would need.
            self.assertFalse(
                {"Softmax", "Log", "Reciprocal", "RealDiv", "Max", "Exp"}
                & set(types)
            )
            self.assertNotIn("ReadVariableOp", types)

    def test_a_failed_export_leaves_no_constants(self):
        model = ku.applications.load("unimixer_tiny", small_schema())

        def fail(*args, **kwargs):
            raise RuntimeError

        model.item_model.call = fail
        with self.assertRaises(RuntimeError):
            model.export(f"{self.get_temp_dir()}/1")
        self.assertIsNone(model.mixings[0]._folded)
        with self.assertRaisesRegex(ValueError, "`filepath` must be the path"):
            model.export(None)

    def test_state_goes_on_by_name(self):
        # A signature allows fewer characters than the names of histories.
        frame = small_frame()
        watched = ku.Categorical("hist_video_id", share_with="video_id")
        schema = ku.Schema(
            user=[ku.Categorical("user_id", 20, 8)],
            item=[ku.Categorical("video_id", 30, 16)],
            sequences=[ku.Sequence("my hist.1", 8, [watched])],
            labels=[ku.Label("is_click")],
        ).adapt(frame)
        model = ku.applications.load("hyformer_tiny", schema)
        expected = ku.predict(model, frame)["is_click"]
        raw = ku.serving.raw_inputs(frame, schema)
        for kv_mode in (None, "projected"):
            served = self.serve(model, raw, kv_mode=kv_mode)
            for half in ("whole", "halves"):
                self.assertAllClose(
                    served[f"{half}/is_click"][:, 0], expected, atol=1e-5
                )
        model = ku.applications.load("rankmixer_tiny", schema)
        with self.assertRaisesRegex(ValueError, "has no `kv_mode`"):
            model.export(self.get_temp_dir(), kv_mode="projected")

    def test_missing_values(self):
        """ "" is missing in training, in `predict` and in the export."""
        frame = small_frame()
        frame["city"] = ["", None, "Oslo", "Bergen"] * 16
        frame["genres"] = [[""], ["a", None], ["", "b"], None] * 16
        schema = small_schema(frame)
        self.assertNotIn("", schema.feature("city").values)
        model = ku.applications.load("mixformer_tiny", schema)
        expected = ku.predict(model, frame)
        folder = self.get_temp_dir()
        frame.to_parquet(f"{folder}/rows.parquet")
        self.assertAllClose(
            ku.predict(model, f"{folder}/rows.parquet"), expected, atol=1e-6
        )
        raw = ku.serving.raw_inputs(frame, schema)
        self.assertEqual(raw["city"][:2].tolist(), ["", ""])
        served = self.serve(model, raw)
        for label in schema.label_names:
            self.assertAllClose(
                served[f"whole/{label}"][:, 0], expected[label], atol=1e-5
            )

    def test_values_are_never_an_error(self):
        import tensorflow as tf

        frame = small_frame(8)
        schema = small_schema(frame)
        model = ku.applications.load("mixformer_tiny", schema)
        folder = self.get_temp_dir()
        model.export(f"{folder}/1")
        loaded = tf.saved_model.load(f"{folder}/1")
        raw = ku.serving.raw_inputs(frame, schema)

        def serve(**changed):
            return loaded.signatures["serving_default"](
                **{k: tf.constant(v) for k, v in {**raw, **changed}.items()}
            )["is_click"].numpy()

        # No request has an event, whatever the lengths say.
        empty = {k: v[:, :0] for k, v in raw.items() if k.startswith("hist_")}
        nothing = frame.copy()
        for name in empty:
            nothing[name] = [[] for _ in range(8)]
        zeros = np.zeros(8, "int64")
        expected = ku.predict(model, nothing)["is_click"]
        self.assertAllClose(
            serve(**empty, watched_length=zeros)[:, 0], expected, atol=1e-5
        )
        shorter = raw["hist_click"][:, :1]
        for changed in (
            empty,
            {"hist_click": shorter},
            {"watched_length": zeros - 5},
            {"watched_length": zeros + 10**9},
            {"genres_length": raw["genres_length"] + 7},
            {"price": np.full((8, 1), np.inf, "float32")},
            {"time_ms": zeros + np.iinfo("int64").min},
            {"video_id": zeros[:, None] - 3},
        ):
            outputs = serve(**changed)
            self.assertTrue(((outputs > 0) & (outputs < 1)).all(), changed)

    def test_names(self):
        self.assertEqual(
            ku.serving.signature_names(["user id", "1st", "tab"]),
            {"user id": "user_id", "1st": "arg_1st", "tab": "tab"},
        )
        names = ku.serving.signature_names(["город", "канал"])
        self.assertEqual(len(set(names.values())), 2)
        self.assertTrue(all(name.isascii() for name in names.values()))
        with self.assertRaisesRegex(ValueError, "`a b` and `a.b`"):
            ku.serving.signature_names(["a b", "a.b"])

    def test_bfloat16(self):
        frame = small_frame()
        schema = small_schema(frame)
        model = ku.applications.load(
            "mixformer_tiny", schema, dtype="mixed_bfloat16"
        )
        expected = ku.predict(model, frame)
        served = self.serve(model, ku.serving.raw_inputs(frame, schema))
        for label in schema.label_names:
            self.assertAllClose(
                served[f"whole/{label}"][:, 0], expected[label], atol=1e-2
            )
