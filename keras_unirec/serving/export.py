import os

import keras


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
    unknown or out-of-range id is the unknown value, never an error. The file
    `schema.json` beside the model describes the columns.

    Args:
        model: `keras_unirec.applications.RankingModel` on the TensorFlow
            backend.
        filepath: Folder to write. TF Serving wants a number as its last part,
            as in `"exported/1"`.

    Raises:
        ValueError: If the backend is not TensorFlow.

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

    def probabilities(outputs):
        if model.output_activation is None:
            outputs = {k: tf.sigmoid(value) for k, value in outputs.items()}
        return outputs

    def encode_user(raw):
        state = model.user_model(preprocessing.user(raw), training=False)
        return {name: tf.identity(state[name]) for name in state}

    def score_items(raw):
        state = {name: raw[name] for name in state_specs}
        items = preprocessing.item({name: raw[name] for name in item_specs})
        return probabilities(
            model.item_model({**state, **items}, training=False)
        )

    def serving_default(raw):
        state = encode_user({name: raw[name] for name in user_specs})
        return score_items({**state, **raw})

    state_specs = {
        tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name)
        for tensor in model.item_model.inputs
        if tensor.name in model.user_model.output
    }
    functions = {
        "serving_default": (serving_default, {**user_specs, **item_specs}),
        "encode_user": (encode_user, user_specs),
        "score_items": (score_items, {**state_specs, **item_specs}),
    }
    module = tf.Module()
    module.preprocessing = preprocessing
    module.weights = [variable._value for variable in model.variables]
    signatures = {
        name: tf.function(function).get_concrete_function(specs)
        for name, (function, specs) in functions.items()
    }
    tf.saved_model.save(module, str(filepath), signatures=signatures)
    path = os.path.join(str(filepath), "schema.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write(model.schema.to_json())
