import os

import keras

from keras_unirec.serving.signature_names import signature_names


def export(model, filepath):
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
    `schema.json` beside the model describes the columns.

    Args:
        model: `keras_unirec.applications.RankingModel` on the TensorFlow
            backend.
        filepath: Folder to write. TF Serving wants a number as its last part,
            as in `"exported/1"`.

    Raises:
        ValueError: If the backend is not TensorFlow, or two columns differ
            only in characters that a signature does not allow.

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
            return function({key: inputs[names[key]] for key in columns})

        return tf.function(renamed).get_concrete_function(
            {
                names[key]: tf.TensorSpec(
                    specs[key].shape, specs[key].dtype, names[key]
                )
                for key in columns
            }
        )

    signatures = {
        "serving_default": signature(
            serving_default, {**user_specs, **item_specs}
        ),
        "encode_user": signature(encode_user, user_specs),
        "score_items": signature(score_items, {**state_specs, **item_specs}),
    }
    module = tf.Module()
    module.preprocessing = preprocessing
    module.weights = [variable._value for variable in model.variables]
    tf.saved_model.save(module, str(filepath), signatures=signatures)
    path = os.path.join(str(filepath), "schema.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write(model.schema.to_json())
