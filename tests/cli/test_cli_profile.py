"""``fastcnn profile`` and ``fastcnn bench scaling`` as a user runs them."""

import json
from pathlib import Path

from tests.command import fastcnn


def test_profile(tmp_path: Path) -> None:
    out, figure = tmp_path / "out", tmp_path / "p.png"
    output = fastcnn(
        "profile", "lenet5", "--batch", 20, "--threads", 1, "--quick",
        "--out", out, "--figure", figure,
    )  # fmt: skip
    assert "conv1: convolution + ReLU + 2x2 max pooling" in output
    assert "lenet5, batch 20, 1 thread; whole step:" in output
    written = json.loads((out / "profile-lenet5.json").read_text())
    assert written["summary"]["batch"] == 20
    assert written["command"].startswith("fastcnn profile lenet5 --batch 20")
    assert (out / "profile-lenet5.csv").stat().st_size > 1000
    assert figure.stat().st_size > 10_000


def test_plan() -> None:
    output = fastcnn("profile", "--plan", "--batch-size", 64, "--threads", 2)
    assert output.startswith("batch 64: 4 blocks of 16 samples, 2 threads, ")
    assert "conv2: transform weights" in output


def test_unknown_model() -> None:
    output = fastcnn("profile", "resnet1000", code=2)
    assert "'resnet1000' is neither a run nor one of" in output


def test_scaling(tmp_path: Path) -> None:
    output = fastcnn(
        "bench", "scaling", "--axis", "batch", "--axis", "threads", "--quick", "--figures",
        "--out", tmp_path / "b",
    )  # fmt: skip
    assert "Batch size, the report's network (lanes)" in output
    written = json.loads((tmp_path / "b" / "scaling.json").read_text())
    assert written["quick"]
    assert [r["value"] for r in written["records"] if r["axis"] == "batch"] == [1, 16, 64, 256]
    assert written["environment"]["instruction set"]
    assert (tmp_path / "b" / "scaling.png").stat().st_size > 10_000
    assert "no axis named 'width'" in fastcnn("bench", "scaling", "--axis", "width", code=2)
