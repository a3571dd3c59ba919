"""What users paste and run first: README, examples, tutorials."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_unirec as ku
from keras_unirec.applications.roles import ROLES
from tests.small_log import small_schema

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="exports, which the documents show, need the TensorFlow backend",
)


def run(arguments, folder):
    """Runs Python as a user would, in an empty folder."""
    path = os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "KERAS_UNIREC_SMOKE": "1",
            "MPLBACKEND": "agg",
            "PYTHONPATH": path,
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


def test_readme_code_works_when_pasted(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    small = code.replace("num_rows=20_000", "num_rows=2_000")
    assert small != code
    output = run(["-c", small], tmp_path)
    assert "auc" in output
    assert (tmp_path / "exported" / "1" / "saved_model.pb").exists()


def test_demo(tmp_path):
    demo = ROOT / "examples" / "demo.py"
    output = run([demo, "--out", tmp_path / "out", "--rows", 6_000], tmp_path)
    assert "best possible" in output
    assert (tmp_path / "out" / "training_curve.png").stat().st_size > 0
    request = json.loads((tmp_path / "out" / "request.json").read_text())
    assert request["signature_name"] == "serving_default"


@pytest.mark.parametrize(
    "script",
    sorted((ROOT / "tutorials").glob("[0-9]*.py")),
    ids=lambda path: path.stem,
)
def test_tutorial(script, tmp_path):
    run([script], tmp_path)


@pytest.mark.parametrize(
    "script",
    sorted((ROOT / "tutorials").glob("[0-9]*.py")),
    ids=lambda path: path.stem,
)
def test_notebook_is_that_of_the_script(script):
    notebook = script.with_suffix(".ipynb")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    text = script.read_text(encoding="utf-8")
    blocks = re.split(r"^# %%.*\n", text, flags=re.MULTILINE)[1:]
    kinds = re.findall(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    expected = [
        block.strip() for block, kind in zip(blocks, kinds) if not kind.strip()
    ]
    assert ["".join(cell["source"]).strip() for cell in code] == expected
    assert all(cell["execution_count"] for cell in code), "not executed"
    assert not any(
        output["output_type"] == "error"
        for cell in code
        for output in cell["outputs"]
    )


PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]


def rows(page):
    """The rows of all tables of a page: dicts by the heads of the columns."""
    head = None
    for line in page.read_text(encoding="utf-8").splitlines():
        row = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = row
        elif not line.startswith("|---"):
            yield dict(zip(head, row))


def evaluated(code):
    names = {"keras_unirec": ku, "ku": ku, "layers": ku.layers}
    return eval(f"dict({code})", {**names, "N": 16, "D": 32})


def whole(codes):
    """Codes in a text from which nothing is left out."""
    return [
        code for code in re.findall(r"`([^`\n]+)`", codes) if ".." not in code
    ]


def test_parts_in_the_documents_are_parts():
    """`reader=layers.HeadCrossAttention(..)`, wherever a page says it."""
    count = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if page.name == "parts.md":  # Beside what was written before.
            now = [row["now"] for row in rows(page) if "now" in row]
            text = "\n".join([text.partition("## Moving from")[0], *now])
        for code in whole(text):
            argument, _, part = code.partition("=")
            if argument in ROLES and part:
                for name, value in evaluated(code).items():
                    ROLES[name].make(name, value)
                    count += 1
    assert count > 50


@pytest.mark.parametrize("page", ["mixformer", "hyformer", "unimixer"])
def test_tables_of_parts(page):
    """What an argument is by default, and what it may be too."""
    count = 0
    for row in rows(ROOT / "docs" / f"{page}.md"):
        if "by default" in row:
            (argument,) = re.findall("`(.*?)`", next(iter(row.values())))
            for code in whole(row["by default"] + row["also"]):
                part = evaluated(f"part={code}")["part"]
                ROLES[argument].make(argument, part)
                count += 1
    assert count > 15


@pytest.mark.parametrize("page", ["mixformer", "hyformer", "unimixer"])
def test_each_ablation_is_the_line_to_write(page):
    schema, built = small_schema(), 0
    for row in rows(ROOT / "docs" / f"{page}.md"):
        for code in whole(row.get("write", "")):
            name = row.get("model", f"`{page}_*`").strip("`")
            name = re.sub(r"\*$|4m$", "tiny", name)
            if "join" in code:  # One of its histories has no times.
                code = code.replace("time", "concatenate")
            parts = {**evaluated(code), "num_layers": 1}
            ku.applications.load(name, schema, **parts)
            built += 1
    assert built >= 6


def test_links_of_the_documents_lead_somewhere():
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(
            r"\]\(([^)#]+)[^)]*\)",
            re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL),
        )
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
