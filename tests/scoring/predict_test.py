import keras
import numpy as np
import pandas as pd
import pytest

import keras_unirec as ku
from tests.scoring.linear_ranker import LinearRanker
from tests.scoring.linear_ranker import expected_logits


def test_predict(frame, schema, model):
    predictions = ku.predict(model, frame)
    assert isinstance(predictions, pd.DataFrame)
    assert list(predictions.columns) == ["is_click", "is_like"]
    assert predictions.index.equals(frame.index)
    assert (predictions.dtypes == "float32").all()
    for name, logits in expected_logits(frame, schema).items():
        np.testing.assert_allclose(
            predictions[name], 1 / (1 + np.exp(-logits)), atol=1e-6
        )


@pytest.mark.parametrize("batch_size", [1, 7, 200, 4096])
def test_predict_does_not_depend_on_the_batches(frame, model, batch_size):
    pd.testing.assert_frame_equal(
        ku.predict(model, frame),
        ku.predict(model, frame, batch_size=batch_size),
        atol=1e-6,
    )


def test_predict_needs_no_labels(frame, model):
    pd.testing.assert_frame_equal(
        ku.predict(model, frame.drop(columns=["is_click", "is_like"])),
        ku.predict(model, frame),
    )


def test_predict_of_a_model_of_probabilities(frame, schema, model):
    probabilities = ku.predict(LinearRanker(schema, "sigmoid"), frame)
    pd.testing.assert_frame_equal(
        probabilities, ku.predict(model, frame), atol=1e-6
    )


def test_predict_of_parquet(frame, model, tmp_path):
    path = tmp_path / "rows.parquet"
    frame.reset_index(drop=True).to_parquet(path, row_group_size=32)
    expected = ku.predict(model, frame).reset_index(drop=True)
    pd.testing.assert_frame_equal(ku.predict(model, path), expected)
    pd.testing.assert_frame_equal(ku.predict(model, [str(path)]), expected)


def test_errors(frame, schema, model):
    with pytest.raises(ValueError, match="`data` must be a data frame.*list"):
        ku.predict(model, [1, 2])
    with pytest.raises(ValueError, match="`model` must have the `schema`"):
        ku.predict(keras.Sequential(), frame)
    dataset = ku.data.from_pandas(frame, schema)
    with pytest.raises(ValueError, match=r"`model.predict\(dataset\)` returns"):
        ku.predict(model, dataset)
    with pytest.raises(ValueError, match="`video_id` is missing"):
        ku.predict(model, frame.drop(columns="video_id"))
