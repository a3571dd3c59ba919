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
            other.assign(weight)
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

    def test_compile_errors(self):
        with self.assertRaisesRegex(ValueError, "from_logits=False"):
            self.model.compile(metrics=[keras.metrics.AUC()])
        with self.assertRaisesRegex(ValueError, "from_logits=False"):
            self.model.compile(loss=keras.losses.BinaryCrossentropy())
        with self.assertRaisesRegex(ValueError, "labels that the schema"):
            self.model.compile(loss={"is_clik": "bce"})
        with self.assertRaisesRegex(ValueError, "give one of the two"):
            self.model.compile("adam", recipe="paper")

    def test_input_errors(self):
        inputs, labels, _ = small_batch(self.schema)
        missing = {k: v for k, v in inputs.items() if k != "hist_click"}
        with self.assertRaisesRegex(ValueError, "hist_click.*are missing"):
            self.model(missing)
        with self.assertRaisesRegex(ValueError, "not a DataFrame"):
            self.model.compile()
            self.model.fit(small_frame())
        with self.assertRaisesRegex(ValueError, "is_like.*missing"):
            self.model.targets({"is_click": labels["is_click"]})

    def test_output_activation(self):
        inputs, labels, _ = small_batch(self.schema)
        model = ku.applications.load(
            "mixformer_tiny", self.schema, output_activation="sigmoid"
        )
        for weight, other in zip(self.model.weights, model.weights):
            other.assign(weight)
        self.assertAllClose(
            model(inputs)["is_click"],
            ops.sigmoid(self.model(inputs)["is_click"]),
        )
        model.compile()
        model.fit(inputs, labels, verbose=0)

    def test_registry_errors(self):
        with self.assertRaisesRegex(ValueError, "Known models.*mixformer_tiny"):
            ku.applications.load("mixfromer", self.schema)
        with self.assertRaisesRegex(ValueError, "does not exist"):
            ku.applications.load("mixformer_tiny", self.schema, weights="no.h5")

    def test_two_replicas_equal_one(self):
        if keras.backend.backend() != "tensorflow":
            self.skipTest("MirroredStrategy is TensorFlow's.")
        # One strategy per process: each run has its own.
        folder = self.get_temp_dir()
        script = os.path.join(os.path.dirname(__file__), "train_mirrored.py")
        for replicas in ("1", "2", "2-jit"):
            subprocess.run(
                [sys.executable, script, replicas, folder],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                check=True,
            )
        single = dict(np.load(f"{folder}/1.npz"))
        for name in ("2", "2-jit"):
            mirrored = dict(np.load(f"{folder}/{name}.npz"))
            for key, value in single.items():
                self.assertAllClose(mirrored[key], value, atol=1e-6, rtol=1e-5)
