"""Functions and tests named in docs/derivations.md exist, and every section names both."""

import ast
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODE = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
FUNCTION = re.compile(r"`((?:reference|im2col|lanes|fastcnn)(?:\.\w+)+)`")
SECTIONS = dict(
    re.findall(
        r"^## (.+?)\n(.*?)(?=^## |\Z)",
        (ROOT / "docs" / "derivations.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)


@pytest.mark.parametrize("section", SECTIONS)
def test_functions_exist(section: str) -> None:
    names = FUNCTION.findall(SECTIONS[section])
    assert names
    for name in names:
        package = "" if name.startswith("fastcnn.") else "fastcnn.backends."
        assert callable(pkgutil.resolve_name(package + name)), name


@pytest.mark.parametrize("section", SECTIONS)
def test_tests_exist(section: str) -> None:
    nodes = NODE.findall(SECTIONS[section])
    assert nodes
    for path, name in nodes:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not name or name in tests, f"{path}::{name}"
