"""Ctrl-C, at whatever time it comes, ends a command with one line and exit code 130."""

import sys
from typing import Any

import pytest

from fastcnn.cli import app, main


def _interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("module", "name"),
    [(app, "application"), (app, "import_module"), ("fastcnn.training.run.Run", "open")],
    ids=["while typer is imported", "while a command is imported", "while a command runs"],
)
def test_ctrl_c_is_one_line(
    module: Any,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if isinstance(module, str):
        monkeypatch.setattr(f"{module}.{name}", _interrupted)
    else:
        monkeypatch.setattr(module, name, _interrupted)
    monkeypatch.setattr(sys, "argv", ["fastcnn", "evaluate", "run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "interrupted\n")
