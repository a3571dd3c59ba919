import os

import keras

from keras_unirec.serving.signature_names import signature_names


def export(model, filepath, kv_mode=None):
    """Writes a SavedModel that takes raw columns and returns probabilities.

    The preprocessing of the schema is part of the graph, so the server needs
    TensorFlow alone. Three signatures, every axis of them dynamic:

    - `serving_default`: raw user, context, history and item columns to
      probabilities `(num_requests, num_candidates)` under the label names.
    - `encode_user`: raw user, context and history columns to the state,
      named tensors whose first axis is the request.
    - `score_items`: the state and raw item columns to probabilities.

    User and context columns have shape `(num_requests,)`, item columns
    `(num_requests, num_candidates)`, history columns
    `(num_requests, num_events)`, oldest event first, filled up at the right
    with any value, and `<sequence>_length` says how many events are real. An
    unknown or out-of-range id is the unknown value, never an error. An input
    has the name of its column; characters that a signature does not allow
    become `_` (`keras_unirec.serving.signature_names`). The file
    `schema.json` beside the model describes the columns. The mixing matrices
    of `UniMixing` are constants, at the temperature that the model has now.

    Args:
        model: `keras_unirec.applications.RankingModel` on the TensorFlow
            backend.
        filepath: Folder to write. TF Serving wants a number as its last part,
            as in `"exported/1"`.
        kv_mode: The `kv_mode` of the exported model, for those that have one:
            `"projected"` puts the keys and values of a HyFormer in its state.
            Defaults to `None`: that of `model`.

    Raises:
        ValueError: If the model has no `kv_mode`, the backend is not
            TensorFlow, or two columns differ only in characters that a
            signature does not allow.

    Example:
    ```python
    model.export("exported/1")
    ```
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`export` needs the TensorFlow backend. Save the model with "
            '`model.save("model.keras")`, and load and export it in a process '
            "with KERAS_BACKEND=tensorflow. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}"
        )
    if not isinstance(filepath, (str, os.PathLike)) or not str(filepath):
        raise ValueError(
            "`filepath` must be the path of a folder. "
            f"Received: filepath={filepath!r}"
        )
    if kv_mode is not None:
        model = _with_kv_mode(model, kv_mode)
    import tensorflow as tf

    from keras_unirec.data import Preprocessing

    preprocessing = Preprocessing(model.schema)
    user_specs = preprocessing.user_signature()
    item_specs = preprocessing.item_signature()
    state_specs = {
        tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype)
        for tensor in model.item_model.inputs
        if tensor.name in model.user_model.output
    }
    specs = {**user_specs, **item_specs, **state_specs}
    names = signature_names(specs)

    def probabilities(outputs):
        if model.output_activation is None:
            outputs = {k: tf.sigmoid(value) for k, value in outputs.items()}
        return outputs

    def encode_user(raw):
        state = model.user_model(
            preprocessing.user({key: raw[key] for key in user_specs}),
            training=False,
        )
        return {key: tf.identity(state[key]) for key in state_specs}

    def score_items(raw):
        items = preprocessing.item({key: raw[key] for key in item_specs})
        state = {key: raw[key] for key in state_specs}
        return probabilities(
            model.item_model({**state, **items}, training=False)
        )

    def serving_default(raw):
        return score_items({**raw, **encode_user(raw)})

    def signature(function, columns):
        def renamed(inputs):
            outputs = function({key: inputs[names[key]] for key in columns})
            # A client passes the state on by name.
            return {names.get(k, k): value for k, value in outputs.items()}

        return tf.function(renamed).get_concrete_function(
            {
                names[key]: tf.TensorSpec(
                    specs[key].shape, specs[key].dtype, names[key]
                )
                for key in columns
            }
        )

    for mixing in model.mixings:
        mixing.fold()
    try:
        signatures = {
            "serving_default": signature(
                serving_default, {**user_specs, **item_specs}
            ),
            "encode_user": signature(encode_user, user_specs),
            "score_items": signature(
                score_items, {**state_specs, **item_specs}
            ),
        }
    finally:
        for mixing in model.mixings:
            mixing.unfold()
    module = tf.Module()
    module.preprocessing = preprocessing
    module.weights = [variable._value for variable in model.variables]
    tf.saved_model.save(module, str(filepath), signatures=signatures)
    path = os.path.join(str(filepath), "schema.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write(model.schema.to_json())


def _with_kv_mode(model, kv_mode):
    """The same model with the same weights in another form."""
    config = model.get_config()
    if "kv_mode" not in config:
        raise ValueError(
            f"`{type(model).__name__}` has no `kv_mode`: it reads no history "
            f"with keys and values. Received: kv_mode={kv_mode!r}"
        )
    other = type(model).from_config({**config, "kv_mode": kv_mode})
    values = {variable.path: variable for variable in model.variables}
    for variable in other.variables:
        if variable.path in values:  # All but the states of random seeds.
            variable.assign(values[variable.path])
    return other
