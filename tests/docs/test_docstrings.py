"""The examples in docstrings run, and what takes parameters says so."""

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import fastcnn
from fastcnn.training import Recipe

PACKAGE = Path(fastcnn.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if "\n    >>> " in path.read_text(encoding="utf-8")
    or "\n>>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.usefixtures("own_kernels")
@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name.startswith("fastcnn.estimators"):
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    failed, tried = doctest.testmod(import_module(name))
    assert tried > 0
    assert failed == 0


def test_there_are_examples() -> None:
    assert len(MODULES) >= 5


ROOMS = (
    *("functional", "layers", "layers.init", "losses", "optim", "data", "training", "models"),
    *("interop", "estimators", "recipes"),
)

SECTION = re.compile(r"^(\w+)\n-{3,}$\n(.*?)(?=^\w[\w ]*\n-{3,}$|\Z)", re.MULTILINE | re.DOTALL)


def public() -> dict[str, Any]:
    """What users call, by its name."""
    found = {name: getattr(fastcnn, name) for name in fastcnn.__all__}
    for room in ROOMS:
        module = import_module(f"fastcnn.{room}")
        found |= {f"{room}.{name}": getattr(module, name) for name in module.__all__}
    return {name: value for name, value in found.items() if callable(value)}


@pytest.mark.parametrize("name", public())
def test_what_takes_parameters_lists_them(name: str) -> None:
    """Results of the package, which users do not make, list their attributes instead."""
    called = public()[name]
    taken = set(inspect.signature(called).parameters) - {"args", "kwargs"}
    if called is Recipe:
        taken -= set(inspect.signature(fastcnn.fit).parameters)
    stated = listed(inspect.getdoc(called) or "")
    assert {parameter for parameter in taken if parameter[0] != "_"} <= stated


def public_methods() -> dict[str, Any]:
    """The methods that public classes define, except those that a base or a protocol describes."""
    classes = [value for value in public().values() if inspect.isclass(value)]
    protocols = {kind for kind in classes if getattr(kind, "_is_protocol", False)}
    found = {}
    for kind in classes:
        others = {*kind.__mro__[1:], *(protocols - {kind})}
        own = vars(kind).keys() - {name for other in others for name in vars(other)}
        for name in own:
            value = getattr(kind, name)
            if not name.startswith("_") and (inspect.isfunction(value) or inspect.ismethod(value)):
                found[f"{kind.__module__}.{kind.__name__}.{name}"] = value
    return found


METHODS = public_methods()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_list_their_parameters(name: str) -> None:
    taken = set(inspect.signature(METHODS[name]).parameters) - {"self", "args", "kwargs"}
    assert taken <= listed(inspect.getdoc(METHODS[name]) or "")


def listed(text: str) -> set[str]:
    """The names in the sections on parameters and attributes of a docstring."""
    found: set[str] = set()
    for title, section in SECTION.findall(text):
        if title in ("Parameters", "Attributes"):
            for names in re.findall(r"^([*\w]+(?:, [*\w]+)*)(?: : |$)", section, re.MULTILINE):
                found |= {name.lstrip("*") for name in names.split(", ")}
    return found


def test_listed_names() -> None:
    text = (
        "Adds.\n\nParameters\n----------\nx, y : float\n    z : one\n*rest\n\nRaises\n------\nError"
    )
    assert listed(text) == {"x", "y", "rest"}
