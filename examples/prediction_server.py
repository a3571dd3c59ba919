"""A gRPC server on loopback that speaks the wire format of TF Serving.

It is not TF Serving, whose binary the tests cannot have. What it shares: the
messages and the services, and the run of a signature, which is `Session.run`
of TensorFlow's C++ runtime on the tensors that the signature names, without
the checks that Python adds. So an error of a client reads here as the graph
words it. What it imitates after TF Serving's source: which inputs are refused
before the graph runs, status codes, messages cut at 1,024 characters, warm-up
and the swap of versions. What it lacks: REST, batching, version labels, the
other APIs, and everything about speed. Outputs come as `tensor_content`,
where TF Serving fills `float_val` and its like: read them with
`tf.make_ndarray`.
"""

import contextlib
import os
import threading
from concurrent import futures

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

_MAX_WARMUP_RECORDS = 1_000
_MAX_MESSAGE_LENGTH = 1_024
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_State = get_model_status_pb2.ModelVersionStatus


class PredictionServer:
    """Serves the newest version in a folder, until `close()` or `with` ends.

    Args:
        base_dir: Folder of versions: SavedModels in folders named `1`, `2`, ...
        model_name: Name that the requests must have.
        num_threads: Calls that run at the same time.
    """

    def __init__(self, base_dir, model_name="ranker", num_threads=16):
        self.base_dir = base_dir
        self.model_name = model_name
        self.num_warmed_up = {}  # Records replayed, by version.
        self.states = {}  # By version, of all that were ever seen.
        self._current = None
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self.refresh()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(num_threads),
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _PredictionService(self), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            _ModelService(self), self._server
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def refresh(self):
        """What TF Serving does when it polls the folder.

        Loads the newest version and warms it up, while the old one goes on
        serving; then serves the new one, and unloads the old one when its
        calls have ended. A version that fails leaves the old one in place.
        """
        with self._refreshing:
            folders = {
                int(name): os.path.join(self.base_dir, name)
                for name in os.listdir(self.base_dir)
                if name.isdecimal()
            }
            number = max(folders, default=None)
            old = self._current
            if number is None or (old and number == old.number):
                return
            self.states[number] = _State.LOADING
            try:
                version = _Version(number, folders[number])
            except Exception:
                self.states[number] = _State.END
                raise
            self.num_warmed_up[number] = version.num_warmed_up
            with self._lock:
                self.states[number] = _State.AVAILABLE
                self._current = version
            if old:
                self.states[old.number] = _State.UNLOADING
                self._unload_if_idle(old)

    @contextlib.contextmanager
    def version(self, spec):
        """The version of a request, loaded as long as the context lasts."""
        with self._lock:
            version = self._current
            if (
                version is None
                or spec.name != self.model_name
                or spec.HasField("version")
                and spec.version.value != version.number
            ):
                raise tf.errors.NotFoundError(
                    None, None, f"Servable not found for request: {spec}"
                )
            version.num_calls += 1
        try:
            yield version
        finally:
            with self._lock:
                version.num_calls -= 1
            self._unload_if_idle(version)

    def close(self):
        self._server.stop(grace=None).wait()
        with self._lock:
            version, self._current = self._current, None
        if version:
            self._unload_if_idle(version)

    def _unload_if_idle(self, version):
        with self._lock:
            idle = version is not self._current and version.num_calls == 0
            if idle:
                version.session.close()
                self.states[version.number] = _State.END


