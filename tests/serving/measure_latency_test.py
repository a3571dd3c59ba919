import unittest

import keras

import keras_unirec as ku
from tests.small_log import small_requests
from tests.test_case import TestCase


@unittest.skipIf(
    keras.backend.backend() != "tensorflow", "Export needs TensorFlow."
)
class MeasureLatencyTest(TestCase):
    def test_ways_and_errors(self):
        frame, schema = small_requests()
        model = ku.applications.load("rankmixer_tiny", schema)
        folder = self.get_temp_dir()
        model.export(f"{folder}/1")
        raw = ku.serving.raw_inputs(frame, schema, requests=True)
        times = ku.serving.measure_latency(
            f"{folder}/1", raw, candidates=(1, 6), runs=3
        )
        self.assertEqual(
            times[["candidates", "way"]].values.tolist(),
            [
                [number, way]
                for number in (1, 6)
                for way in (
                    *("serving_default", "encode_user"),
                    *("score_items", "rows"),
                )
            ],
        )
        self.assertTrue((times["p50_ms"] > 0).all())
        self.assertTrue((times["p50_ms"] >= times["min_ms"]).all())
        self.assertTrue((times["p99_ms"] >= times["p50_ms"]).all())

        none = {name: value[:0] for name, value in raw.items()}
        del raw["city"]
        for arguments, message in (
            ({"raw": raw}, "without .'city'."),
            ({"export_dir": folder}, "folder of a SavedModel"),
            ({"raw": none}, "a request with a candidate"),
            ({"runs": 0}, "`runs` must be a positive integer"),
            ({"candidates": 5}, "`candidates` must be a list"),
            ({"candidates": (5, 0)}, "`candidates` must be a positive integer"),
        ):
            arguments = {"export_dir": f"{folder}/1", "raw": {}, **arguments}
            with self.assertRaisesRegex(ValueError, message):
                ku.serving.measure_latency(**arguments)
