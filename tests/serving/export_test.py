import os
import re
import subprocess
import sys
import unittest

import keras
import numpy as np

import keras_unirec as ku
from tests.small_log import small_frame
from tests.small_log import small_schema
from tests.test_case import TestCase

# What a server does: TensorFlow, the folder, raw columns.
SERVER = """
import sys
sys.modules["keras_unirec"] = None  # Importing it is an error.
import numpy as np
import tensorflow as tf

folder = sys.argv[1]
served = tf.saved_model.load(folder + "/1").signatures
raw = dict(np.load(folder + "/raw.npz"))
raw = {name: tf.constant(value) for name, value in raw.items()}

def call(name, inputs):
    names = served[name].structured_input_signature[1]
    return served[name](**{key: inputs[key] for key in names})

outputs = call("serving_default", raw)
state = call("encode_user", raw)
halves = call("score_items", {**raw, **state})
results = {"whole/" + name: value.numpy() for name, value in outputs.items()}
for name, value in halves.items():
    results["halves/" + name] = value.numpy()
results["signatures"] = sorted(served)
np.savez(folder + "/served.npz", **results)
"""


@unittest.skipIf(
    keras.backend.backend() != "tensorflow", "Export needs TensorFlow."
)
class ExportTest(TestCase):
    def serve(self, model, raw, **kwargs):
        """Exports, and scores raw columns in a fresh process."""
        folder = self.get_temp_dir()
        model.export(f"{folder}/1", **kwargs)
        self.assertTrue(os.path.exists(f"{folder}/1/schema.json"))
        raw = {
            # Strings as bytes: no pickles between the two processes.
            name: np.char.encode(value.astype("U"), "utf-8")
            if value.dtype == object
            else value
            for name, value in raw.items()
        }
        np.savez(f"{folder}/raw.npz", **raw)
        subprocess.run([sys.executable, "-c", SERVER, folder], check=True)
        return dict(np.load(f"{folder}/served.npz"))

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

    def test_mixing_matrices_are_constants(self):
        """No Sinkhorn iteration is served, at the temperature of the model."""
        import tensorflow as tf

        frame = small_frame()
        schema = small_schema(frame)
        model = ku.applications.load("unimixer_tiny", schema, anneal_steps=4)
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
