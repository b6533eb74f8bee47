"""The reported time that a training waited for its kernels."""

from typing import Any

import pytest

from fastcnn.cli.compiling import Compiling
from fastcnn.codegen import build


def test_what_is_compiled_outside_the_steps_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    report = build.Report()
    monkeypatch.setattr(build, "report", report)
    nothing: Any = None

    def compiled(seconds: float) -> None:
        report.compiled.append("kernel")
        report.seconds += seconds

    compiling = Compiling()
    compiled(8.0)  # in a search for a rate
    compiling.on_train_begin(nothing)
    compiled(2.0)
    compiling.on_steps(nothing)
    compiled(4.0)  # in an evaluation
    compiling.on_steps(nothing)
    assert compiling.seconds == 2.0


def test_what_is_loaded_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    report = build.Report(compiled=["kernel"])
    monkeypatch.setattr(build, "report", report)
    nothing: Any = None
    compiling = Compiling()
    compiling.on_train_begin(nothing)
    report.seconds += 2.0
    compiling.on_steps(nothing)
    assert compiling.seconds == 0.0
