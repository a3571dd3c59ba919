import os
import shutil
import uuid

import keras

from keras_unirec.layers._checks import check_bools
from keras_unirec.layers._checks import check_integers
from keras_unirec.serving.signature_names import signature_names

# XLA compiles a program for each shape: numbers of candidates up to a micro
# batch are rounded up to a power of two, and at least to this.
_MIN_CANDIDATES = 16
# The part of an exported state that says which export made it.
_ORIGIN = "state_origin"


def export(
    model,
    filepath,
    kv_mode=None,
    micro_batch_size=1024,
    xla_signatures=False,
    warmup=None,
):
    """Writes a SavedModel that takes raw columns and returns probabilities.

    The preprocessing of the schema is part of the graph, so the server needs
    TensorFlow alone. Three signatures, every axis of them dynamic:

    - `serving_default`: raw user, context, history and item columns to
      probabilities `(num_requests, num_candidates)` under the label names.
    - `encode_user`: raw user, context and history columns to the state,
      named tensors whose first axis is the request.
    - `score_items`: the state and raw item columns to probabilities. A state
      may be kept and scored against as long as the columns it was made of, and
      the time of the request among them, are the right ones. One that another
      export made is an error: `state_origin` tells.

    User and context columns have shape `(num_requests,)`, item columns
    `(num_requests, num_candidates)`, history columns
    `(num_requests, num_events)`, oldest event first, filled up at the right
    with any value, and `<sequence>_length` says how many events are real. An
    unknown or out-of-range id is the unknown value, never an error; a wrong
    number of axes, or a number of requests or candidates that differs between
    inputs, is an error that names them. An input has the name of its column;
    characters that a signature does not allow become `_`
    (`keras_unirec.serving.signature_names`). The file `schema.json` beside the
    model describes the columns. The mixing matrices of `UniMixing` are
    constants, at the temperature that the model has now. The folder appears
    when it is complete: a server that watches `"exported"` may be running.

    Args:
        model: `keras_unirec.applications.RankingModel` on the TensorFlow
            backend.
        filepath: Folder to write, new or an earlier export. TF Serving wants a
            number as its last part, as in `"exported/1"`.
        kv_mode: The `kv_mode` of the exported model, for those that have one:
            `"projected"` puts keys and values in the state. Defaults to
            `None`: that of `model`.
        micro_batch_size: int or None. Candidates of a request that are scored
            at once (the micro-batches of M-FALCON): the memory of a request
            does not grow with more of them. The scores do not depend on it.
            Defaults to `1024`; `None` scores all at once.
        xla_signatures: bool. Whether to add `serving_default_xla`,
            `encode_user_xla` and `score_items_xla`, whose models are compiled
            by XLA (the columns are encoded outside). Histories are padded to
            their `max_length` and candidates to a power of two, from 16 to
            the micro-batch, so that few programs are compiled: each number of
            requests and candidates compiles at its first call. TF Serving
            runs them on CPUs only with `--xla_cpu_compilation_enabled=true`;
            with `warmup` it does not even load the version without it.
            Defaults to `False`.
        warmup: Optional dict of raw inputs, or list of them, as
            `keras_unirec.serving.raw_inputs` returns: requests that TF Serving
            replays when it loads the model, by
            `keras_unirec.serving.write_warmup`. Defaults to `None`: none.

    Raises:
        ValueError: If the model has no `kv_mode`, the backend is not
            TensorFlow, an argument has no legal value, two columns differ
            only in characters that a signature does not allow, or the model
            cannot run a request of `warmup`.
        ImportError: If there is a `warmup` without `tensorflow-serving-api`.

    Example:
    ```python
    raw = keras_unirec.serving.raw_inputs(df[:100], schema, requests=True)
    model.export("exported/1", warmup=raw)
    ```

    Reference: [Zhai et al., HSTU](https://arxiv.org/abs/2402.17152), M-FALCON.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`export` needs the TensorFlow backend. Save the model with "
            '`model.save("model.keras")`, and load and export it in a process '
            "with KERAS_BACKEND=tensorflow. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}"
        )
    filepath = _checked_path(filepath)
    if micro_batch_size is not None:
        check_integers(1, 2**31 - 1, micro_batch_size=micro_batch_size)
    check_bools(xla_signatures=xla_signatures)
    if xla_signatures and micro_batch_size is None:
        raise ValueError(
            "`xla_signatures` need a `micro_batch_size`: XLA compiles for "
            "numbers of candidates up to that. Received: micro_batch_size=None"
        )
    if kv_mode is not None:
        model = model.with_kv_mode(kv_mode)
    import tensorflow as tf

    from keras_unirec.serving.warmup import write_warmup

    halves = _Halves(model, micro_batch_size)
    for mixing in model.mixings:
        mixing.fold()
    try:
        signatures = halves.signatures(xla=False)
        if xla_signatures:
            signatures.update(halves.signatures(xla=True))
    finally:
        for mixing in model.mixings:
            mixing.unfold()
    module = tf.Module()
    module.preprocessing = halves.preprocessing
    module.weights = [variable._value for variable in model.variables]
    # TF Serving does not see names that are no numbers.
    name = f"{filepath}.{uuid.uuid4().hex[:8]}"
    partial, old = f"{name}.partial", f"{name}.old"
    try:
        tf.saved_model.save(module, partial, signatures=signatures)
        path = os.path.join(partial, "schema.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(model.schema.to_json())
        if warmup is not None:
            write_warmup(partial, warmup)
        if os.path.exists(filepath):
            os.rename(filepath, old)
        os.rename(partial, filepath)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if os.path.exists(old) and not os.path.exists(filepath):
            os.rename(old, filepath)
        shutil.rmtree(old, ignore_errors=True)


def _checked_path(filepath):
    """The absolute path of a folder that nothing is lost by writing."""
    if not isinstance(filepath, (str, os.PathLike)) or not str(filepath):
        raise ValueError(
            "`filepath` must be the path of a folder. "
            f"Received: filepath={filepath!r}"
        )
    if "://" in str(filepath):
        raise ValueError(
            "`filepath` must be a folder of this machine; copy it from there. "
            f"Received: filepath={filepath!r}"
        )
    path = os.path.abspath(filepath)
    if os.path.isdir(path) and not os.path.islink(path):
        found = sorted(os.listdir(path))
        inside = os.path.commonpath([path, os.getcwd()]) == path
        if (not found or "saved_model.pb" in found) and not inside:
            return path
        received = f"the working folder {path!r}" if inside else found
    elif os.path.lexists(path):
        received = "a file or a link"
    else:
        return path
    raise ValueError(
        "`filepath` must be a new folder, or an earlier export, which is "
        f"replaced. Received: filepath={str(filepath)!r}, {received}"
    )


class _Halves:
    """The halves of a model as functions of raw columns."""

    def __init__(self, model, micro_batch_size):
        import tensorflow as tf

        from keras_unirec.data.preprocessing import Preprocessing

        self.model = model
        self.micro_batch_size = micro_batch_size
        self.preprocessing = Preprocessing(model.schema)
        self.user = self.preprocessing.user_signature()
        self.item = self.preprocessing.item_signature()
        self.state = {
            tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype)
            for tensor in model.item_model.inputs
            if tensor.name in model.user_model.output
        }
        # Shapes of two versions fit, and their scores would just be wrong.
        self.origin = uuid.uuid4().int >> 65
        self.kept = {**self.state, _ORIGIN: tf.TensorSpec((None,), tf.int64)}
        self.names = signature_names({**self.user, **self.item, **self.kept})

    def signatures(self, xla):
        """Concrete functions by name, compiled by XLA or not."""

        def encode_user(raw):
            return self._encode_user(raw, xla)

        def score_items(raw):
            return self._score_items(raw, xla)

        def serving_default(raw):
            return score_items({**raw, **encode_user(raw)})

        suffix = "_xla" if xla else ""
        return {
            f"{function.__name__}{suffix}": self._signature(function, specs)
            for function, specs in (
                (serving_default, {**self.user, **self.item}),
                (encode_user, self.user),
                (score_items, {**self.kept, **self.item}),
            )
        }

    def _signature(self, function, specs):
        import tensorflow as tf

        def renamed(inputs):
            # A server passes tensors of any rank on: name those at once.
            raw = {
                key: tf.ensure_shape(inputs[self.names[key]], spec.shape)
                for key, spec in specs.items()
            }
            with tf.control_dependencies(self._checks(raw)):
                raw = {key: tf.identity(x) for key, x in raw.items()}
            # A client passes the state on by name.
            return {
                self.names.get(key, key): value
                for key, value in function(raw).items()
            }

        return tf.function(renamed).get_concrete_function(
            {
                self.names[key]: tf.TensorSpec(
                    spec.shape, spec.dtype, self.names[key]
                )
                for key, spec in specs.items()
            }
        )

    def _checks(self, raw):
        """What would broadcast, or mix two versions, is an error."""
        import tensorflow as tf

        groups = [
            ("requests (axis 0)", dict.fromkeys(raw, 0)),
            ("candidates (axis 1)", {k: 1 for k in raw if k in self.item}),
        ]
        checks = []
        if _ORIGIN in raw:
            groups += [("events", group) for group in self.model.state_lengths]
            checks.append(
                tf.debugging.Assert(
                    tf.reduce_all(raw[_ORIGIN] == self.origin),
                    [
                        "The state is that of another version of the model: "
                        "call `encode_user` of this one. Received: "
                        f"`{_ORIGIN}`",
                        raw[_ORIGIN],
                        "expected",
                        tf.constant(self.origin, tf.int64),
                    ],
                )
            )
        return checks + [
            _assert_equal(
                [self.names[key] for key in axes],
                [raw[key] for key in axes],
                list(axes.values()),
                what,
            )
            for what, axes in groups
            if len(axes) > 1
        ]

    def _encode_user(self, raw, xla):
        import tensorflow as tf

        inputs = self.preprocessing.user({key: raw[key] for key in self.user})
        encode = self.model.user_model
        if xla:
            inputs = self._to_max_length(inputs)
            encode = tf.function(encode, jit_compile=True)
        state = encode(inputs, training=False)
        state = {key: tf.identity(state[key]) for key in self.state}
        num_requests = tf.shape(next(iter(state.values())))[:1]
        state[_ORIGIN] = tf.fill(
            num_requests, tf.constant(self.origin, tf.int64)
        )
        return state

    def _to_max_length(self, inputs):
        import tensorflow as tf

        padded = dict(inputs)
        for feature in self.model.schema.encoded:
            if feature.sequence and feature.kind not in ("length", "count"):
                events = padded[feature.key]
                longest = self.model.schema.sequence(
                    feature.sequence
                ).max_length
                room = [[0, 0] for _ in events.shape]
                room[1] = [0, longest - tf.shape(events)[1]]
                fill = -1 if feature.kind == "gap" else 0
                events = tf.pad(
                    events, room, constant_values=tf.cast(fill, events.dtype)
                )
                padded[feature.key] = tf.ensure_shape(
                    events, (None, longest, *events.shape[2:])
                )
        return padded

    def _score_items(self, raw, xla):
        import tensorflow as tf

        items = self.preprocessing.item({key: raw[key] for key in self.item})
        state = {key: raw[key] for key in self.state}
        score = self.model.item_model
        if xla:
            score = tf.function(score, jit_compile=True)
        if self.micro_batch_size is None:
            outputs = score({**state, **items}, training=False)
        else:
            outputs = self._in_micro_batches(score, state, items, xla)
        if self.model.output_activation is None:
            outputs = {k: tf.sigmoid(value) for k, value in outputs.items()}
        return outputs

    def _in_micro_batches(self, score, state, items, xla):
        """Scores candidates in slices, one after the other."""
        import tensorflow as tf

        num_candidates = tf.shape(next(iter(items.values())))[1]
        size = tf.constant(self.micro_batch_size)
        if xla:
            # 2 ** bits >= num_candidates.
            bits = tf.math.ceil(
                tf.math.log(tf.cast(tf.maximum(num_candidates, 1), tf.float64))
                / tf.math.log(tf.constant(2.0, tf.float64))
            )
            rounded = tf.bitwise.left_shift(1, tf.cast(bits, tf.int32))
            size = tf.minimum(size, tf.maximum(rounded, _MIN_CANDIDATES))
        steps = tf.maximum(1, -(-num_candidates // size))
        if xla:
            items = {
                key: tf.pad(
                    value,
                    [
                        [0, 0],
                        [0, steps * size - num_candidates],
                        *[[0, 0]] * (len(value.shape) - 2),
                    ],
                )
                for key, value in items.items()
            }
        labels = self.model.schema.label_names

        def step(i, written):
            some = {
                key: value[:, i * size : (i + 1) * size]
                for key, value in items.items()
            }
            outputs = score({**state, **some}, training=False)
            written = [
                array.write(i, tf.transpose(outputs[label]))
                for array, label in zip(written, labels)
            ]
            return i + 1, written

        arrays = [
            tf.TensorArray(
                tf.float32, steps, element_shape=(None, None), infer_shape=False
            )
            for _ in labels
        ]
        _, written = tf.while_loop(
            lambda i, _: i < steps, step, (0, arrays), parallel_iterations=1
        )
        return {
            label: tf.transpose(array.concat())[:, :num_candidates]
            for label, array in zip(labels, written)
        }


def _assert_equal(names, tensors, axes, what):
    import tensorflow as tf

    sizes = tf.stack([tf.shape(x)[axis] for x, axis in zip(tensors, axes)])
    different = sizes != sizes[0]
    return tf.debugging.Assert(
        ~tf.reduce_any(different),
        [
            f"All inputs must have the same number of {what}. `{names[0]}` has",
            sizes[0],
            "but these have another:",
            tf.boolean_mask(tf.constant(names), different),
            tf.boolean_mask(sizes, different),
        ],
        summarize=100,
    )
