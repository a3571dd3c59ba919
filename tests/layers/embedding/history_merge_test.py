import numpy as np

from keras_unirec import layers
from tests.test_case import TestCase


class HistoryMergeTest(TestCase):
    def setUp(self):
        super().setUp()
        # Each event carries its own gap, so that order can be read off.
        self.gaps = [
            np.array([[90, 50, 10, 0], [7, 0, 0, 0]], "int32"),
            np.array([[70, 20], [-1, 3]], "int32"),
        ]
        self.masks = [
            np.array([[1, 1, 1, 0], [1, 0, 0, 0]], "bool"),
            np.array([[1, 1], [1, 1]], "bool"),
        ]
        self.histories = [
            np.repeat(gaps[:, :, None], 2, axis=2).astype("float32")
            for gaps in self.gaps
        ]

    def real(self, history, mask):
        return [
            [int(x) for x in row[keep, 0]]
            for row, keep in zip(np.asarray(history), np.asarray(mask))
        ]

    def test_concatenates(self):
        history, mask = layers.HistoryMerge()(self.histories, self.masks)
        self.assertEqual(history.shape, (2, 6, 2))
        self.assertEqual(
            self.real(history, mask), [[90, 50, 10, 70, 20], [7, -1, 3]]
        )

    def test_by_time(self):
        history, mask = layers.HistoryMerge()(
            self.histories, self.masks, self.gaps
        )
        # Oldest first; an event without a time counts as the oldest.
        self.assertEqual(
            self.real(history, mask), [[90, 70, 50, 20, 10], [-1, 7, 3]]
        )
        # Right-padded.
        self.assertAllClose(mask, [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]])

    def test_keeps_the_most_recent(self):
        merge = layers.HistoryMerge(max_length=2)
        history, mask = merge(self.histories, self.masks, self.gaps)
        self.assertEqual(history.shape, (2, 2, 2))
        self.assertEqual(self.real(history, mask), [[20, 10], [7, 3]])
        longer, mask = layers.HistoryMerge(max_length=20)(
            self.histories, self.masks, self.gaps
        )
        self.assertEqual(longer.shape, (2, 6, 2))

    def test_padding_is_ignored(self):
        padded = [np.pad(h, ((0, 0), (0, 3), (0, 0))) for h in self.histories]
        masks = [np.pad(m, ((0, 0), (0, 3))) for m in self.masks]
        gaps = [np.pad(g, ((0, 0), (0, 3))) for g in self.gaps]
        merge = layers.HistoryMerge(max_length=3)
        self.assertEqual(
            self.real(*merge(padded, masks, gaps)),
            self.real(*merge(self.histories, self.masks, self.gaps)),
        )

    def test_bad_length(self):
        with self.assertRaisesRegex(ValueError, "`max_length` must be"):
            layers.HistoryMerge(max_length=0)
