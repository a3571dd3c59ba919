import dataclasses

import numpy as np
import pandas as pd
import pytest

import keras_unirec as ku
from tests.scoring.linear_ranker import LinearRanker
from tests.scoring.linear_ranker import expected_logits
from tests.small_log import small_frame
from tests.small_log import small_schema


def check_report(report, frame, schema):
    for name, logits in expected_logits(frame, schema).items():
        labels, users = frame[name], frame["user_id"]
        found = report[name]
        close = {"abs": 1e-6}
        assert found["auc"] == pytest.approx(
            ku.metrics.auc(labels, logits), **close
        )
        assert found["uauc"] == pytest.approx(
            ku.metrics.uauc(labels, logits, users), **close
        )
        assert found["gauc"] == pytest.approx(
            ku.metrics.gauc(labels, logits, users), **close
        )
        assert found["query_auc"] == pytest.approx(
            ku.metrics.query_auc(labels, logits, frame["request"]), **close
        )
        for metric in ("logloss", "normalized_entropy", "calibration"):
            function = getattr(ku.metrics, metric)
            assert found[metric] == pytest.approx(
                function(labels, logits, from_logits=True), abs=1e-5
            )
        assert found["rows"] == len(frame)
        assert found["positives"] == labels.sum()
        users = frame.groupby("user_id")[name].nunique()
        assert found["users_ranked"] == (users == 2).sum()
        assert found["users_skipped"] == (users == 1).sum()
        requests = frame.groupby("request")[name].nunique()
        assert found["requests_ranked"] == (requests == 2).sum()
        assert found["requests_skipped"] == (requests == 1).sum()
    assert not any(report.notes.values())


def test_evaluate_a_frame(frame, schema, model):
    check_report(ku.evaluate(model, frame), frame, schema)
    check_report(ku.evaluate(model, frame, batch_size=33), frame, schema)


