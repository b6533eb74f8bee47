"""``fastcnn profile`` and ``fastcnn bench`` as a user runs them."""

import json
from functools import partial
from pathlib import Path

import pytest

from fastcnn.benchmark import contest, profile
from fastcnn.benchmark.peaks import measure_peaks
from fastcnn.timing import measure
from tests.command import fastcnn


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is tested: contestants do not rest, and the machine's peaks are measured briefly."""
    monkeypatch.setitem(measure.__kwdefaults__, "pause", 0.0)
    moment = partial(measure_peaks, rounds=1, seconds=1e-3, memory_limit=8 << 20)
    monkeypatch.setattr(profile, "measure_peaks", moment)
    monkeypatch.setattr(
        contest,
        "measured_flops",
        lambda threads: {count: peak.flops for count, peak in moment(threads).items()},
    )


def test_profile(tmp_path: Path) -> None:
    out, figure = tmp_path / "out", tmp_path / "p.png"
    output = fastcnn(
        "profile", "lenet5", "--batch-size", 20, "--threads", 1, "--quick",
        "--out", out, "--figure", figure,
    )  # fmt: skip
    assert "conv1: convolution + ReLU + 2x2 max pooling" in output
    assert "lenet5, batch 20, 1 thread; whole step:" in output
    written = json.loads((out / "profile-lenet5.json").read_text())
    assert written["summary"]["batch"] == 20
    assert written["command"].startswith("fastcnn profile lenet5 --batch-size 20")
    assert (out / "profile-lenet5.csv").stat().st_size > 1000
    assert figure.stat().st_size > 10_000


def test_plan(tmp_path: Path) -> None:
    out = tmp_path / "unused"
    output = fastcnn("profile", "--plan", "--batch-size", 64, "--threads", 2, "--out", out)
    assert not out.exists()
    assert output.startswith("batch 64: 4 blocks of 16 samples, 2 threads, ")
    assert "conv2: transform weights" in output


def test_an_algorithm_is_chosen() -> None:
    output = fastcnn("profile", "lenet5", "--plan", "--algorithm", "winograd1d")
    assert "conv1        winograd1d                  winograd1d" in output.splitlines()


def test_unknown_model() -> None:
    output = fastcnn("profile", "resnet1000", code=2)
    assert "'resnet1000' is neither a run nor one of" in output


@pytest.mark.parametrize(
    ("arguments", "work"),
    [
        (["profile"], "fastcnn.benchmark.profile.profile"),
        (["bench"], "fastcnn.benchmark.suites.run_tables"),
        (["bench", "records"], "fastcnn.benchmark.recipe_records.measure"),
    ],
    ids=["profile", "bench", "records"],
)
def test_a_folder_that_cannot_be_made(
    arguments: list[str], work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything is measured."""
    monkeypatch.setattr(work, None)
    (tmp_path / "file").touch()
    output = fastcnn(*arguments, "--out", tmp_path / "file", code=2)
    assert "is a file, not a folder" in output.replace("\n", " ")


def test_bench(tmp_path: Path) -> None:
    output = fastcnn(
        "bench",
        "step",
        "backward",
        "--no-peers",
        "--quick",
        "--batch-size",
        2,
        "--sizes",
        "--show",
        "--figures",
        "--out",
        tmp_path / "b",
    )
    assert "step: report_cnn, batch 2" in output
    assert "backward: conv2d backward by batch: 8 x 14 x 14" in output
    written = json.loads((tmp_path / "b" / "bench.json").read_text())
    assert written["quick"]
    assert written["environment"]["instruction set"]
    assert {record["suite"] for record in written["records"]} == {
        "step",
        "ladder",
        "backward",
    }
    assert "def im2col_in_numpy(dy, x, w, p):" in output
    for name in ("step", "backward", "ladder-light", "ladder-dark"):
        assert (tmp_path / "b" / f"{name}.png").stat().st_size > 10_000


def test_options_that_do_nothing() -> None:
    for arguments, message in (
        (
            ("bench", "layer", "--batch-size", 3),
            "--batch-size has no effect without the suite",
        ),
        (("bench", "layer", "--model", "lenet5"), "--model has no effect without"),
        (("bench", "layer", "--show"), "--show has no effect without the suite backward"),
        (("bench", "step", "--algorithm", "direct"), "--algorithm has no effect without the suite"),
        (("bench", "layer", "--algorithm", "fast"), "no algorithm 'fast': must be one of winograd"),
        (("profile", "--algorithm", "fast"), "no algorithm 'fast': must be one of winograd"),
        (("bench", "layer", "--sizes"), "--sizes has no effect without the suite backward"),
        (("bench", "step", "--figures"), "--figures needs a folder"),
        (("bench", "step", "--model", "lenet6"), "no network 'lenet6'"),
    ):
        assert message in fastcnn(*arguments, code=2)
