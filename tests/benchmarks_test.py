"""The rows of `benchmarks/ablations.py`: their models, and their results."""

import json
import sys
from pathlib import Path

import keras
import pytest

import keras_unirec as ku

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="the benchmarks run on TensorFlow",
)


@pytest.fixture(scope="module")
def ablations():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import ablations
    finally:
        sys.path.pop(0)
    return ablations


@pytest.fixture(scope="module")
def schema():
    """Two short histories, and as many numbers as the `_tiny` sizes cut."""
    return ku.Schema(
        user=[ku.Categorical("user", 5, 16)],
        item=[ku.Categorical("item", 5, 16)],
        sequences=[
            ku.Sequence(
                name,
                4,
                [ku.Categorical(f"{name}_item", share_with="item")],
            )
            for name in ("watched", "liked")
        ],
        labels=[ku.Label("click")],
    )


def test_all_rows_build(ablations, schema):
    """One layer of each: how many there are is no choice of parts."""
    built = set()
    for rows in ablations.ROWS.values():
        for name, (model, overrides) in rows.items():
            overrides = {**overrides, "num_layers": 1}
            key = json.dumps([model, ablations.accuracy.written(overrides)])
            if "anneal_steps" in key or "temperature" in key:
                continue  # Numbers of a layer that another row has.
            if key not in built:
                ku.applications.load(model, schema, **overrides)
            built.add(key)
    assert len(built) > 20


def test_results_are_those_of_rows(ablations):
    for path in (ROOT / "benchmarks" / "results").glob("ablations_*.json"):
        results = ablations.read(path)
        rows = ablations.ROWS[results["family"]]
        for name, result in results["rows"].items():
            seeds = len(result["auc"]["seeds"])
            found = ablations.find([result], *rows[name], seeds)
            assert found is result, (path.name, name, result["overrides"])


def test_parts_are_read_as_they_are_written(ablations):
    """What a JSON file says of a part is what `--set` takes."""
    for rows in ablations.ROWS.values():
        for _, overrides in rows.values():
            for name, line in ablations.accuracy.written(overrides).items():
                if isinstance(line, str) and line.startswith("layers."):
                    part = eval(line, {"layers": ku.layers})
                    again = ablations.accuracy.written({name: part})
                    assert again == {name: line}