class _Version:
    """One SavedModel in a session."""

    def __init__(self, number, folder):
        self.number = number
        self.num_calls = 0
        self._callables = {}
        self._lock = threading.Lock()
        graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=graph)
        try:
            with graph.as_default():
                loaded = tf.compat.v1.saved_model.load(
                    self.session, ["serve"], folder
                )
            self.signatures = loaded.signature_def
            self.num_warmed_up = self._warm_up(folder)
        except Exception:
            self.session.close()
            raise

    def _warm_up(self, folder):
        path = f"{folder}/assets.extra/tf_serving_warmup_requests"
        if not os.path.exists(path):
            return 0
        records = [
            prediction_log_pb2.PredictionLog.FromString(record)
            for record in tf.data.TFRecordDataset(path).as_numpy_iterator()
        ]
        if len(records) > _MAX_WARMUP_RECORDS:
            raise _invalid(f"{len(records)} warm-up records at {path}")
        for record in records:
            self.predict(record.predict_log.request)
        return len(records)

    def predict(self, request):
        name = request.model_spec.signature_name or "serving_default"
        if name not in self.signatures:
            raise tf.errors.FailedPreconditionError(
                None, None, f"There is no signature `{name}`."
            )
        signature = self.signatures[name]
        missing = sorted(set(signature.inputs) - set(request.inputs))
        extra = sorted(set(request.inputs) - set(signature.inputs))
        if missing or extra:
            raise _invalid(
                "The inputs do not match the signature. "
                f"Sent extra: {extra}. Missing: {missing}."
            )
        outputs = sorted(request.output_filter or signature.outputs)
        if len(outputs) > len(set(outputs) & set(signature.outputs)):
            raise _invalid(f"Unknown or repeated outputs: {outputs}.")
        inputs = []
        for alias in sorted(signature.inputs):
            try:
                inputs.append(tf.make_ndarray(request.inputs[alias]))
            except (TypeError, ValueError) as error:
                raise _invalid(f"Cannot read the input `{alias}`.") from error
        values = self._callable(name, outputs)(*inputs)

        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = name
        response.model_spec.version.value = self.number
        for alias, value in zip(outputs, values):
            response.outputs[alias].CopyFrom(tf.make_tensor_proto(value))
        return response

    def _callable(self, name, outputs):
        """Not `Session.run`: that checks shapes in Python, before the graph."""
        signature = self.signatures[name]
        with self._lock:
            key = (name, *outputs)
            if key not in self._callables:
                options = config_pb2.CallableOptions()
                for alias in sorted(signature.inputs):
                    options.feed.append(signature.inputs[alias].name)
                for alias in outputs:
                    options.fetch.append(signature.outputs[alias].name)
                self._callables[key] = self.session._make_callable_from_options(
                    options
                )
            return self._callables[key]


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server):
        self.server = server

    def Predict(self, request, context):
        try:
            with self.server.version(request.model_spec) as version:
                return version.predict(request)
        except tf.errors.OpError as error:
            _abort(context, error)

    def GetModelMetadata(self, request, context):
        try:
            if list(request.metadata_field) != ["signature_def"]:
                raise _invalid("The one `metadata_field` is `signature_def`.")
            with self.server.version(request.model_spec) as version:
                response = get_model_metadata_pb2.GetModelMetadataResponse()
                response.model_spec.name = self.server.model_name
                response.model_spec.version.value = version.number
                signatures = get_model_metadata_pb2.SignatureDefMap()
                for name, signature in version.signatures.items():
                    signatures.signature_def[name].CopyFrom(signature)
                response.metadata["signature_def"].Pack(signatures)
                return response
        except tf.errors.OpError as error:
            _abort(context, error)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server):
        self.server = server

    def GetModelStatus(self, request, context):
        response = get_model_status_pb2.GetModelStatusResponse()
        if request.model_spec.name == self.server.model_name:
            for number, state in sorted(self.server.states.items()):
                response.model_version_status.add(version=number, state=state)
        if not response.model_version_status:
            context.abort(grpc.StatusCode.NOT_FOUND, "There is no such model.")
        return response


def _invalid(message):
    return tf.errors.InvalidArgumentError(None, None, message)


def _abort(context, error):
    message = error.message
    if len(message) > _MAX_MESSAGE_LENGTH:
        message = message[:_MAX_MESSAGE_LENGTH] + "...TRUNCATED"
    context.abort(_STATUS_CODES[error.error_code], message)
