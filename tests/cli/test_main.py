"""Behaviour common to all commands: Ctrl-C at any time, and empty arguments."""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastcnn.cli import app, main, run
from fastcnn.training.interrupts import Terminated


@pytest.mark.parametrize(
    ("kind", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)], ids=["SIGINT", "SIGTERM"]
)
@pytest.mark.parametrize(
    ("arguments", "place", "message"),
    [
        (
            ["study"],
            "fastcnn.study.run.run_study",
            "no experiment has finished; not run: reproduction",
        ),
        (
            ["sweep", "epochs=1,2", "--workers", "1"],
            "fastcnn.training.recipe.Recipe.run",
            "interrupted: 0 of 2 trials have ended",
        ),
        (["profile"], "fastcnn.benchmark.profile.profile", "interrupted"),
    ],
    ids=["study", "sweep", "profile"],
)
def test_the_exit_code_is_that_of_the_signal(
    arguments: list[str],
    place: str,
    message: str,
    kind: type[KeyboardInterrupt],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ends(*_: Any, **__: Any) -> Any:
        raise kind

    monkeypatch.setattr(place, ends)
    monkeypatch.setattr(sys, "argv", ["fastcnn", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "sweep.jsonl").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_output_that_is_full_is_named() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastcnn", "data", "list"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: the output cannot be read or written (")


def test_an_output_that_was_closed_takes_all_that_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    def make(arguments: list[str]) -> Any:
        return lambda **_: csv.writer(sys.stdout).writerow(["image", "class"]) and None

    with pytest.raises(SystemExit) as ended:
        run(make)
    sys.stdout.close()
    assert ended.value.code == 0


def test_characters_that_the_output_lacks_are_written_as_their_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", plain)

    def make(arguments: list[str]) -> Any:
        return lambda **_: print("r\xfcn")

    with pytest.raises(SystemExit) as ended:
        run(make)
    plain.flush()
    assert (ended.value.code, plain.buffer.getvalue()) == (0, b"r\\xfcn\n")  # type: ignore[attr-defined]


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
    """As a path, an empty argument would be the current folder."""
    monkeypatch.setattr(sys, "argv", ["fastcnn", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"error: {message}" in capsys.readouterr().err
