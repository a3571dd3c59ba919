"""The families of models, for tests: what is slow is made once.

A trace, a compilation, a fit or a file takes seconds, a question to it takes
none. A `Family` makes each when it is first asked for; all tests of the family
ask the same one.
"""

import functools
import tempfile
import types

import keras
import numpy as np

import keras_unirec as ku
from keras_unirec import layers
from keras_unirec.layers import _parts
from tests.small_log import small_batch
from tests.small_log import small_schema
from tests.test_case import to_numpy

NAMES = ku.applications.list_models("*_tiny")
JAX = keras.backend.backend() == "jax"

# Few iterations of Sinkhorn are quick to trace.
QUICK = {
    "unimixer_tiny": {"mixer": layers.UniMixing(num_iterations=3)},
    "unimixer_lite_tiny": {"mixer": layers.UniMixingLite(num_iterations=3)},
}


def load(name, schema, **overrides):
    """A model as tests load it: quick to trace."""
    overrides = {**QUICK.get(name, {}), **overrides}
    return ku.applications.load(name, schema, **overrides)


class Family:
    """A `_tiny` model of the small log, and what is slow to make of it.

    JAX compiles each shape of each function: there the model has one layer of
    each kind. (That all layers agree with TensorFlow is a test of its own.)

    Args:
        name: str. Name of the model.

    Attributes:
        name: str.
        schema: `small_schema()`.
        inputs, labels: A batch of 6 requests of 3 candidates.
        model: The model as it was initialized; no test changes it.
    """

    def __init__(self, name):
        self.name = name
        self.schema = small_schema()
        self.inputs, self.labels, _ = small_batch(self.schema)
        self.model = self.load()

    def load(self, weights=None, **overrides):
        """Another one, of other weights or those of a file."""
        if not JAX:
            return load(self.name, self.schema, weights=weights, **overrides)
        model = shallow(load(self.name, self.schema, **overrides))
        if weights is not None:
            model.load_weights(weights)
        return model

    # === Outputs ===

    def score(self, inputs):
        """Outputs of the model by one trace (on JAX, one for each shape)."""
        return arrays(self._score(inputs))

    @functools.cached_property
    def _score(self):
        if JAX:
            return compiled(self.model, self.model)
        return of_any_size(self.schema, self.model)

    @functools.cached_property
    def outputs(self):
        """Outputs of the batch."""
        return self.score(self.inputs)

    @functools.cached_property
    def rows(self):
        """The same, where each pair is a request of its own."""
        rows = self.score(to_rows(self.schema, self.inputs))
        return {label: value.reshape(-1, 3) for label, value in rows.items()}

    @functools.cached_property
    def state(self):
        """The state of the requests, from the inputs of the user alone."""
        keys = self.schema.inputs()[0]
        encode = compiled(self.model, self.model.encode_user)
        return encode({key: self.inputs[key] for key in keys})

    @functools.cached_property
    def halves(self):
        """Outputs of the batch from its state."""
        score = compiled(self.model, self.model.score_items)
        return arrays(score(self.state, self.inputs))

    @functools.cached_property
    def half(self):
        """The model in half precision with the same weights, its outputs."""
        model = self.load(dtype="mixed_bfloat16", weights=self.weights_file)
        return model, arrays(compiled(model, model)(self.inputs))

    # === Files ===

    @functools.cached_property
    def folder(self):
        """A folder that is there as long as the family."""
        self._folder = tempfile.TemporaryDirectory()
        return self._folder.name

    @functools.cached_property
    def weights_file(self):
        """The weights of `model`."""
        path = f"{self.folder}/model.weights.h5"
        self.model.save_weights(path)
        return path

    @functools.cached_property
    def loaded(self):
        """`model` from a `.keras` file, with an optimizer that has a state."""
        model = self.model
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=[])
        model.optimizer.build(model.trainable_variables)
        for i, variable in enumerate(model.optimizer.variables[2:]):
            variable.assign(np.full(variable.shape, i, variable.dtype))
        path = f"{self.folder}/model.keras"
        model.save(path)
        return keras.models.load_model(path)

    # === Training ===

    @functools.cached_property
    def shallow(self):
        """The model with one layer of each kind, quick to compile.

        In half precision on JAX: another one would be compiled again.
        """
        return self.half[0] if JAX else shallow(self.model)

    @functools.cached_property
    def gradients(self):
        """Function of inputs and labels: the loss of `shallow`, gradients.

        TensorFlow alone: one trace, by which training goes where XLA does not
        compile, on axes of any size.
        """
        import tensorflow as tf

        model = self.shallow
        model.compile("sgd", metrics=[])
        weights = {w.path: w.value for w in model.trainable_weights}

        def function(inputs):
            labels = {name: inputs[f"{name} (label)"] for name in self.labels}
            with tf.GradientTape() as tape:
                loss = model.compute_loss(inputs, labels, model(inputs))
            gradients = tape.gradient(loss, weights)
            return loss, {
                path: tf.convert_to_tensor(gradient)
                for path, gradient in gradients.items()
                if gradient is not None
            }

        function = of_any_size(self.schema, function, labels=True)

        def call(inputs):
            labels = {f"{name} (label)": y for name, y in self.labels.items()}
            loss, gradients = function({**inputs, **labels})
            return float(loss), arrays(gradients)

        return call

    @functools.cached_property
    def trained(self):
        """`shallow` after 20 compiled steps, and one on empty histories.

        Returns:
            The `model`, the `losses` of the 20 steps, and the weights by path
            `before` and `after` the first, and of the `end`.
        """
        model, steps = self.shallow, []
        model.compile(keras.optimizers.SGD(0.1), metrics=[], jit_compile=True)

        class First(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch < 2:
                    steps.append(weights_of(self.model))

        fit = {"shuffle": False, "verbose": 0}
        history = model.fit(
            self.inputs, self.labels, epochs=20, callbacks=[First()], **fit
        )
        model.fit(without_events(self.schema, self.inputs), self.labels, **fit)
        return types.SimpleNamespace(
            model=model,
            losses=history.history["loss"],
            before=steps[0],
            after=steps[1],
            end=weights_of(model),
        )


def of_any_size(schema, function, labels=False):
    """A function of encoded inputs, traced by TensorFlow for all shapes."""
    import tensorflow as tf

    user, item = schema.inputs()
    specs = {
        key: tf.TensorSpec(tensor.shape, tensor.dtype)
        for key, tensor in (*user.items(), *item.items())
    }
    if labels:
        for name in schema.label_names:
            specs[f"{name} (label)"] = tf.TensorSpec((None, None))
    function = tf.function(function, (specs,), autograph=False)
    return lambda inputs: function(
        {key: tf.constant(inputs[key]) for key in specs}
    )


def shallow(model):
    """The same model with one layer of each kind."""
    config, _ = _parts.replaced(model.get_config(), "num_layers", 1)
    if "num_layers" in config:
        config["num_layers"] = 1
    return type(model).from_config(config)


def compiled(model, function):
    """A function of a model, on arrays; on JAX compiled, else as it is."""
    if not JAX:
        return function
    import jax

    variables = model.variables

    @jax.jit
    def pure(values, *args):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return function(*args)

    return lambda *args: pure([v.value for v in variables], *args)


def arrays(tensors):
    """A dict of tensors as NumPy arrays."""
    return {key: to_numpy(tensor) for key, tensor in tensors.items()}


def weights_of(model):
    """Copies of the weights of a model, by path."""
    weights = {w.path: to_numpy(w.value).copy() for w in model.weights}
    assert len(weights) == len(model.weights), "two weights of one path"
    return weights


def events_of(schema):
    """The encoded columns that have an axis of events."""
    return [
        feature
        for feature in schema.encoded
        if feature.sequence and feature.kind not in ("length", "count")
    ]


def to_rows(schema, inputs, candidates=3):
    """The same pairs as requests of one candidate."""
    rows = {}
    for feature in schema.encoded:
        value = inputs[feature.key]
        if feature.side == "item":
            rows[feature.key] = value.reshape(-1, 1, *value.shape[2:])
        else:
            rows[feature.key] = np.repeat(value, candidates, axis=0)
    return rows


def pad_histories(schema, inputs, extra, fill=3):
    """More padding: events beyond the length, with any content."""
    padded = dict(inputs)
    for feature in events_of(schema):
        value = inputs[feature.key]
        widths = [(0, 0)] * value.ndim
        widths[1] = (0, extra)
        padded[feature.key] = np.pad(value, widths, constant_values=fill)
    return padded


def without_events(schema, inputs, padding=None):
    """Empty histories, of that many padded events; all by default."""
    empty = dict(inputs)
    for sequence in schema.sequences:
        length = f"{sequence.name}.length"
        empty[length] = np.zeros_like(inputs[length])
    for feature in events_of(schema):
        empty[feature.key] = inputs[feature.key][:, :padding]
    return empty
