"""Batches of requests of several candidates: buckets, weights, gradients."""

import importlib
import pathlib
from unittest import mock

import keras
import numpy as np
import pandas as pd
import pytest
from absl.testing import parameterized

import keras_unirec as ku
from tests import small_log
from tests.test_case import TestCase

SIZE = 32  # Requests of a batch.
READERS = ("pandas", "parquet")


def skewed_frame(num_requests=1000, seed=0):
    """Rows of requests of 1 to 50 candidates: most are small."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.geometric(0.12, num_requests), 50)
    rows = sizes.sum()
    return pd.DataFrame(
        {
            "row": np.arange(rows),
            "request": np.repeat(np.arange(num_requests), sizes),
            "item": rng.integers(0, 9, rows),
            "click": rng.integers(0, 2, rows),
        }
    )


def skewed_schema():
    return ku.Schema(
        item=[
            ku.Categorical("item", 9),
            ku.Numerical("row", mean=0.0, std=1.0),
        ],
        labels=[ku.Label("click")],
        request_id="request",
    )


class Epoch:
    """Which requests one pass over a dataset yields, and in what shapes."""

    def __init__(self, dataset):
        self.shapes, self.sizes, self.requests = [], [], []
        rows = []
        for x, _, w in dataset:
            real = w.numpy() > 0
            self.shapes.append(w.shape)
            ids = x["__request_id__"].numpy()
            self.requests.append(ids[real.any(axis=1)])
            self.sizes.append(real.sum(axis=1)[real.any(axis=1)])
            rows.append(x["row"].numpy()[real])
        self.order = np.concatenate(self.requests)
        self.rows = np.sort(np.concatenate(rows)).astype("int64")
        self.padded = 1 - len(self.rows) / sum(r * c for r, c in self.shapes)


class BucketsTest(TestCase):
    def setUp(self):
        super().setUp()
        # Units of few rows make several pools of a small log.
        module = importlib.import_module("keras_unirec.data.from_parquet")
        self.enterContext(mock.patch.object(module, "_MIN_ROWS", 500))
        self.df = skewed_frame()
        self.sizes = self.df.groupby("request").size().to_numpy()

    def read(self, reader, batch_size=SIZE, shuffle=True, **kwargs):
        kwargs = {"requests": True, "shuffle": shuffle, **kwargs}
        if reader == "pandas":
            return ku.data.from_pandas(
                self.df, skewed_schema(), batch_size, **kwargs
            )
        folder = pathlib.Path(self.get_temp_dir())
        self.df.to_parquet(folder / "rows.parquet", row_group_size=300)
        kwargs.setdefault("shuffle_buffer", 200)
        return ku.data.from_parquet(
            folder, skewed_schema(), batch_size, **kwargs
        )

    @parameterized.product(
        reader=READERS,
        buckets=("auto", [3, 8, 64], None),
        drop_remainder=(False, True),
    )
    def test_each_request_once_per_epoch(self, reader, buckets, drop_remainder):
        dataset = self.read(
            reader,
            candidate_buckets=buckets,
            drop_remainder=drop_remainder,
            pad_batches=False,
        )
        num_batches = 1000 // SIZE + (not drop_remainder)
        self.assertEqual(int(dataset.cardinality()), num_batches)
        one, two = Epoch(dataset), Epoch(dataset)
        for epoch in (one, two):
            self.assertLen(epoch.shapes, num_batches)
            lengths = [len(requests) for requests in epoch.requests]
            self.assertEqual(lengths[: 1000 // SIZE], [SIZE] * (1000 // SIZE))
            self.assertLen(np.unique(epoch.order), sum(lengths))
            self.assertEqual(
                np.concatenate(epoch.sizes).tolist(),
                self.sizes[epoch.order].tolist(),
            )
            if not drop_remainder:
                self.assertEqual(sum(lengths), 1000)
                np.testing.assert_array_equal(epoch.rows, self.df["row"])
        self.assertFalse(np.array_equal(one.order, two.order))

    @parameterized.parameters(*READERS)
    def test_seeds(self, reader):
        orders = []
        for seed in (0, 0, 1):
            dataset = self.read(reader, seed=seed)
            orders.append([Epoch(dataset).order for _ in range(2)])
        np.testing.assert_array_equal(orders[0], orders[1])
        self.assertFalse(np.array_equal(orders[0], orders[2]))

    @parameterized.parameters(*READERS)
    def test_padding_is_limited(self, reader):
        bucketed = Epoch(self.read(reader))
        self.assertLess(bucketed.padded, 0.3)
        self.assertGreater(
            Epoch(self.read(reader, candidate_buckets=None)).padded, 0.6
        )
        # Batches come as they fill up, not bucket by bucket.
        widths = [width for _, width in bucketed.shapes[:12]]
        self.assertTrue((np.diff(widths) < 0).any())
        # Only what is left over at the end mixes buckets.
        mixed = [
            len(np.unique(np.ceil(np.log2(sizes)))) > 1
            for sizes in bucketed.sizes
        ]
        self.assertFalse(any(mixed[:-6]))
        # It is cut from the largest request on.
        left = np.concatenate(bucketed.sizes[mixed.index(True) :])
        self.assertTrue((np.diff(left) <= 0).all())

    @parameterized.parameters(*READERS)
    def test_no_request_is_dropped_in_every_epoch(self, reader):
        dataset = self.read(reader, 48, drop_remainder=True)
        seen = [Epoch(dataset).order for _ in range(6)]
        self.assertLen(np.unique(np.concatenate(seen)), 1000)

    @parameterized.parameters(*READERS)
    def test_widths(self, reader):
        for buckets, bounds in (
            ("auto", [1, 2, 4, 8, 16, 32, 64]),
            ([3, 8, 20, 50], [3, 8, 20, 50]),
        ):
            dataset = self.read(
                reader, candidate_buckets=buckets, padding="max_length"
            )
            self.assertEqual(dataset.element_spec[2].shape, [SIZE, None])
            epoch = Epoch(dataset)
            self.assertEqual(sorted({c for _, c in epoch.shapes}), bounds)
            for (_, width), sizes in zip(epoch.shapes, epoch.sizes):
                bound = next(b for b in bounds if b >= sizes.max())
                self.assertEqual(width, bound)
        for kwargs in ({}, {"candidate_buckets": None}):
            epoch = Epoch(self.read(reader, **kwargs))
            for (_, width), sizes in zip(epoch.shapes, epoch.sizes):
                self.assertEqual(width, sizes.max())

    @parameterized.parameters(*READERS)
    def test_one_bucket_is_one_shape(self, reader):
        dataset = self.read(
            reader, candidate_buckets=[60], padding="max_length"
        )
        x, y, w = dataset.element_spec
        self.assertEqual(x["item"].shape, [SIZE, 60])
        self.assertEqual(y["click"].shape, [SIZE, 60])
        self.assertEqual(w.shape, [SIZE, 60])
        self.assertEqual(set(Epoch(dataset).shapes), {(SIZE, 60)})

    @parameterized.parameters(*READERS)
    def test_order_without_shuffling(self, reader):
        for kwargs in (
            {},
            {"candidate_buckets": [7, 50], "padding": "max_length"},
            {"candidate_buckets": None},
        ):
            epoch = Epoch(self.read(reader, shuffle=False, **kwargs))
            self.assertEqual(epoch.order.tolist(), list(range(1000)))
            widths = {c for _, c in epoch.shapes}
            if "padding" in kwargs:
                self.assertEqual(widths, {50})
            else:
                self.assertGreater(len(widths), 5)

    @parameterized.product(reader=READERS, weighting=("candidates", "requests"))
    def test_weighting(self, reader, weighting):
        total = 0.0
        for _, _, w in self.read(reader, weighting=weighting):
            w = w.numpy()
            real = w > 0
            number = np.maximum(real.sum(axis=1, keepdims=True), 1)
            each = 1 / number if weighting == "requests" else 1.0
            self.assertAllClose(w, np.where(real, each, 0.0))
            total += w.sum()
        expected = 1000 if weighting == "requests" else len(self.df)
        self.assertAllClose(total, expected, rtol=1e-5)

    def test_more_requests_in_a_batch_than_there_are(self):
        self.df = self.df[self.df["request"] < 5]
        for reader in READERS:
            epoch = Epoch(self.read(reader))
            self.assertEqual(sorted(epoch.order), list(range(5)))
            self.assertEqual(epoch.shapes, [(SIZE, self.sizes[:5].max())])


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="uses tf.GradientTape"
)
class GradientsTest(TestCase):
    """A step on requests is a step on their rows."""

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        df = small_log.small_frame()
        df["request"] = np.sort(rng.integers(0, 20, len(df)))
        self.df, self.schema = small_log.small_requests(df)

    def load(self, name):
        self.model = ku.applications.load(name, self.schema)
        self.model.compile()

    def step(self, dataset, weights=None):
        """The loss of the only batch, and its gradients by weight."""
        import tensorflow as tf

        ((x, y, w),) = dataset
        w = w if weights is None else weights
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self.model(self.model.known_inputs(x))
            loss = self.model.compute_loss(x, y, outputs, w)
        gradients = tape.gradient(loss, variables)
        return loss, {
            variable.path: tf.convert_to_tensor(gradient).numpy()
            for variable, gradient in zip(variables, gradients)
        }

    @parameterized.parameters(
        ("candidates", "ui_mixformer_tiny"), ("requests", "mixformer_tiny")
    )
    def test_equals_training_on_rows(self, weighting, name):
        self.load(name)
        sizes = self.df.groupby("request")["request"].transform("size")
        each = {"candidates": sizes**0.0, "requests": 1 / sizes}[weighting]
        loss, gradients = self.step(
            ku.data.from_pandas(self.df, self.schema, len(self.df)),
            each.to_numpy("float32")[:, None],
        )
        # Shuffled, in a bucket, and filled up: 20 requests become 32.
        found, by_request = self.step(
            ku.data.from_pandas(
                self.df,
                self.schema,
                32,
                shuffle=True,
                requests=True,
                padding="max_length",
                weighting=weighting,
            )
        )
        self.assertGreater(sizes.nunique(), 3)
        self.assertAllClose(found, loss, atol=1e-5)
        for path, gradient in gradients.items():
            self.assertGreater(np.abs(gradient).max(), 0.0, path)
            np.testing.assert_allclose(
                by_request[path], gradient, rtol=0, atol=1e-5, err_msg=path
            )
