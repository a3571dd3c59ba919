"""What holds for the project as a whole: imports, names, metadata."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_unirec as ku

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "keras_unirec"
BACKENDS = {"jax", "tensorflow", "tf_keras", "torch"}
# Where a backend may be imported at the top of a file. Elsewhere a function
# imports what it needs; layers and applications never do.
FREE = ("data/", "optimizers/", "serving/")
# The private modules of what only TensorFlow can do.
TENSORFLOW = "_tensorflow.py"
KERAS_ONLY = ("applications/", "layers/")


def _backend_imports(path):
    """Yields `(line, module, inside a function)` per import of a backend."""

    def visit(node, inside):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        else:
            names = []
        for name in names:
            if name.split(".")[0] in BACKENDS:
                yield node.lineno, name, inside
        inside = inside or isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False)


def test_backends_are_imported_only_where_they_may_be():
    broken = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(FREE) or path.name == TENSORFLOW:
            continue
        for line, module, inside in _backend_imports(path):
            if name.startswith(KERAS_ONLY) or not inside:
                broken.append(f"{name}:{line} imports {module}")
    assert broken == []


@pytest.mark.parametrize(
    "module", ["keras_unirec.layers", "keras_unirec.applications"]
)
def test_layers_and_applications_do_without_tensorflow(module):
    code = f"import sys, {module}; sys.exit('tensorflow' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )


@pytest.mark.parametrize(
    "name",
    [
        "Categorical",
        "Hash",
        "Identity",
        "ItemTable",
        "Label",
        "Lookup",
        "Numerical",
        "Schema",
        "Sequence",
        "Timestamp",
        "analysis.paper_schema",
        "analysis.profile",
        "applications.MixFormer",
        "applications.RankingModel",
        "applications.list_models",
        "applications.load",
        "data.from_pandas",
        "data.from_parquet",
        "data.synthetic_click_log",
        "evaluate",
        "analysis.plot_mixing",
        "applications.UIMixFormer",
        "applications.UniMixer",
        "applications.UniMixerLite",
        "layers.DecoupledHeadMixing",
        "layers.FeatureTokenizer",
        "layers.HeadKeyValue",
        "layers.HeadCrossAttention",
        "layers.HeadMixing",
        "layers.HistoryEncoder",
        "layers.OutputFusion",
        "layers.QueryMixer",
        "layers.SwiGLU",
        "layers.SiameseNorm",
        "layers.TokenSelfAttention",
        "layers.UniMixing",
        "layers.UniMixingLite",
        "predict",
        "serving.export",
        "serving.measure_latency",
        "serving.raw_inputs",
        "serving.write_warmup",
    ],
)
def test_public_names(name):
    value = ku
    for part in name.split("."):
        value = getattr(value, part)
    assert value.__doc__, f"`{name}` has no docstring"


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", ku.__version__)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {ku.__version__}" in changelog


def test_one_public_layer_per_file():
    for path in sorted((PACKAGE / "layers").rglob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = [
            node.name
            for node in tree.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        ]
        words = re.sub(r"_", "", path.stem)
        assert [name.lower() for name in public] == [words], path
