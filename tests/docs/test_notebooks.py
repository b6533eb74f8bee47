"""The notebooks' cells run from top to bottom, and the files contain no output."""

import json
from pathlib import Path
from typing import Any

import pytest
from notebook_cells import cells, run_cell

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "notebooks"

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def run_cells(path: Path) -> None:
    """Run the code, and check that the value of a cell's last line can be displayed."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for place, (kind, source) in enumerate(cells(path.read_text(encoding="utf-8"))):
        if kind != "code":
            continue
        shown = run_cell(source, names, f"{path.name}, cell {place}").value
        assert len(repr(shown)) < 1000 or hasattr(shown, "_repr_html_"), "longer than a cell"
        if type(shown).__name__ == "Figure":
            assert hasattr(shown, "_repr_png_"), "Jupyter shows the words of this figure"


@pytest.mark.usefixtures("own_kernels")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    run_cells(path)


def test_notebooks_are_whole_and_named() -> None:
    page, index = (
        (DOCS / name).read_text(encoding="utf-8") for name in ("tutorial.md", "index.md")
    )
    assert len(NOTEBOOKS) >= 5
    for path in NOTEBOOKS:
        assert f"`{path.name}`" in page
        assert f"notebooks/{path.stem}\n" in index
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
