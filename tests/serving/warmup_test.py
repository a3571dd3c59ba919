import os
import sys
from unittest import mock

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import keras_unirec as ku
from tests.test_case import TestCase


class WarmupTest(TestCase):
    """On a hand-made model with the signatures of an export."""

    def export(self):
        user = tf.TensorSpec([None], tf.int64, "user")
        city = tf.TensorSpec([None], tf.string, "city")
        price = tf.TensorSpec([None, None], tf.float32, "price")
        state = tf.TensorSpec([None, 2], tf.float32, "state")

        def encode_user(user, city):
            columns = [user, tf.strings.length(city)]
            columns = [tf.cast(column, "float32") for column in columns]
            return {"state": tf.stack(columns, axis=1)}

        def score_items(state, price):
            logits = tf.reduce_sum(state, axis=1, keepdims=True) + price
            return {"click": tf.sigmoid(logits)}

        def serving_default(user, city, price):
            return score_items(encode_user(user, city)["state"], price)

        compiled = tf.function(score_items, jit_compile=True)
        module = tf.Module()
        signatures = {}
        for name, function, specs in (
            ("encode_user", encode_user, (user, city)),
            ("score_items", score_items, (state, price)),
            ("score_items_xla", compiled, (state, price)),
            ("serving_default", serving_default, (user, city, price)),
        ):
            function = tf.function(function)
            signatures[name] = function.get_concrete_function(*specs)
        path = f"{self.get_temp_dir()}/1"
        tf.saved_model.save(module, path, signatures=signatures)
        return path

    def raw(self, candidates=3):
        return {
            "user": np.array([4, 7]),
            "city": np.array(["Oslo", "Tromsø"], object),
            "price": np.ones((2, candidates), "float32"),
        }

    def read(self, path):
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            yield prediction_log_pb2.PredictionLog.FromString(record)

    def test_one_record_per_request_and_signature(self):
        folder = self.export()
        path = ku.serving.write_warmup(
            folder, [self.raw(), self.raw(candidates=5)], model_name="feed"
        )
        self.assertEqual(
            path, f"{folder}/assets.extra/tf_serving_warmup_requests"
        )
        (*requests,) = (log.predict_log.request for log in self.read(path))
        self.assertEqual({r.model_spec.name for r in requests}, {"feed"})
        by_name = {}
        for request in requests:
            name = request.model_spec.signature_name
            by_name.setdefault(name, []).append(
                {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            )
        self.assertEqual(
            {name: [set(r) for r in rs] for name, rs in by_name.items()},
            {
                "encode_user": [{"user", "city"}] * 2,
                "score_items": [{"state", "price"}] * 2,
                "score_items_xla": [{"state", "price"}] * 2,
                "serving_default": [{"user", "city", "price"}] * 2,
            },
        )
        default = by_name["serving_default"]
        self.assertEqual([r["price"].shape[1] for r in default], [3, 5])
        self.assertEqual(default[0]["user"].dtype, "int64")
        self.assertEqual(default[0]["city"][1], "Tromsø".encode())
        for name in ("score_items", "score_items_xla"):
            self.assertAllClose(by_name[name][0]["state"], [[4, 4], [7, 7]])

        # Again, with a single dict: it replaces the file.
        ku.serving.write_warmup(folder, self.raw())
        self.assertLen(list(self.read(path)), 4)
        # A server without XLA, and a state of a signature not warmed up.
        ku.serving.write_warmup(folder, self.raw(), ["score_items"])
        (log,) = self.read(path)
        self.assertEqual(
            set(log.predict_log.request.inputs), {"state", "price"}
        )

    def test_errors(self):
        folder = self.export()

        def check(message, requests, export_dir=folder):
            with self.assertRaisesRegex(ValueError, message):
                ku.serving.write_warmup(export_dir, requests)

        check("`export_dir` must be .* Received: ", self.raw(), f"{folder}/no")
        for requests in ([], {}, None, [{}], ["raw"]):
            check("at least one. Received: requests=", requests)
        raw = self.raw()
        del raw["city"]
        check(
            r"Missing inputs \['city'\] for request 1, signature "
            r"`encode_user`. Expected: .*'user'\]. Received: \['price'",
            [self.raw(), raw],
        )
        check(
            "Input `user` must be int64 .* Received: float32",
            {**self.raw(), "user": np.ones(2, "float32")},
        )
        check(
            r"Input `price` must be float32 of shape \(None, None\)",
            {**self.raw(), "price": np.ones(2, "float32")},
        )
        check(
            "fails on request 0, signature",
            {**self.raw(), "user": np.array([1, 2, 3])},
        )
        for signatures in (["score"], [], "score_items"):
            with self.assertRaisesRegex(ValueError, "`signatures` must be"):
                ku.serving.write_warmup(folder, self.raw(), signatures)
        self.assertFalse(os.path.exists(f"{folder}/assets.extra"))

    def test_no_more_records_than_are_replayed(self):
        folder = self.export()
        with self.assertRaisesRegex(ValueError, "251 requests .* 1,004"):
            ku.serving.write_warmup(folder, [self.raw()] * 251)
        path = ku.serving.write_warmup(folder, [self.raw()] * 250)
        self.assertLen(list(self.read(path)), 1_000)

    def test_needs_the_serving_extra(self):
        name = "tensorflow_serving.apis"
        with mock.patch.dict(sys.modules, {name: None}):
            with self.assertRaisesRegex(ImportError, r"keras_unirec\[serving"):
                ku.serving.write_warmup(self.export(), self.raw())
