"""Checkable rules of the architecture: the direction of imports, and forbidden constructs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fastcnn

PACKAGE = Path(fastcnn.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

LANES = PACKAGE / "backends" / "lanes"

#: A room may import itself, the rooms listed here, and those in EVERYWHERE.
ALLOWED = {
    "codegen": set(),
    "backends": {"codegen", "operations"},
    "operations": {"arguments", "backends", "codegen"},
    "layers": {"operations", "arguments", "backends", "data", "weights"},
    "kernel": {"backends", "codegen", "layers", "losses", "operations", "optim"},
    "losses": {"arguments", "backends", "operations"},
    "models": {"arguments", "layers"},
    "transfer": {"backends", "layers"},
    "arguments": {"backends"},
    "functional": {"operations"},
    "optim": set(),
    "execution": {"arguments", "backends", "data", "layers", "losses", "operations", "optim"},
    "data": {"arguments", "backends", "codegen"},
    "training": {
        "arguments",
        "backends",
        "codegen",
        "data",
        "distributed",
        "execution",
        "extras",
        "layers",
        "losses",
        "models",
        "notebook",
        "optim",
        "weights",
    },
    "recipes": {"arguments", "data", "layers", "losses", "models", "optim", "training"},
    "study": {
        "analysis",
        "backends",
        "data",
        "execution",
        "functional",
        "layers",
        "losses",
        "models",
        "operations",
        "optim",
        "training",
    },
    "serve": {"backends", "data", "execution", "interop", "layers"},
    "interop": {"arguments", "backends", "data", "layers", "operations", "weights"},
    "distributed": {
        "operations",
        "backends",
        "data",
        "execution",
        "extras",
        "layers",
        "losses",
        "optim",
    },
    "analysis": {
        "arguments",
        "operations",
        "backends",
        "data",
        "execution",
        "layers",
        "losses",
        "training",
    },
    "benchmark": {
        "backends",
        "codegen",
        "data",
        "execution",
        "extras",
        "functional",
        "interop",
        "layers",
        "losses",
        "models",
        "operations",
        "optim",
        "recipes",
        "training",
    },
    "estimators": {
        "arguments",
        "data",
        "execution",
        "extras",
        "functional",
        "layers",
        "losses",
        "models",
        "optim",
        "training",
        "weights",
    },
    "extras": set(),
    "notebook": set(),
    "errors": set(),
    "named": set(),
    "files": set(),
    "weights": set(),
    "text_table": set(),
    "cores": set(),
    "forks": set(),
    "scalars": set(),
    "timing": set(),
}
EVERYWHERE = {
    "cores",
    "errors",
    "extras",
    "files",
    "forks",
    "named",
    "notebook",
    "scalars",
    "text_table",
    "timing",
    "",
}
#: Layers have a ``predict`` method, inside of which the runner is imported.
EXCEPTIONS = {("layers/prediction.py", "execution")}
HEAVY = {
    "matplotlib", "torch", "PIL", "pooch", "safetensors", "threadpoolctl", "rich", "typer",
    "sklearn", "tensorboardX", "mpi4py", "onnx", "onnxruntime", "jax",
    "tensorflow", "tinygrad",
}  # fmt: skip
#: Maximum parameters of a function that users do not call: more should be an object.
MOST_PARAMETERS = 8
#: Rooms whose functions are public signatures, and commands, whose parameters are options.
PUBLIC = {"cli", "estimators", "operations", "layers"}
#: Decorators of compiled functions, which take numbers and arrays, not objects.
COMPILED = {"compiled", "linked", "tile"}
#: Other public signatures, and compiled functions that other functions do not call.
EXEMPT = {
    "data/loading.py:load",
    "data/augment.py:Augment.mix",
    "backends/lanes/session/conductor.py:lead",
    "backends/lanes/session/dispatcher.py:run",
}
#: Rooms whose classes derive from another package's.
BUILT_ON = {"estimators": {"sklearn"}}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def functions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a module by name; methods are prefixed by their class."""
    for node in ast.iter_child_nodes(tree):
        name = f"{within}{getattr(node, 'name', '')}"
        if isinstance(node, ast.FunctionDef):
            yield name, node
        inside = isinstance(node, (ast.FunctionDef, ast.ClassDef))
        yield from functions(node, f"{name}." if inside else within)


def is_exempt(where: Path, name: str, function: ast.FunctionDef) -> bool:
    """Whether users call a function, or it is compiled."""
    last = name.split(".")[-1]
    is_public = last == "__init__" or not last.startswith("_")
    return (
        (room(where) in PUBLIC and is_public)
        or f"{where.relative_to(PACKAGE).as_posix()}:{name}" in EXEMPT
        or any(ast.unparse(each).split("(")[0] in COMPILED for each in function.decorator_list)
    )