@pytest.mark.parametrize("requests", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_evaluate_a_dataset(frame, schema, model, requests, shuffle):
    # Shuffling pads the last batch: rows of weight 0 must not count.
    data = ku.data.from_pandas(
        frame, schema, batch_size=16, requests=requests, shuffle=shuffle
    )
    check_report(ku.evaluate(model, data), frame, schema)


def test_evaluate_a_model_of_probabilities(frame, schema):
    model = LinearRanker(schema, "sigmoid")
    check_report(ku.evaluate(model, frame), frame, schema)


def test_evaluate_agrees_with_predict(frame, model):
    report = ku.evaluate(model, frame)
    predictions = ku.predict(model, frame)
    for name in report:
        assert report[name]["logloss"] == pytest.approx(
            ku.metrics.logloss(frame[name], predictions[name]), abs=1e-6
        )


def test_nan_says_why(frame, schema):
    frame = frame.copy()
    frame["is_like"] = 0
    frame["is_click"] = (frame["user_id"] % 2).astype("float32")
    schema = dataclasses.replace(schema, request_id=None)
    report = ku.evaluate(LinearRanker(schema), frame)
    like, notes = report["is_like"], report.notes["is_like"]
    nan = {name for name, value in like.items() if np.isnan(value)}
    assert nan == {
        "auc",
        "uauc",
        "gauc",
        "query_auc",
        "normalized_entropy",
        "calibration",
    }
    assert nan == set(notes)
    assert "both classes" in notes["auc"]
    assert "no `request_id`" in notes["query_auc"]
    assert "at least one positive" in notes["calibration"]
    # Each user has one class only: nothing to rank inside a user.
    assert np.isnan(report["is_click"]["uauc"])
    assert "`group_id` has rows" in report.notes["is_click"]["uauc"]
    assert report["is_click"]["auc"] > 0
    assert "no `request_id`" in repr(report)


@pytest.mark.parametrize("kind", ["frame", "parquet"])
def test_ids_of_grouped_metrics_are_not_needed(
    frame, schema, model, kind, tmp_path
):
    frame = frame.assign(who=frame["user_id"])
    schema = dataclasses.replace(schema, group_id="who")
    model = LinearRanker(schema)

    def evaluate(frame):
        if kind == "frame":
            return ku.evaluate(model, frame)
        frame.reset_index(drop=True).to_parquet(tmp_path / "rows.parquet")
        return ku.evaluate(model, tmp_path)

    expected = evaluate(frame)["is_click"]
    for column, names in (
        ("request", ["query_auc"]),
        ("who", ["uauc", "gauc"]),
    ):
        report = evaluate(frame.drop(columns=column))
        for name, value in report["is_click"].items():
            if name in names:
                assert np.isnan(value)
                note = report.notes["is_click"][name]
                assert f"no column `{column}`" in note
            elif not name.startswith(("users_", "requests_")):
                assert value == pytest.approx(expected[name])
    neither = frame.drop(columns=["request", "who"])
    pd.testing.assert_frame_equal(
        ku.predict(model, neither), ku.predict(model, frame)
    )
    # An id that is a feature, too, is needed.
    with pytest.raises(ValueError, match="`user_id` is missing"):
        evaluate(frame.drop(columns="user_id"))


def test_soft_labels_are_not_ranked(frame, schema, model):
    frame = frame.assign(is_like=0.25)
    report = ku.evaluate(model, frame)
    assert np.isnan(report["is_like"]["auc"])
    assert "0 or 1" in report.notes["is_like"]["gauc"]
    assert report["is_like"]["logloss"] > 0


def test_errors(frame, schema, model):
    with pytest.raises(ValueError, match="`data` must be a dataset.*dict"):
        ku.evaluate(model, {})
    unlabelled = ku.data.from_pandas(frame, schema, labels=False)
    with pytest.raises(ValueError, match="must have labels"):
        ku.evaluate(model, unlabelled)
    endless = ku.data.from_pandas(frame, schema).repeat()
    with pytest.raises(ValueError, match="must come to an end"):
        ku.evaluate(model, endless)
    data = ku.data.from_pandas(frame, schema, batch_size=50)
    for scale, received in ((-1.0, "-1.0"), (float("nan"), "nan")):
        with pytest.raises(ValueError, match=rf"{received} at \[0, 0\] of bat"):
            ku.evaluate(model, data.map(lambda x, y, w: (x, y, w * scale)))


# --- weights from columns, as docs/data.md has them ---


def test_weights_from_columns():
    schema = small_schema()
    model = ku.applications.load("mixformer_tiny", schema)
    model.compile("sgd", run_eagerly=True)
    frame = small_frame()
    frame["weight"] = np.arange(64) % 4 / 4
    frame["has_like"] = np.arange(64) % 3 > 0
    extra = [ku.Label("weight"), ku.Label("has_like")]
    reading = dataclasses.replace(schema, labels=[*schema.labels, *extra])

    def loss(frame, change, fit=False):
        data = ku.data.from_pandas(frame, reading, batch_size=16).map(change)
        if fit:
            model.fit(data, verbose=0)
        return model.evaluate(data, verbose=0, return_dict=True)["loss"]

    def change(x, y, w):
        w = w * y["weight"]
        return x, y, {"is_click": w, "is_like": w * y["has_like"]}

    expected = loss(frame, change, fit=True)
    other = frame.copy()
    other.loc[other["weight"] == 0, "is_click"] = 0
    other.loc[~other["has_like"], "is_like"] = 0
    assert loss(other, change) == pytest.approx(expected, rel=1e-5)
    other = frame.assign(weight=frame["weight"] / 2)
    assert loss(other, change) == pytest.approx(expected, rel=1e-5)
    other = frame.assign(is_like=1 - frame["is_like"])
    assert loss(other, change) != pytest.approx(expected, rel=1e-3)
    data = ku.data.from_pandas(frame, reading).map(change)
    with pytest.raises(ValueError, match="one weight for all labels"):
        ku.evaluate(model, data)
