"""The examples in docstrings run."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import fastcnn

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
