import os
import subprocess
import sys

import keras
import keras_rs
import numpy as np
from keras import ops

import keras_unirec as ku
from tests.small_log import small_batch
from tests.small_log import small_frame
from tests.small_log import small_schema
from tests.test_case import TestCase


def bce(labels, logits):
    return np.logaddexp(0, logits) - labels * logits


class RankingModelTest(TestCase):
    def setUp(self):
        super().setUp()
        self.schema = small_schema()
        self.model = ku.applications.load("mixformer_tiny", self.schema)

    def loss(self, requests, candidates, weights):
        inputs, labels, _ = small_batch(self.schema, requests, candidates)
        logits = self.model(inputs)
        value = self.model.compute_loss(
            inputs, labels, logits, sample_weight=weights
        )
        return inputs, labels, logits, float(value)

    def test_loss_is_the_pointwise_loss(self):
        # R == C and R == 1 are where a stock loss goes wrong in silence.
        self.model.compile("sgd")
        for requests, candidates in ((3, 3), (1, 4), (5, 2), (4, 1)):
            rng = np.random.default_rng(1)
            shape = (requests, candidates)
            weights = rng.integers(0, 2, shape).astype("float32")
            weights[0, 0] = 1
            _, labels, logits, loss = self.loss(requests, candidates, weights)
            expected = sum(
                np.sum(bce(labels[k], np.array(logits[k])) * weights)
                / np.sum(weights)
                for k in labels
            )
            self.assertAllClose(loss, expected, atol=1e-5)

    def test_padding_candidates_take_no_part(self):
        inputs, labels, weights = small_batch(self.schema, 4, 3)
        weights[1, 2] = weights[3, 1:] = 0
        real = weights.reshape(-1) > 0
        rows, row_labels = {}, {}
        for feature in self.schema.encoded:
            value = inputs[feature.key]
            if feature.side == "item":
                value = value.reshape(-1, 1, *value.shape[2:])
            else:
                value = np.repeat(value, 3, axis=0)
            rows[feature.key] = value[real]
        for name, value in labels.items():
            row_labels[name] = value.reshape(-1, 1)[real]
            value[weights == 0] = 7.0  # Whatever stands there.
        pointwise = ku.applications.load("mixformer_tiny", self.schema)
        for weight, other in zip(self.model.weights, pointwise.weights):
            other.assign(weight.numpy().copy())
        self.model.compile(keras.optimizers.SGD(0.5))
        pointwise.compile(keras.optimizers.SGD(0.5))
        first = self.model.train_on_batch(
            inputs,
            labels,
            sample_weight=dict.fromkeys(labels, weights),
            return_dict=True,
        )
        second = pointwise.train_on_batch(rows, row_labels, return_dict=True)
        for name in second:
            self.assertAllClose(first[name], second[name], atol=1e-5)
        # Equal weights after a step: equal gradients.
        for weight, other in zip(self.model.weights, pointwise.weights):
            self.assertAllClose(weight, other, atol=1e-5)

    def test_loss_weights(self):
        self.model.compile("sgd", loss_weights={"is_click": 3.0, "is_like": 0})
        _, labels, logits, loss = self.loss(4, 2, None)
        expected = 3 * np.mean(
            bce(labels["is_click"], np.array(logits["is_click"]))
        )
        self.assertAllClose(loss, expected, atol=1e-5)

    def test_list_wise_loss_and_metric(self):
        listwise = keras_rs.losses.PairwiseLogisticLoss()
        self.model.compile(
            "sgd",
            loss={"is_click": listwise, "is_like": "bce"},
            loss_weights={"is_click": 1.0, "is_like": 0.0},
            metrics=[keras_rs.metrics.NDCG(k=2, name="ndcg")],
        )
        inputs, labels, logits, loss = self.loss(5, 4, None)
        expected = listwise(labels["is_click"], logits["is_click"])
        self.assertAllClose(loss, expected, atol=1e-5)
        history = self.model.fit(inputs, labels, verbose=0).history
        self.assertIn("is_click_ndcg", history)
        # Padding candidates change nothing.
        padded, more_labels, weights = small_batch(self.schema, 5, 6)
        weights[:, 4:] = 0
        for feature in self.schema.encoded:
            if feature.side == "item":
                padded[feature.key][:, :4] = inputs[feature.key]
            else:
                padded[feature.key] = inputs[feature.key]
        for name in labels:
            more_labels[name][:, :4] = labels[name]
        value = self.model.compute_loss(
            padded, more_labels, self.model(padded), sample_weight=weights
        )
        again = self.model.compute_loss(inputs, labels, self.model(inputs))
        self.assertAllClose(value, again, atol=1e-5)

    def test_compile_defaults(self):
        self.model.compile()
        inputs, labels, _ = small_batch(self.schema)
        history = self.model.fit(inputs, labels, verbose=0).history
        self.assertEqual(
            sorted(history), ["is_click_auc", "is_like_auc", "loss"]
        )
        self.model.compile(recipe="paper")
        self.model.fit(inputs, labels, verbose=0)

    def test_end_to_end(self):
        """The default recipe, a file, and what goes on after it."""
        inputs, labels, _ = small_batch(self.schema)
        model = self.model
        model.compile()
        fit = {"shuffle": False, "verbose": 0}
        losses = model.fit(inputs, labels, epochs=20, **fit).history["loss"]
        self.assertFinite(losses)
        self.assertLess(losses[-1], losses[0])
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        outputs = model.predict(inputs, verbose=0)
        for label, value in loaded.predict(inputs, verbose=0).items():
            self.assertAllClose(value, outputs[label], atol=0)
            self.assertAllClose(model(inputs)[label], value, atol=1e-5)
        # The optimizer comes along: the next epochs are the same.
        first, second = (
            each.fit(inputs, labels, epochs=2, **fit).history["loss"]
            for each in (model, loaded)
        )
        self.assertEqual(first, second)
        self.assertLen(set(first), 2)
        for weight, other in zip(model.weights, loaded.weights, strict=True):
            self.assertAllClose(weight, other, atol=0, rtol=0)

    def test_compile_errors(self):
        with self.assertRaisesRegex(ValueError, "from_logits=False"):
            self.model.compile(metrics=[keras.metrics.AUC()])
        with self.assertRaisesRegex(ValueError, "from_logits=False"):
            self.model.compile(loss=keras.losses.BinaryCrossentropy())
        with self.assertRaisesRegex(ValueError, "labels that the schema"):
            self.model.compile(loss={"is_clik": "bce"})
        with self.assertRaisesRegex(ValueError, "give one of the two"):
            self.model.compile("adam", recipe="paper")

    def test_losses_and_metrics_by_name_and_function(self):
        inputs, labels, _ = small_batch(self.schema)
        logits = self.model(inputs)
        error = np.array(logits["is_click"]) - labels["is_click"]
        weights = {"is_click": 1.0, "is_like": 0.0}
        for loss in ("mse", keras.losses.MeanSquaredError()):
            self.model.compile("sgd", loss=loss, loss_weights=weights)
            value = self.model.compute_loss(inputs, labels, logits)
            self.assertAllClose(value, np.mean(error**2), atol=1e-5)
        # A function that has the choice is told that these are logits.
        self.model.compile(
            "sgd",
            loss=keras.losses.binary_crossentropy,
            loss_weights=weights,
            metrics=[
                "accuracy",
                keras.metrics.BinaryAccuracy(name="stock"),
                lambda y, p: ops.mean(p, axis=-1),
            ],
        )
        value = self.model.compute_loss(inputs, labels, logits)
        expected = np.mean(
            bce(labels["is_click"], np.array(logits["is_click"]))
        )
        self.assertAllClose(value, expected, atol=1e-5)
        results = self.model.compute_metrics(inputs, labels, logits)
        accuracy = np.mean(
            (np.array(logits["is_click"]) > 0) == labels["is_click"]
        )
        self.assertAllClose(results["is_click_accuracy"], accuracy)
        self.assertAllClose(results["is_click_stock"], accuracy)

    def test_missing_labels_of_weight_zero(self):
        self.model.compile("sgd")
        inputs, labels, weights = small_batch(self.schema)
        labels["is_like"][0] = np.nan
        weights = {"is_click": weights, "is_like": weights.copy()}
        weights["is_like"][0] = 0
        loss = self.model.compute_loss(
            inputs, labels, self.model(inputs), sample_weight=weights
        )
        self.assertFinite(loss)

    def test_odd_column_names(self):
        frame = small_frame().rename(
            columns={"city": "home city (2024)", "is_click": "clicked?"}
        )
        watched = ku.Categorical("hist_video_id", share_with="video_id")
        schema = ku.Schema(
            user=[
                ku.Categorical(
                    "home city (2024)", embedding_dim=4, vocabulary="lookup"
                )
            ],
            item=[ku.Categorical("video_id", 30, 8)],
            sequences=[ku.Sequence("has been seen", 8, [watched])],
            labels=[ku.Label("clicked?")],
        ).adapt(frame)
        model = ku.applications.load("mixformer_tiny", schema)
        model.compile("sgd")
        model.fit(ku.data.from_pandas(frame, schema, 32), verbose=0)
        self.assertEqual(list(ku.predict(model, frame).columns), ["clicked?"])

    def test_names_of_other_scripts(self):
        # As many letters each: `_` for every one of them would be one name.
        watched = ku.Categorical("видео", share_with="ролик")
        schema = ku.Schema(
            user=[ku.Categorical("город", 5, 8), ku.Categorical("канал", 5, 8)],
            item=[ku.Categorical("ролик", 5, 16)],
            sequences=[ku.Sequence("смотрел", 4, [watched])],
            labels=[ku.Label("клик")],
        )
        inputs, _, _ = small_batch(schema)
        for name in ku.applications.list_models("*_tiny"):
            model = ku.applications.load(name, schema)
            self.assertEqual(model(inputs)["клик"].shape, (6, 3))

    def test_weights_that_would_broadcast_are_refused(self):
        inputs, labels, weights = small_batch(self.schema)
        outputs = self.model(inputs)

        def loss(weights):
            return float(
                self.model.compute_loss(
                    inputs, labels, outputs, sample_weight=weights
                )
            )

        self.model.compile("sgd")
        weights[:, 1] = 0
        weights[2] *= 3
        # One per request, in either shape.
        request = np.arange(6, dtype="float32")
        whole = np.repeat(request[:, None], 3, axis=1)
        for same in (request, request[:, None], dict.fromkeys(labels, whole)):
            self.assertAllClose(loss(same), loss(whole), atol=1e-6)
        for wrong, message in (
            (weights[:1], r"\(6, 3\), or one per request.*\(1, 3\)"),
            (weights[0], r"shape \(3,\)"),
            (weights[..., None], "one per candidate"),
            ({"is_click": weights}, r"name the labels .*\['is_click'\]"),
            ({"click": weights, "is_like": weights}, "name the labels"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                loss(wrong)

    def test_list_wise_losses_need_several_candidates(self):
        inputs, labels, _ = small_batch(self.schema, candidates=1)
        self.model.compile("sgd", keras_rs.losses.ListMLELoss())
        with self.assertRaisesRegex(ValueError, "`requests=True`"):
            self.model.fit(inputs, labels, verbose=0)

    def test_input_errors(self):
        inputs, labels, _ = small_batch(self.schema)
        missing = {k: v for k, v in inputs.items() if k != "hist_click"}
        with self.assertRaisesRegex(ValueError, "hist_click.*are missing"):
            self.model(missing)
        with self.assertRaisesRegex(ValueError, "`compile\\(\\)`"):
            self.model.fit(inputs, labels)
        self.model.compile("sgd")
        with self.assertRaisesRegex(ValueError, "not a DataFrame"):
            self.model.fit(small_frame())
        with self.assertRaisesRegex(ValueError, "`keras_unirec.data.from_par"):
            self.model.fit("train.parquet")
        with self.assertRaisesRegex(ValueError, "keras_unirec.predict"):
            self.model.predict(small_frame())
        with self.assertRaisesRegex(ValueError, "without labels"):
            self.model.targets(None)
        with self.assertRaisesRegex(ValueError, "shape of the outputs"):
            self.model.compute_loss(
                inputs,
                {k: v.T for k, v in labels.items()},
                self.model(inputs),
            )
        with self.assertRaisesRegex(ValueError, "is_like.*missing"):
            self.model.targets({"is_click": labels["is_click"]})

    def test_output_activation(self):
        inputs, labels, _ = small_batch(self.schema)
        model = ku.applications.load(
            "mixformer_tiny", self.schema, output_activation="sigmoid"
        )
        for weight, other in zip(self.model.weights, model.weights):
            other.assign(weight.numpy().copy())
        self.assertAllClose(
            model(inputs)["is_click"],
            ops.sigmoid(self.model(inputs)["is_click"]),
        )
        model.compile()
        model.fit(inputs, labels, verbose=0)

    def test_registry_errors(self):
        with self.assertRaisesRegex(ValueError, "Known models.*mixformer_tiny"):
            ku.applications.load("mixfromer", self.schema)
        with self.assertRaisesRegex(ValueError, "mean 'mixformer_tiny'"):
            ku.applications.load("mixformer_tinny", self.schema)
        with self.assertRaisesRegex(ValueError, "comes first"):
            ku.applications.load(self.schema, "mixformer_tiny")
        with self.assertRaisesRegex(ValueError, "num_heads=7, dim=32"):
            ku.applications.load("mixformer_tiny", self.schema, num_heads=7)
        with self.assertRaisesRegex(ValueError, "mean `num_layers`"):
            ku.applications.load("mixformer_tiny", self.schema, num_layer=3)
        with self.assertRaisesRegex(ValueError, "must be a `keras_unirec"):
            ku.applications.load("mixformer_tiny", None)
        with self.assertRaisesRegex(ValueError, "does not exist"):
            ku.applications.load("mixformer_tiny", self.schema, weights="no.h5")

    def test_two_replicas_equal_one(self):
        if keras.backend.backend() != "tensorflow":
            self.skipTest("MirroredStrategy is TensorFlow's.")
        folder = self.get_temp_dir()
        script = os.path.join(os.path.dirname(__file__), "train_mirrored.py")
        # UniMixer also counts its steps, in every replica.
        modes = {
            "mixformer_tiny": ("1", "2", "2-jit"),
            "unimixer_lite_tiny": ("1", "2-jit"),
        }
        runs = [f"{m}:{name}" for name, all in modes.items() for m in all]
        subprocess.run(
            [sys.executable, script, folder, *runs],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        for name, (single, *mirrored) in modes.items():
            expected = dict(np.load(f"{folder}/{name}_{single}.npz"))
            for mode in mirrored:
                found = dict(np.load(f"{folder}/{name}_{mode}.npz"))
                for key, value in expected.items():
                    self.assertAllClose(found[key], value, atol=1e-6, rtol=1e-5)