def check_few_parameters(path: Path) -> None:
    """Functions that are neither public nor compiled take an object instead of many arguments."""
    for name, function in functions(tree_of(path)):
        given = function.args
        names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        few = count <= MOST_PARAMETERS or is_exempt(path, name, function)
        assert few, f"{name} has {count} parameters"


def check_one_door(path: Path) -> None:
    """Nothing outside the engine's room imports from inside it, or names a module there."""
    if path.is_relative_to(LANES):
        return
    entries = {entry.stem for entry in LANES.iterdir()}
    texts = {str(node.value) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant)}
    named = {name for text in texts for name in re.findall(r"fastcnn(?:\.\w+)+", text)}
    for name in {*imports(tree_of(path)), *named}:
        inside = name.startswith("fastcnn.backends.lanes.") and not name.split(".")[-1][0].isupper()
        assert not (inside and name.split(".")[3] in entries), f"{name} is inside the engine's room"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module(path: Path) -> None:
    check_few_parameters(path)
    check_one_door(path)
    tree = tree_of(path)
    assert path.read_bytes().count(b"\n") <= 450, "split it along a real seam"
    assert path.stem not in {"utils", "helpers", "misc", "common", "manager"}
    assert not {"pickle", "cPickle", "dill"} & {name.split(".")[0] for name in imports(tree)}
    here = room(path)
    if here not in ALLOWED:
        return
    calls = [
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "print" not in calls, "nothing below cli prints"
    for name in imports(tree):
        parts = name.split(".")
        if parts[0] != "fastcnn" or len(parts) < 2:
            continue
        target = parts[1] if parts[1] in ALLOWED or parts[1] == "cli" else ""
        known = (str(path.relative_to(PACKAGE)), target) in EXCEPTIONS
        assert target in ALLOWED[here] | EVERYWHERE | {here} or known, f"{here} imports {name}"
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    heavy = {name.split(".")[0] for node in top for name in imports(node)} & HEAVY
    heavy -= BUILT_ON.get(here, set())
    assert not heavy, f"import {heavy} in the function that needs it"


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, known: set[str]) -> set[str]:
    """Modules of the package that a module imports, anywhere but for type checkers alone."""
    tree = tree_of(path)
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped or not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for name in imports(node)[isinstance(node, ast.ImportFrom) :]:
            found.add(name if name in known else name.rpartition(".")[0])
    return found & known - {module_name(path)}


def test_imports_have_no_circles() -> None:
    """Not even between the modules of one room."""
    known = set(map(module_name, MODULES))
    TopologicalSorter({module_name(p): imported_modules(p, known) for p in MODULES}).prepare()


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) == "operations"], ids=str)
def test_operations_know_only_the_door_of_backends(path: Path) -> None:
    """And modules for the shapes of inputs and outputs."""
    names = imports(tree_of(path))
    inside = {name.split(".")[2] for name in names if name.startswith("fastcnn.backends.")}
    assert inside <= {"get_backend", "geometry", "sampling", "sample_sets"}


def test_the_engine_is_in_rooms() -> None:
    assert len([entry for entry in LANES.iterdir() if entry.name != "__pycache__"]) <= 8


def test_numba_is_imported_where_something_is_compiled() -> None:
    """Lazily, where something is compiled; the benchmark measures its own loops."""
    found = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if {"numba"} & {name.split(".")[0] for name in imports(tree_of(path))}
    }
    own = {"benchmark/peaks.py", "benchmark/ladder_rungs.py"}
    assert (
        found == {f"codegen/numba_{name}.py" for name in ("frontend", "operators", "types")} | own
    )


def test_import_is_cheap() -> None:
    code = (
        "import sys, fastcnn; "
        "heavy = ('numba', 'matplotlib', 'torch', 'numpy', 'sklearn'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    for name in (*fastcnn.__all__, "estimators"):
        assert getattr(fastcnn, name) is not None
        assert name in dir(fastcnn)


def test_all_public_names_can_be_imported_without_extras() -> None:
    code = (
        "import sys\n"
        "extras = 'matplotlib', 'mpi4py', 'onnx', 'optuna', 'sklearn', 'torch'\n"
        "sys.modules.update(dict.fromkeys(extras))\n"
        "from fastcnn import *\n"
        "print(Sequential.__name__, fit.__name__, models.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Sequential", "fit", "fastcnn.models"]
