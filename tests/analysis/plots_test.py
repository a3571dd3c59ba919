import sys

import keras
import numpy as np
import pytest

from keras_unirec import analysis

HISTORY = {
    "loss": [0.7, 0.6, 0.5],
    "auc": [0.5, 0.6, 0.7],
    "val_loss": [0.8, 0.7, 0.65],
}


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")


def test_one_panel_per_metric():
    figure = analysis.plot_history(HISTORY)
    loss, auc = figure.axes
    assert (loss.get_title(), auc.get_title()) == ("loss", "auc")
    assert [line.get_label() for line in loss.get_lines()] == [
        "training",
        "validation",
    ]
    np.testing.assert_array_equal(
        loss.get_lines()[1].get_xydata(),
        [[1, 0.8], [2, 0.7], [3, 0.65]],
    )
    assert auc.get_legend() is None
    assert "step" not in HISTORY and len(HISTORY) == 3  # Left as it was.


def test_history_of_fit_and_file(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = np.ones((4, 2)), np.ones((4, 1))
    history = model.fit(*data, validation_data=data, verbose=0)
    path = tmp_path / "new" / "curves.png"
    analysis.plot_history(history, path)
    assert path.read_bytes()[1:4] == b"PNG"


def test_steps_and_references():
    history = {
        "step": [10, 20, 30],
        "loss": [0.7, 0.6, 0.5],
        "val_loss": [0.6],
        "val_auc": [0.7],
    }
    figure = analysis.plot_history(history, reference={"loss": 0.4})
    loss, auc = figure.axes
    lines = {line.get_label(): line for line in loss.get_lines()}
    np.testing.assert_array_equal(lines["training"].get_xdata(), [10, 20, 30])
    np.testing.assert_array_equal(lines["validation"].get_xdata(), [30])
    assert lines["reference"].get_ydata()[0] == 0.4
    assert auc.get_title() == "val_auc"
    assert loss.get_xlabel() == "step"


def test_errors(monkeypatch):
    with pytest.raises(ValueError, match="`history` must hold.*call `fit`"):
        analysis.plot_history({})
    with pytest.raises(ValueError, match="what `fit` returned.*NoneType"):
        analysis.plot_history(None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install.*keras_unirec\[plot\]"):
        analysis.plot_history(HISTORY)
