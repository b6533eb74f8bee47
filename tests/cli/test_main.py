"""What is the same for all commands: Ctrl-C at any time, and arguments that are empty."""

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", ""], "the argument after --data is empty"),
        (["train", "--data="], "--data is empty"),
        (["predict", "run", ""], "the argument after run is empty"),
        ([""], "the argument is empty"),
    ],
)
def test_what_an_unset_variable_leaves_is_refused(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a path it would be the current folder."""
    monkeypatch.setattr(sys, "argv", ["fastcnn", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"error: {message}" in capsys.readouterr().err
