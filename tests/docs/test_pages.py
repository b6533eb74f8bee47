"""Every block of code in the documentation runs, and prints what the page shows."""

import contextlib
import doctest
import io
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest

from fastcnn.data.sources import SOURCES, find_folder
from fastcnn.distributed import scaling
from tests.command import drawn_once
from tests.command import fastcnn as run

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(python|text|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: Path) -> list[tuple[str, str, int]]:
    """Language, content and line of each block of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        (found[1], found[2], text[: found.start()].count("\n") + 1)
        for found in BLOCK.finditer(text)
    ]


def run_page(page: Path, names: dict[str, Any]) -> int:
    """Run a page's blocks in order, in the current folder; returns their number."""
    output, count = "", 0
    for language, content, line in blocks(page):
        place = f"{page.name}:{line}"
        if language == "text":
            agrees = doctest.OutputChecker().check_output(content, output, FLAGS)
            assert agrees, f"{place}: printed\n{output}\nand not\n{content}"
            continue
        count += 1
        if language == "python":
            stream = io.StringIO()
            padding = "\n" * line  # so that a traceback names the page's own line
            with contextlib.redirect_stdout(stream):
                exec(compile(padding + content, str(page), "exec"), names)
            output = stream.getvalue()
        else:
            output = "".join(run_command(command, place) for command in content.splitlines())
    return count


def run_command(command: str, place: str) -> str:
    program, *arguments = shlex.split(command)
    assert program == "fastcnn", f"{place}: {command}"
    if "mnist" in command and find_folder(SOURCES["mnist"]) is None:
        warnings.warn(f"{place}: not run, MNIST is in no local folder", stacklevel=2)
        return ""
    try:
        return run(*arguments)
    except AssertionError as error:
        raise AssertionError(f"{place}: {command}\n{error}") from None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.usefixtures("own_kernels")
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "fastcnn.estimators" in page.read_text(encoding="utf-8"):
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(scaling, "LONGEST", 0.05)  # what is measured is not looked at
    with drawn_once():
        run_page(page, {"__name__": "__main__"})


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code runs as it can be pasted."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.chdir(tmp_path)
    with drawn_once():
        assert run_page(ROOT / "README.md", {"__name__": "__main__"}) >= 3


def test_every_page_is_in_the_site() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.stem == "index" or f"\n{page.stem}\n" in text
    listed = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs" / "api").glob("*.md"):
        assert page.stem == "index" or f"\n{page.stem}\n" in listed


def test_a_page_that_is_wrong_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n\n```text\n2\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:5: printed\s+1"):
        run_page(page, {})
    page.write_text("```console\nfastcnn nonsense\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:1: fastcnn nonsense"):
        run_page(page, {})


def test_no_line_is_hidden_as_a_comment() -> None:
    """MyST treats a line that begins with a percent sign as a comment."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            assert not line.lstrip().startswith("%"), f"{page.name}:{number}"
