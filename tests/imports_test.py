"""Which way imports go, how long modules are, how much constructors take."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "keras_unirec"
# A room imports from its own line, and from the lines above it.
ORDER = (
    ("schema",),
    ("data", "layers", "metrics", "optimizers"),
    ("serving", "training"),
    ("applications",),
    ("analysis", "scoring"),
)
# Where modules have no more lines than elsewhere.
SHORT = {"schema": 400}


# --- Imports ---


def circles(root):
    """Finds circles of imports in a package.

    Imports inside functions count, and so does `importlib.import_module` of a
    constant. `from package import name` is an import of the submodule of that
    name, or else of the module that defines the name, which the `__init__` of
    the package tells.

    Args:
        root: Path. The folder of the package.

    Returns:
        List of circles: sorted lists of modules that all import each other, be
        it through others.
    """
    known = modules(root)
    return sorted(_components({name: _imports(name, known) for name in known}))


def modules(root):
    """The modules of a package, as a dict of name -> path."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


def _imports(name, known):
    """The modules of `known` that a module imports, without itself."""
    found = set()
    for module, imported in _statements(name, known[name]):
        if imported is not None:
            module = _definition(module, imported, known)
        if module in known:
            found.add(module)
    return found - {name}


def _statements(name, path):
    """Yields the imports of a file: (module, name in it or `None`)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, name, path)
            for alias in node.names:
                yield module, alias.name
        elif isinstance(node, ast.Call) and node.args:
            function = ast.unparse(node.func).split(".")[-1]
            argument = node.args[0]
            if function in ("import_module", "__import__") and isinstance(
                argument, ast.Constant
            ):
                yield argument.value, None


def _absolute(node, name, path):
    """The module that `from ... import` names, dots resolved."""
    if not node.level:
        return node.module
    parts = name.split(".")
    up = node.level - (path.name == "__init__.py")
    parts = parts[: len(parts) - up]
    return ".".join([*parts, *filter(None, [node.module])])


def _definition(module, name, known, seen=()):
    """The module that `from module import name` leads to."""
    if f"{module}.{name}" in known:
        return f"{module}.{name}"
    path = known.get(module)
    if path is None or path.name != "__init__.py" or (module, name) in seen:
        return module
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _definition(
                        _absolute(node, module, path),
                        alias.name,
                        known,
                        (*seen, (module, name)),
                    )
    return module


def _components(graph):
    """Strongly connected components of two nodes or more (Tarjan, 1972)."""
    order, low, stack, found = {}, {}, [], []

    def visit(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            start = stack.index(node)
            component = stack[start:]
            del stack[start:]
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in order:
            visit(node)
    return found


# --- Sizes ---


def long_modules(root, limit=500):
    """The modules of more lines, as a dict of name -> number of lines."""
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name, path in modules(root).items()
    }
    return {name: number for name, number in lines.items() if number > limit}


def large_constructors(root, limit=12):
    """Classes whose constructor names more arguments, as name -> number.

    `self`, `*args` and `**kwargs` do not count; the fields of a dataclass do,
    those of its bases among them.
    """
    classes = {
        f"{name}.{node.name}": node
        for name, path in modules(root).items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    by_name = {node.name: node for node in classes.values()}
    numbers = {
        name: len(_arguments(node, by_name)) for name, node in classes.items()
    }
    return {name: number for name, number in numbers.items() if number > limit}


def _arguments(node, by_name):
    """Names of the arguments that a class itself gives its constructor."""
    for function in node.body:
        if isinstance(function, ast.FunctionDef) and (
            function.name == "__init__"
        ):
            arguments = function.args
            named = [*arguments.posonlyargs, *arguments.args]
            return [a.arg for a in [*named[1:], *arguments.kwonlyargs]]
    if not _is_dataclass(node):
        return []
    fields = {}
    for base in node.bases:
        base = by_name.get(ast.unparse(base).split(".")[-1])
        if base is not None and base is not node and _is_dataclass(base):
            fields.update(dict.fromkeys(_arguments(base, by_name)))
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and not (
            "ClassVar" in ast.unparse(field.annotation)
            or field.value is not None
            and "init=False" in ast.unparse(field.value)
        ):
            fields[ast.unparse(field.target)] = None
    return list(fields)


def _is_dataclass(node):
    return any("dataclass" in ast.unparse(d) for d in node.decorator_list)


# --- The package ---


def test_no_circles():
    assert circles(PACKAGE) == []


def test_rooms_import_from_lower_rooms():
    ranks = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
    known = modules(PACKAGE)

    def rank(module):
        # What stands beside the rooms is as low as the schema.
        return ranks.get(module.split(".")[1] if "." in module else "", 0)

    broken = [
        f"{module} imports {other}"
        for module in known
        if module not in ("keras_unirec", "keras_unirec.__main__")
        for other in _imports(module, known)
        if rank(other) > rank(module)
    ]
    assert broken == []


def test_rooms():
    rooms = {room for rooms in ORDER for room in rooms}
    beside = {"__init__.py", "__main__.py", "__pycache__", "version.py"}
    found = {path.name for path in PACKAGE.iterdir()}
    assert found - beside == rooms


@pytest.mark.parametrize("room", [room for rooms in ORDER for room in rooms])
def test_sizes(room):
    assert long_modules(PACKAGE / room, SHORT.get(room, 500)) == {}
    assert large_constructors(PACKAGE / room) == {}


# --- These checks themselves ---


def _write(folder, **files):
    for name, text in files.items():
        path = folder / "package" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in [folder / "package", *(folder / "package").iterdir()]:
        if path.is_dir() and not (path / "__init__.py").exists():
            (path / "__init__.py").write_text("")
    return folder / "package"


@pytest.mark.parametrize(
    "back",
    [
        "import package.a.one",
        "from package.a import one",
        "from package.a.one import One",
        "from package.a import One",
        "from package import One as Two",
        "from ..a import One",
        "from ..a.one import One",
        "def f():\n    from package.a import One",
        "class B:\n    import package.a.one as one",
        "if True:\n    from package.a import one",
        "import importlib\nimportlib.import_module('package.a.one')",
    ],
)
def test_circles_are_found(tmp_path, back):
    root = _write(
        tmp_path,
        a__one="from package.b.two import Two\nclass One: pass",
        b__two=back,
    )
    (root / "__init__.py").write_text("from package.a import One as One")
    (root / "a" / "__init__.py").write_text("from .one import One")
    assert ["package.a.one", "package.b.two"] in circles(root)


def test_a_package_as_a_module_is_all_that_it_lists(tmp_path):
    root = _write(
        tmp_path,
        a__one="from package import b",
        b__two="from package.a.one import One",
    )
    (root / "b" / "__init__.py").write_text("from package.b.two import Two")
    assert circles(root) == [["package.a.one", "package.b", "package.b.two"]]


def test_one_way_is_no_circle(tmp_path):
    root = _write(
        tmp_path,
        a__one="class One: pass",
        a__other="from package.a.one import One\nclass Other: pass",
        b__two="import os\nimport package.a.one\nfrom package.a import Other",
        b__three="from package.b import two\nfrom package.a import One",
    )
    (root / "__init__.py").write_text("from package import b as b")
    (root / "a" / "__init__.py").write_text(
        "from package.a.one import One as One\n"
        "from package.a.other import Other as Other"
    )
    assert circles(root) == []


def test_sizes_are_found(tmp_path):
    root = _write(
        tmp_path,
        long="x = 1\n" * 501,
        short="x = 1\n" * 500,
        classes="""
import dataclasses
from dataclasses import dataclass

class Two:
    def __init__(self, a, /, *args, b=1, **kwargs): ...

@dataclasses.dataclass(frozen=True)
class Three(Two):
    a: int
    b: int = 0
    c: int = dataclasses.field(default=0)
    d: int = dataclasses.field(default=0, init=False)
    e: ClassVar[int] = 0

@dataclass
class Four(Three):
    c: int = 1
    f: int = 2
""",
    )
    assert long_modules(root) == {"package.long": 501}
    assert large_constructors(root, 1) == {
        "package.classes.Two": 2,
        "package.classes.Three": 3,
        "package.classes.Four": 4,
    }
    assert large_constructors(root, 3) == {"package.classes.Four": 4}
