"""Output on a terminal of 80 columns: whole words, whole names."""

import io
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from fastcnn.analysis.gradcheck import GradientReport, GradientRow
from fastcnn.analysis.runs import RunComparison, RunRow
from fastcnn.cli import compare, evaluate, gradcheck, predict
from fastcnn.cli.lines import Lines, complain
from fastcnn.cli.screen import Screen, number_columns
from fastcnn.training.figure import new_figure

SENTENCE = "run written to runs/20260101-120000-lenet5; curves.png shows its losses and accuracies"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(table: Table) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_nothing_is_said_where_there_is_no_error_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    complain("a warning in the middle of a training")


@pytest.mark.parametrize("terminal", [True, False])
def test_sentences_end_between_words_on_a_terminal_alone(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("TTY_COMPATIBLE", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    streams = [Terminal() if terminal else io.StringIO() for _ in range(3)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    Screen().say(SENTENCE)
    monkeypatch.setattr(sys, "stderr", streams[1])
    complain(SENTENCE)
    monkeypatch.setattr(sys, "stderr", streams[2])
    Lines().emit(logging.makeLogRecord({"msg": SENTENCE}))
    for stream in streams:
        lines = stream.getvalue().splitlines()
        assert " ".join(lines) == SENTENCE
        assert len(lines) == (2 if terminal else 1)
        assert len(lines[0]) <= 80 or not terminal


def test_a_word_longer_than_a_line_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", Terminal())
    complain("picture: " + "a" * 90)
    assert sys.stderr.getvalue() == "picture:\n" + "a" * 90 + "\n"


def test_a_long_name_takes_the_place_of_the_less_likely_classes() -> None:
    classes = [("first class", "90.0 %"), ("second class", "9.0 %"), ("third class", "1.0 %")]
    short = shown(predict._likeliest(["a.png"], [classes], 80))
    assert "third class  1.0 %" in short[3]
    name = "holidays/IMG_20260101_120000_1.jpg"
    long = shown(predict._likeliest([name], [classes], 80))
    assert name in long[3]
    assert "second" not in long[1]
    assert len(long) == 5


def test_names_within_the_folder_that_is_given(tmp_path: Path) -> None:
    inside = [tmp_path / "a" / "1.png", tmp_path / "2.png"]
    assert predict._shown(inside, [tmp_path]) == [str(Path("a") / "1.png"), "2.png"]
    assert predict._shown(inside, inside) == [str(path) for path in inside]


def test_runs_are_compared_under_their_whole_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epoch = {"train_loss": 0.1, "test_loss": 0.1, "train_accuracy": 0.9, "test_accuracy": 1.0}
    names = [f"20260101-12000{number}-report_cnn" for number in range(2)]
    rows = [RunRow(name, {}, [{**epoch, "seconds": 12345.67}]) for name in names]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("fastcnn.analysis.runs.compare_runs", lambda runs: RunComparison(rows))
    monkeypatch.setattr(RunComparison, "figure", lambda self: new_figure(1.0, 1.0))
    compare.compare([], tmp_path / "c.png")
    lines = capsys.readouterr().out.splitlines()
    for name in names:
        [line] = [line for line in lines if f" {name} " in line]
        assert line.split()[1:] == [
            "1",
            "0.1000",
            "0.1000",
            "100.00",
            "%",
            "100.00",
            "%",
            "12345.67",
        ]


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_table_is_whole_on_a_narrow_screen(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    table = Table("class", *number_columns("precision", "images of all epochs"))
    table.add_row("a " + "very" * 5 + " long name", "99.01 %", "123,456")
    Screen().show(table)
    text = capsys.readouterr().out
    assert "…" not in text
    assert "very" * 2 in text.replace("\n", "")
    assert "99.01 %" in text
    assert "123,456" in text
    assert "precision" in text
    assert max(map(len, text.splitlines())) <= max(width, 10 + 9 + 7 + 4)


def test_mistakes_take_the_place_of_a_matrix_that_is_too_wide() -> None:
    confusion = np.diag(np.arange(1000, 1030))
    confusion[3, 7], confusion[7, 4] = 5, 6
    names = tuple(f"class {index}" for index in range(30))
    first, second = shown(evaluate._mistakes(confusion, names))[3:-1]
    assert first.replace("│", "").split() == ["class", "7", "class", "4", "6"]
    assert second.replace("│", "").split() == ["class", "3", "class", "7", "5"]
    last = shown(evaluate._mistakes(np.ones((9, 9), int), names))[-2]
    assert last.replace("│", "").split() == ["other", "57", "pairs", "57"]


def test_gradients_are_counted_by_kinds_of_layers() -> None:
    rows = [
        GradientRow("im2col", "Conv2d(1, 2, 3)", "x", 1e-9, 1e-6),
        GradientRow("im2col", "Conv2d(2, 2, 3)", "weight", 3e-9, 1e-6),
        GradientRow("lanes", "Conv2d(1, 2, 3)", "x", 2e-3, 1e-5),
        GradientRow("im2col", "ReLU()", "x", 0.0, 1e-6),
    ]
    _, title, _, conv, relu, _ = shown(gradcheck._kinds(GradientReport(rows)))
    assert title.replace("┃", "").split() == ["layer", "or", "loss", "gradients", "im2col", "lanes"]
    assert conv.replace("│", "").split() == ["Conv2d", "3", "3.0e-09", "2.0e-03", "WRONG"]
    assert relu.replace("│", "").split() == ["ReLU", "1", "0.0e+00", "ok"]
