"""The documentation imports public names only, and lists all of them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from notebook_cells import cells

import fastcnn
from tests.docs.test_pages import blocks
from tests.test_architecture import PACKAGE, tree_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
DOORS = tuple(f"fastcnn.{name}" for name in fastcnn._PUBLIC[""])  # type: ignore[attr-defined]
#: A page on writing code inside the package.
INSIDE = {"new-layer.md": ("fastcnn.codegen", "fastcnn.operations")}
LAZY = [path for path in PACKAGE.rglob("__init__.py") if " door(" in path.read_text("utf-8")]


def sources() -> Iterator[tuple[str, str]]:
    """The Python code of each page, notebook and example, by its file."""
    for page in (DOCS.parent / "README.md", *DOCS.glob("*.md")):
        for language, content, _ in blocks(page):
            if language == "python":
                yield page.name, content
    for path in DOCS.glob("notebooks/*.ipynb"):
        for kind, content in cells(path.read_text(encoding="utf-8")):
            if kind == "code":
                yield path.name, content
    for path in DOCS.glob("examples/*.py"):
        yield path.name, path.read_text(encoding="utf-8")


def names_of(module: ModuleType) -> list[str]:
    return getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])


def not_public(code: str, doors: tuple[str, ...] = DOORS) -> Iterator[str]:
    """What code takes from the package and no door lists."""
    for node in ast.walk(ast.parse(code)):
        taken = []
        if isinstance(node, ast.Import):
            taken = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            taken = [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            module = ast.unparse(node.value)
            taken = [(module, node.attr)] if module in DOORS else []
        for module, name in taken:
            if module.partition(".")[0] != "fastcnn":
                continue
            if module not in ("fastcnn", *doors):
                yield module
            elif name and name not in (*names_of(import_module(module)), "estimators"):
                yield f"{module}.{name}"


def test_documentation_takes_what_is_public() -> None:
    found = {
        f"{place}: {name}"
        for place, code in sources()
        for name in not_public(code, (*DOORS, *INSIDE.get(place, ())))
    }
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "from fastcnn.analysis.explanations import fgsm",
        "import fastcnn.training.sweeps",
        "from fastcnn import execution",
        "from fastcnn.optim import check_bounds",
        "fastcnn.training.check_outputs(x)",
    ],
)
def test_what_is_not_public_is_found(code: str) -> None:
    assert list(not_public(code))


@pytest.mark.parametrize("path", LAZY, ids=lambda path: path.parent.name)
def test_type_checkers_see_what_is_imported_at_first_use(path: Path) -> None:
    """The imports for type checkers are those that a door makes."""
    package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
    (given,) = (
        node.args[1]
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "door"
    )
    table: dict[str, Any] = (
        fastcnn._PUBLIC  # type: ignore[attr-defined]
        if isinstance(given, ast.Name)
        else ast.literal_eval(given)
    )
    (block,) = (
        node
        for node in tree_of(path).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {
        (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name != "*"
    }
    assert seen == {
        (f"{package}.{module}".rstrip("."), name)
        for module, names in table.items()
        for name in names
    }
    assert {name for _, name in seen} <= {*names_of(import_module(package)), "estimators"}


@cache
def documented() -> set[str]:
    """The names in the API pages; of a module whose members are listed, all public ones."""
    found = set()
    for page in DOCS.glob("api/*.md"):
        text = page.read_text(encoding="utf-8")
        for kind, name, options in re.findall(
            r"^\.\. auto(\w+):: ([\w.]+)\n((?:   .*\n)*)", text, re.MULTILINE
        ):
            found.add(name)
            listed = re.search(r":members:(.*)", options)
            if kind == "module" and listed:
                names = listed[1].replace(",", " ").split() or names_of(import_module(name))
                found |= {f"{name}.{each}" for each in names}
    return found


@pytest.mark.parametrize("door", DOORS)
def test_every_public_name_is_in_the_api_pages(door: str) -> None:
    if door == "fastcnn.estimators":
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    module = import_module(door)
    public = {
        f"{door}.{name}"
        for name in names_of(module)
        if getattr(getattr(module, name), "__module__", "").startswith("fastcnn")
    }
    assert public <= documented()
