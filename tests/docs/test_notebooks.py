"""The cells of the notebooks run from top to bottom, and no output is kept in the files."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def run_cells(path: Path) -> dict[str, Any]:
    """Run the code, and show the value of a cell's last line as Jupyter would."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for place, cell in enumerate(cells(path)):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        where = f"{path.name}, cell {place}"
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, where, "exec"), names)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), where, "eval"), names)
            assert len(repr(shown)) < 1000 or hasattr(shown, "_repr_html_"), "longer than a cell"
            if type(shown).__name__ == "Figure":
                assert hasattr(shown, "_repr_png_"), "Jupyter shows the words of this figure"
    return names


@pytest.mark.usefixtures("own_kernels")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names = run_cells(path)
    if "plt" in names:
        names["plt"].close("all")


def test_notebooks_are_whole_and_named() -> None:
    page = (FOLDER.parent / "tutorial.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) >= 5
    for path in NOTEBOOKS:
        assert f"`{path.name}`" in page
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["nbformat"] == 4
        for cell in content["cells"]:
            assert not cell.get("outputs"), f"{path.name} keeps outputs"
            assert cell.get("execution_count") is None


def test_a_cell_that_fails_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wrong.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": ["1 / 0"]}]}))
    with pytest.raises(ZeroDivisionError) as caught:
        run_cells(path)
    assert str(caught.traceback[-1].path).endswith("wrong.ipynb, cell 0")
