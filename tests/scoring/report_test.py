import pytest

import keras_unirec as ku


def test_report_prints(frame, model):
    report = ku.evaluate(model, frame)
    table = report.to_frame()
    assert list(table.index) == ["is_click", "is_like"]
    assert table.loc["is_click", "auc"] == report["is_click"]["auc"]
    assert table["rows"].tolist() == [200, 200]
    lines = repr(report).splitlines()
    assert lines[0].split()[:2] == ["auc", "uauc"]
    assert lines[1].startswith("is_click")
    assert "<table" in report._repr_html_()
    assert list(report) == ["is_click", "is_like"]
    with pytest.raises(KeyError, match="is_clik"):
        report["is_clik"]
