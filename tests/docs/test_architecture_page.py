"""The architecture page names every room and only existing files; its figure is up to date."""

import re
from pathlib import Path

from scripts import architecture_figure as figure
from tests.test_architecture import ALLOWED, PACKAGE

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE)
NAMED = {name for row in ROWS for name in re.findall(r"`(\w+)`", row)}


def rooms(folder: Path) -> set[str]:
    return {
        entry.stem
        for entry in folder.iterdir()
        if not entry.name.startswith("__")
        and (entry.suffix == ".py" or (entry / "__init__.py").exists())
    }


def test_the_page_names_every_room() -> None:
    lanes = rooms(PACKAGE / "backends" / "lanes") - {"kernel_table"}
    assert rooms(PACKAGE) | lanes == NAMED
    assert {*ALLOWED, "cli"} == rooms(PACKAGE)


def test_the_page_names_files_that_exist() -> None:
    paths = set(re.findall(r"`((?:\w+/)+(?:\w+\.(?:py|md))?)`", PAGE))
    assert len(paths) > 20
    for path in paths:
        if "NAME" not in path:
            places = (PACKAGE / path, ROOT / path)
            assert any(place.exists() for place in places), path


def test_the_picture_shows_the_imports_of_today() -> None:
    drawn = figure.PICTURE.read_text(encoding="utf-8")
    edges = figure.imports()
    wanted = {
        f"arrow:{name}:{below}" for name, row in figure.arrows(edges).items() for below in row
    }
    wanted |= {f"room:{name}" for name in edges}
    assert set(re.findall(r'id="((?:arrow|room):[^"]+)"', drawn)) == wanted, (
        "run python scripts/architecture_figure.py"
    )
