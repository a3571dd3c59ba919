"""Imports go one way, those inside of functions too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "keras_unirec"
# A room imports from its own line, and from the lines above it.
ORDER = (
    ("schema",),
    ("data", "layers", "metrics", "optimizers"),
    ("serving", "training"),
    ("applications",),
    ("analysis", "scoring"),
)
RANKS = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def _imports():
    """Module -> the modules of the package that it imports, sooner or later."""

    def name(path):
        parts = path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[: -1 if parts[-1] == "__init__" else None])

    paths = {name(path): path for path in PACKAGE.rglob("*.py")}
    imports = {}
    for module, path in paths.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    submodule = f"{node.module}.{alias.name}"
                    is_module = submodule in paths
                    found.add(submodule if is_module else node.module)
        imports[module] = found & set(paths)
    return imports


IMPORTS = _imports()


def _room(module):
    return module.split(".")[1] if "." in module else None


def _reachable(module):
    seen, left = set(), [module]
    while left:
        for other in IMPORTS[left.pop()] - seen:
            seen.add(other)
            left.append(other)
    return seen


@pytest.mark.parametrize("room", sorted(set(RANKS) - {"schema"}))
def test_no_circle(room):
    circles = [
        module
        for module in IMPORTS
        if _room(module) == room and module in _reachable(module)
    ]
    assert circles == []


def test_rooms_import_from_lower_rooms():
    # What stands beside the rooms is as low as the schema.
    broken = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        if _room(module) not in (None, "__main__")
        for other in others
        if RANKS.get(_room(other), 0) > RANKS.get(_room(module), 0)
    ]
    assert broken == []
