"""Auxiliary outputs of a family, and losses that its layers add."""

import keras
import numpy as np
from keras import ops

import keras_unirec as ku
from tests.small_log import small_batch
from tests.small_log import small_frame
from tests.small_log import small_schema
from tests.test_case import TestCase
from tests.test_case import to_numpy


class TwoOutputs(ku.applications.RankingModel):
    """Two vectors of a candidate; the second is there in training alone."""

    needs_histories = False

    def __init__(self, schema, dim=8, **kwargs):
        super().__init__(schema, **kwargs)
        self.first, self.second = (
            keras.layers.Dense(dim, "tanh", name=name)
            for name in ("first", "second")
        )

    def request(self, context, histories):
        return {"context": context}

    def candidates(self, items, state):
        features = self.beside(state["context"], items).tensor
        second = ops.expand_dims(self.second(features), axis=-2)  # A token.
        return ku.applications.Outputs(
            self.first(features), auxiliary=((second, 0.3),)
        )


@keras.saving.register_keras_serializable(package="tests")
class Penalty(keras.layers.Layer):
    """Adds a loss: a value for each candidate, or request, or one for all."""

    def __init__(self, axes=2, **kwargs):
        super().__init__(**kwargs)
        self.axes = axes

    def call(self, inputs):
        self.add_loss(penalty(inputs, self.axes))
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


def penalty(x, axes):
    return ops.mean(ops.square(x), axis=tuple(range(axes, len(x.shape))))


class Penalized(ku.applications.RankingModel):
    """A family whose layers add losses and have regularizers."""

    needs_histories = False

    def __init__(
        self, schema, of_items=2, of_request=1, regularizer=None, **kwargs
    ):
        super().__init__(schema, **kwargs)
        self.of_items = Penalty(of_items, name="of_items")
        self.of_request = Penalty(of_request, name="of_request")
        self.joined = ku.layers.BesideCandidates(name="joined")
        self.dense = keras.layers.Dense(
            4, kernel_regularizer=regularizer, name="dense"
        )

    def request(self, context, histories):
        return {"context": self.of_request(context.tensor)}

    def candidates(self, items, state):
        items = self.of_items(items.tensor)
        return self.dense(self.joined(state["context"], items))


def bce(labels, logits):
    return np.logaddexp(0, logits) - labels * logits


def weighted(labels, outputs, weights):
    """The mean over the weights of all candidates, summed over the labels."""
    return sum(
        np.sum(bce(labels[k], to_numpy(outputs[k])) * weights) / np.sum(weights)
        for k in labels
    )


# R = C and R = 1 are where an axis too few goes wrong in silence.
SIZES = ((3, 3), (1, 4), (5, 2), (4, 1))


def padded(requests, candidates):
    weights = np.ones((requests, candidates), "float32")
    weights[1:, 1:] = 0
    weights[0, 0] = 2.5
    return weights


class AuxiliaryTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.model = TwoOutputs(self.schema)

    def test_loss(self):
        model = self.model
        model.compile(keras.optimizers.SGD(0.1), metrics=[])
        for requests, candidates in SIZES:
            with self.subTest(f"{requests} x {candidates}"):
                x, y, _ = small_batch(self.schema, requests, candidates)
                weights = padded(requests, candidates)
                outputs = model(x, training=True)
                self.assertEqual(
                    sorted(outputs), ["auxiliary_0", "is_click", "is_like"]
                )
                main = weighted(y, outputs, weights)
                auxiliary = weighted(y, outputs["auxiliary_0"], weights)
                self.assertGreater(abs(main - auxiliary), 1e-6)
                # Whatever stands on padding.
                for label in y.values():
                    label[weights == 0] = 7.0
                loss = model.compute_loss(x, y, outputs, weights)
                self.assertAllClose(loss, main + 0.3 * auxiliary, atol=1e-5)
                # A step starts from the same loss.
                before = [to_numpy(w).copy() for w in model.weights]
                value = model.train_on_batch(x, y, sample_weight=weights)
                self.assertAllClose(value, loss, atol=1e-5)
                for weight, value in zip(model.weights, before):
                    weight.assign(value)
                # Evaluation is that of the outputs.
                value = model.test_on_batch(x, y, sample_weight=weights)
                self.assertAllClose(value, main, atol=1e-5)

    def test_a_step_reaches_the_auxiliary_tower(self):
        model = self.model
        model.compile(keras.optimizers.SGD(0.1), metrics=[])
        names = {w.path for w in model.trainable_weights}
        self.assertIn("auxiliary_0_is_click_logit/kernel", names)
        before = {w.path: to_numpy(w).copy() for w in model.weights}
        x, y, _ = small_batch(self.schema)
        model.fit(x, y, verbose=0)
        for weight in model.trainable_weights:
            if weight.path.startswith(("auxiliary_0", "first", "second")):
                change = np.abs(to_numpy(weight) - before[weight.path])
                self.assertGreater(change.max(), 0, weight.path)

    def test_outputs_are_those_of_the_labels(self):
        model = self.model
        labels = list(self.schema.label_names)
        model.compile("sgd")
        x, y, _ = small_batch(self.schema)
        self.assertEqual(list(model(x)), labels)
        self.assertEqual(list(model.predict(x, verbose=0)), labels)
        self.assertEqual(list(model.item_model.output), labels)
        results = model.evaluate(x, y, return_dict=True, verbose=0)
        self.assertEqual(
            sorted(results), ["is_click_auc", "is_like_auc", "loss"]
        )
        frame = small_frame()
        self.assertEqual(list(ku.predict(model, frame).columns), labels)
        if keras.backend.backend() != "tensorflow":
            return
        import tensorflow as tf

        path = f"{self.get_temp_dir()}/1"
        model.export(path)
        signatures = tf.saved_model.load(path).signatures
        for name in ("serving_default", "score_items"):
            self.assertEqual(
                sorted(signatures[name].structured_outputs), labels
            )

    def test_round_trip(self):
        model = self.model
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=[])
        x, y, _ = small_batch(self.schema)
        model.fit(x, y, verbose=0)
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        losses = [
            each.fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"]
            for each in (model, loaded)
        ]
        self.assertAllClose(losses[0], losses[1], atol=1e-6)
        for weight, other in zip(model.weights, loaded.weights, strict=True):
            self.assertEqual(weight.path, other.path)
            self.assertAllClose(weight, other, atol=1e-6)


class AddedLossTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()

    def test_values_are_weighted_as_candidates_are(self):
        model = Penalized(self.schema)
        model.compile(keras.optimizers.SGD(0.0), metrics=[])
        for requests, candidates in SIZES:
            with self.subTest(f"{requests} x {candidates}"):
                x, y, _ = small_batch(self.schema, requests, candidates)
                weights = padded(requests, candidates)
                main, items, request = self.parts(model, x, y, weights)
                share = weights / weights.sum()
                expected = main
                expected += np.sum(share * items)
                expected += np.sum(share.sum(axis=1) * request)
                value = model.train_on_batch(x, y, sample_weight=weights)
                self.assertAllClose(value, expected, atol=1e-5)
                value = model.test_on_batch(x, y, sample_weight=weights)
                self.assertAllClose(value, expected, atol=1e-5)

    def test_weights_by_label(self):
        """A penalty counts as the mean of the labels counts a candidate."""
        model = Penalized(self.schema)
        model.compile(keras.optimizers.SGD(0.0), metrics=[])
        x, y, ones = small_batch(self.schema, 4, 3)
        weights = {"is_click": padded(4, 3), "is_like": ones}
        main = sum(weighted({k: y[k]}, model(x), weights[k]) for k in weights)
        _, items, request = self.parts(model, x, y, ones)
        share = sum(w / w.sum() for w in weights.values()) / 2
        expected = main + np.sum(share * items)
        expected += np.sum(share.sum(axis=1) * request)
        value = model.train_on_batch(x, y, sample_weight=weights)
        self.assertAllClose(value, expected, atol=1e-5)

    def parts(self, model, x, y, weights):
        """The loss of the outputs, and what the two layers add, unweighted."""
        x = {key: ops.convert_to_tensor(value) for key, value in x.items()}
        x.update(model.encode_user(x))

        def read(half, name):
            part = keras.Model(half.inputs, half.get_layer(name).output)
            return part([x[tensor.name] for tensor in half.inputs])

        return (
            weighted(y, model(x), weights),
            to_numpy(penalty(read(model.item_model, "of_items"), 2)),
            to_numpy(penalty(read(model.user_model, "of_request"), 1)),
        )

    def test_a_mean_is_refused(self):
        x, y, _ = small_batch(self.schema)
        for axes in ({"of_items": 0}, {"of_request": 0}):
            model = Penalized(self.schema, **axes)
            model.compile("sgd", metrics=[])
            with self.assertRaisesRegex(
                ValueError,
                r"a value for each candidate, \(R, C\), or for each request, "
                r"\(R,\): a mean would count .* Received: shape \(\)",
            ):
                model.fit(x, y, verbose=0)

    def test_regularizers(self):
        model = Penalized(self.schema, regularizer=keras.regularizers.L2(0.5))
        model.compile(keras.optimizers.SGD(0.0), metrics=[])
        x, y, _ = small_batch(self.schema, 4, 3)
        weights = padded(4, 3)
        main, items, request = self.parts(model, x, y, weights)
        share = weights / weights.sum()
        expected = main + np.sum(share * items)
        expected += np.sum(share.sum(axis=1) * request)
        # The sum of squares, whatever the batch weighs.
        expected += 0.5 * np.sum(np.square(to_numpy(model.dense.kernel)))
        value = model.train_on_batch(x, y, sample_weight=weights)
        self.assertAllClose(value, expected, atol=1e-5)
