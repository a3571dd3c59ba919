import os

import numpy as np

from keras_unirec.serving._loading import load_export

_MAX_RECORDS = 1_000  # TF Serving loads no version with more.


def write_warmup(export_dir, requests, signatures=None, model_name="ranker"):
    """Adds the requests that TF Serving replays before it serves a version.

    The first call of a signature is slow, that of an XLA signature slow again
    at every new shape. TF Serving makes these calls itself, while it loads a
    version, if the folder has `assets.extra/tf_serving_warmup_requests`. This
    function writes that file: one record per request and signature. The state
    that `score_items` takes is the one that `encode_user` of the exported
    model returns.

    TF Serving does not load a version one of whose records fails, so every
    record is run once here, before anything is written. That says nothing
    about what this machine can and the server cannot: XLA signatures on a CPU
    fail on a server without `--xla_cpu_compilation_enabled=true`. Leave them
    out of `signatures` there.

    Write the file before TF Serving sees the folder: it reads it once, when it
    loads the version.

    Args:
        export_dir: Folder of one version, as `model.export` writes it.
        requests: dict of raw inputs, as `keras_unirec.serving.raw_inputs`
            returns it, or a list of such dicts. Take the numbers of requests,
            candidates and events that the clients will send.
        signatures: Names of the signatures to warm up. Defaults to `None`: all
            that the model has.
        model_name: Name of the model in the records. TF Serving replays them
            on the version that it loads, whatever the name (read in its
            source, not run). Defaults to `"ranker"`.

    Returns:
        Path of the file.

    Raises:
        ValueError: If `export_dir` is no SavedModel, there is no request or no
            such signature, an input is missing or has another dtype or rank
            than the signature says, a signature fails on a request, or there
            would be more than 1,000 records.
        ImportError: If `tensorflow-serving-api` is not installed.

    Example:
    ```python
    model.export("staging/2")
    raw = [keras_unirec.serving.raw_inputs(df[:n], schema) for n in (1, 16)]
    keras_unirec.serving.write_warmup("staging/2", raw)
    os.rename("staging/2", "exported/2")  # TF Serving watches `exported`.
    ```
    """
    try:
        from tensorflow_serving.apis import predict_pb2
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "Warm-up requests need the messages of TF Serving: "
            "pip install 'keras_unirec[serving]'"
        ) from error
    import tensorflow as tf

    if isinstance(requests, dict):
        requests = [requests]
    if not (
        isinstance(requests, (list, tuple))
        and requests
        and all(isinstance(raw, dict) and raw for raw in requests)
    ):
        raise ValueError(
            "`requests` must be a dict of raw inputs or a list of at least "
            f"one. Received: requests={requests!r}"
        )
    loaded = load_export(export_dir)
    names = sorted(loaded.signatures if signatures is None else signatures)
    if not names or not set(names) <= set(loaded.signatures):
        raise ValueError(
            "`signatures` must be a list of names among "
            f"{sorted(loaded.signatures)}. Received: signatures={signatures!r}"
        )
    num_records = len(requests) * len(names)
    if num_records > _MAX_RECORDS:
        raise ValueError(
            f"TF Serving replays at most {_MAX_RECORDS:,} records, one per "
            f"request and signature. Received: {len(requests)} requests for "
            f"{len(names)} signatures, {num_records:,} records"
        )

    def run(name, values, number):
        where = f"request {number}, signature `{name}`"
        signature = loaded.signatures[name]
        inputs = _inputs(signature, values, where)
        try:
            return inputs, signature(**inputs)
        except tf.errors.OpError as error:
            raise ValueError(
                f"The exported model fails on {where}: {error.message}"
            ) from error

    records = []
    for number, raw in enumerate(requests):
        state = {}
        if "encode_user" in loaded.signatures:
            _, state = run("encode_user", raw, number)
        for name in names:
            inputs, _ = run(name, {**state, **raw}, number)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = name
            for key, value in inputs.items():
                proto = tf.make_tensor_proto(value.numpy())
                request.inputs[key].CopyFrom(proto)
            record = prediction_log_pb2.PredictionLog()
            record.predict_log.request.CopyFrom(request)
            records.append(record.SerializeToString())

    path = os.path.join(
        str(export_dir), "assets.extra", "tf_serving_warmup_requests"
    )
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    return path


def _inputs(signature, values, where):
    """The tensors that a signature takes, by name."""
    import tensorflow as tf

    specs = signature.structured_input_signature[1]
    missing = sorted(set(specs) - set(values))
    if missing:
        raise ValueError(
            f"Missing inputs {missing} for {where}. Expected: "
            f"{sorted(specs)}. Received: {sorted(values)}"
        )
    inputs = {}
    for name, spec in specs.items():
        value = values[name]
        if not tf.is_tensor(value):
            value = tf.constant(np.asarray(value))
        if not spec.is_compatible_with(value):
            raise ValueError(
                f"Input `{name}` must be {spec.dtype.name} of shape "
                f"{spec.shape} for {where}. Received: {value.dtype.name} of "
                f"shape {value.shape}"
            )
        inputs[name] = value
    return inputs
