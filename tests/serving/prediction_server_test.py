"""The export behind a server: what the clients of TF Serving would see."""

import os
import shutil
import tempfile
import threading
import unittest
from concurrent import futures

import grpc
import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

import keras_unirec as ku
from examples.prediction_server import PredictionServer
from tests.small_log import small_requests
from tests.test_case import TestCase

ITEMS = ("video_id", "price", "genres", "genres_length")


class Client:
    """A connection of its own, and arrays in and out."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(
            self.channel
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.channel.close()

    def call(self, inputs, signature="", name="ranker", version=None, only=()):
        """Returns outputs by name, and the version that answered."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        request.output_filter.extend(only)
        if version is not None:
            request.model_spec.version.value = version
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        response = self.stub.Predict(request, timeout=60)
        outputs = {k: tf.make_ndarray(v) for k, v in response.outputs.items()}
        return outputs, response.model_spec.version.value

    def signatures(self):
        """The `SignatureDef`s by name."""
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = "ranker"
        request.metadata_field.append("signature_def")
        response = self.stub.GetModelMetadata(request, timeout=60)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return signatures.signature_def


def take(inputs, rows):
    return {name: value[rows] for name, value in inputs.items()}


@unittest.skipIf(
    keras.backend.backend() != "tensorflow", "Export needs TensorFlow."
)
class PredictionServerTest(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        frame, schema = small_requests()
        cls.frame, cls.schema = frame, schema
        cls.raw = ku.serving.raw_inputs(frame, schema, requests=True)
        cls.rows = ku.serving.raw_inputs(frame, schema)

        model = ku.applications.load("mixformer_tiny", schema)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.exported, cls.expected = f"{folder.name}/exported", {}
        rng = np.random.default_rng(0)
        for version in (1, 2):
            for weight in model.trainable_variables:
                noise = 0.1 * rng.normal(size=weight.shape)
                weight.assign_add(noise.astype("float32"))
            cls.expected[version] = {
                label: column.to_numpy().reshape(16, 4)
                for label, column in ku.predict(model, frame).items()
            }
            path = f"{cls.exported}/{version}"
            model.export(path)
            ku.serving.write_warmup(path, [cls.raw, take(cls.raw, [0])])
        change = cls.expected[1]["is_click"] - cls.expected[2]["is_click"]
        assert np.abs(change).max() > 1e-3

        cls.base_dir = f"{folder.name}/served"
        shutil.copytree(f"{cls.exported}/1", f"{cls.base_dir}/1")
        cls.server = PredictionServer(cls.base_dir)
        cls.addClassCleanup(cls.server.close)
        cls.client = Client(cls.server.address)
        cls.addClassCleanup(cls.client.channel.close)
        signatures = cls.client.signatures()
        cls.user_inputs = take_names(cls.raw, signatures["encode_user"])

    def check(self, outputs, version=1, rows=slice(None)):
        self.assertEqual(set(outputs), set(self.schema.label_names))
        for label, expected in self.expected[version].items():
            self.assertAllClose(outputs[label], expected[rows], atol=1e-5)

    def assertRefused(self, code, text, inputs, **kwargs):
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.call(inputs, **kwargs)
        self.assertEqual(caught.exception.code(), code)
        self.assertIn(text, caught.exception.details())

    def test_one_candidate_per_request(self):
        outputs, version = self.client.call(self.rows)
        self.assertEqual(version, 1)
        self.assertEqual(outputs["is_click"].shape, (64, 1))
        self.check({k: v.reshape(16, 4) for k, v in outputs.items()})

    def test_several_candidates_per_request(self):
        self.assertEqual(self.raw["video_id"].shape, (16, 4))
        self.check(self.client.call(self.raw)[0])
        outputs, version = self.client.call(
            self.raw, signature="serving_default", version=1
        )
        self.check(outputs)
        outputs, _ = self.client.call(self.raw, only=["is_like"])
        self.assertEqual(list(outputs), ["is_like"])

    def test_all_signatures_agree(self):
        """Also those that an export may have beside the three."""
        for name, signature in self.client.signatures().items():
            if "is_click" not in signature.outputs:
                continue
            with self.subTest(name):
                state, _ = self.client.call(
                    self.user_inputs, signature="encode_user"
                )
                inputs = take_names({**self.raw, **state}, signature)
                self.check(self.client.call(inputs, signature=name)[0])

    def test_the_client_keeps_the_state(self):
        state, _ = self.client.call(self.user_inputs, signature="encode_user")
        self.assertTrue(all(len(value) == 16 for value in state.values()))
        items = {name: self.raw[name] for name in ITEMS}
        parts = []
        for columns in (slice(0, 1), slice(1, 4)):
            some = {name: value[:, columns] for name, value in items.items()}
            outputs, _ = self.client.call(
                {**state, **some}, signature="score_items"
            )
            parts.append(outputs)
        self.check(
            {
                label: np.concatenate([part[label] for part in parts], axis=1)
                for label in parts[0]
            }
        )

    def test_metadata(self):
        signatures = self.client.signatures()
        self.assertLessEqual(
            {"serving_default", "encode_user", "score_items"}, set(signatures)
        )
        inputs = signatures["serving_default"].inputs
        self.assertEqual(set(inputs), set(self.raw))
        for name, value in self.raw.items():
            dtype = tf.string if value.dtype == object else value.dtype
            self.assertEqual(inputs[name].dtype, tf.as_dtype(dtype), name)
            self.assertLen(inputs[name].tensor_shape.dim, value.ndim)
        self.assertEqual(
            set(signatures["score_items"].inputs),
            {*ITEMS, *signatures["encode_user"].outputs},
        )

    def test_warm_up(self):
        signatures = tf.saved_model.load(f"{self.exported}/1").signatures
        self.assertEqual(self.server.num_warmed_up, {1: 2 * len(signatures)})

    def test_no_such_servable(self):
        not_found = grpc.StatusCode.NOT_FOUND
        self.assertRefused(not_found, "other", self.raw, name="other")
        self.assertRefused(not_found, "7", self.raw, version=7)
        self.assertRefused(
            grpc.StatusCode.FAILED_PRECONDITION,
            "classify",
            self.raw,
            signature="classify",
        )

    @parameterized.named_parameters(
        ("missing", "hour", lambda raw: raw.pop("hour")),
        ("extra", "colour", lambda raw: raw.update(colour=raw["hour"])),
        (
            "integers_as_floats",
            "user_id",
            lambda raw: raw.update(user_id=raw["user_id"].astype("float32")),
        ),
        (
            "strings_as_integers",
            "city",
            lambda raw: raw.update(city=raw["user_id"]),
        ),
        (
            "integers_as_strings",
            "video_id",
            lambda raw: raw.update(video_id=raw["video_id"].astype("U")),
        ),
        ("output", "is_share", None),
    )
    def test_wrong_inputs(self, column, change):
        raw, only = dict(self.raw), []
        if change is None:
            only = ["is_share"]
        else:
            change(raw)
        self.assertRefused(
            grpc.StatusCode.INVALID_ARGUMENT, column, raw, only=only
        )

    @parameterized.named_parameters(
        ("user", "user_id", np.s_[:, None]),
        ("context", "hour", np.s_[:, None]),
        ("item", "video_id", np.s_[:, 0]),
        ("item_that_would_fit", "price", np.s_[:, :, None]),
        ("history", "hist_video_id", np.s_[:, 0]),
        ("fewer_requests", "city", np.s_[:5]),
        ("fewer_candidates", "price", np.s_[:, :3]),
    )
    def test_wrong_shapes(self, column, index):
        """The graph must find them: TF Serving itself checks no shape."""
        raw = {**self.raw, column: self.raw[column][index]}
        self.assertRefused(grpc.StatusCode.INVALID_ARGUMENT, column, raw)

    def test_many_clients(self):
        def client(seed):
            rng = np.random.default_rng(seed)
            with Client(self.server.address) as client:
                for _ in range(4):
                    rows = rng.integers(0, 16, rng.integers(1, 9))
                    outputs, _ = client.call(take(self.raw, rows))
                    self.check(outputs, rows=rows)
            return seed

        with futures.ThreadPoolExecutor(16) as pool:
            self.assertLen(set(pool.map(client, range(16))), 16)

    def new_server(self):
        """A server of its own on version 1, and its folder."""
        base_dir = self.get_temp_dir()
        shutil.copytree(f"{self.exported}/1", f"{base_dir}/1")
        server = PredictionServer(base_dir)
        self.addCleanup(server.close)
        return server, base_dir

    def release(self, version, base_dir):
        """Copies elsewhere and moves: no server sees half a folder."""
        staging = self.get_temp_dir()
        path = shutil.copytree(f"{self.exported}/2", f"{staging}/{version}")
        os.rename(path, f"{base_dir}/{version}")

    def test_version_swap_under_load(self):
        server, base_dir = self.new_server()
        stop = threading.Event()
        warm = threading.Barrier(9)

        def client(seed):
            rng = np.random.default_rng(seed)
            versions = []
            with Client(server.address) as client:
                while not stop.is_set():
                    rows = rng.integers(0, 16, rng.integers(1, 9))
                    outputs, version = client.call(take(self.raw, rows))
                    self.check(outputs, version, rows)
                    versions.append(version)
                    if len(versions) == 2:
                        warm.wait(60)
                # After the swap, whatever was on its way.
                versions.append(client.call(self.raw)[1])
            return versions

        with futures.ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(client, seed) for seed in range(8)]
            try:
                warm.wait(60)
                self.release(2, base_dir)
                server.refresh()
            finally:
                stop.set()
            for result in clients:
                versions = result.result()
                self.assertEqual(versions, sorted(versions))
                self.assertEqual((versions[0], versions[-1]), (1, 2))
        self.assertEqual(server.num_warmed_up[2], server.num_warmed_up[1])
        self.assertEqual(self.states(server), {1: "END", 2: "AVAILABLE"})

    def test_an_old_version_ends_its_calls(self):
        server, base_dir = self.new_server()
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "ranker"
        for key, value in self.raw.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        with server.version(request.model_spec) as old:
            self.release(2, base_dir)
            server.refresh()
            self.assertEqual(self.states(server)[1], "UNLOADING")
            outputs = old.predict(request).outputs
            self.check({k: tf.make_ndarray(v) for k, v in outputs.items()})
        self.assertEqual(self.states(server)[1], "END")
        with self.assertRaisesRegex(tf.errors.CancelledError, "closed"):
            old.predict(request)

    def test_a_version_that_fails_is_not_served(self):
        server, base_dir = self.new_server()
        self.release(2, base_dir)
        # Replayed on an input that the model lacks.
        path = f"{base_dir}/2/assets.extra/tf_serving_warmup_requests"
        (*records,) = tf.data.TFRecordDataset(path).as_numpy_iterator()
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                writer.write(record.replace(b"hour", b"hoar"))
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "hoar"):
            server.refresh()
        self.assertEqual(self.states(server), {1: "AVAILABLE", 2: "END"})
        with Client(server.address) as client:
            outputs, version = client.call(self.raw)
        self.assertEqual(version, 1)
        self.check(outputs)

    def states(self, server):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "ranker"
        with grpc.insecure_channel(server.address) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            response = stub.GetModelStatus(request, timeout=60)
        return {
            status.version: status.State.Name(status.state)
            for status in response.model_version_status
        }


def take_names(inputs, signature):
    return {name: inputs[name] for name in signature.inputs}
