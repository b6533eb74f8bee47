"""``fastcnn profile`` as a user runs it."""

import json
from pathlib import Path

from tests.cli.test_cli import fastcnn


def test_profile(tmp_path: Path) -> None:
    out, figure = tmp_path / "p.json", tmp_path / "p.png"
    output = fastcnn(
        "profile", "lenet5", "--batch", 20, "--threads", 1, "--rounds", 1,
        "--out", out, "--figure", figure,
    )  # fmt: skip
    assert "conv1: convolution + ReLU + 2x2 max pooling" in output
    assert "lenet5, batch 20, 1 thread; whole step:" in output
    assert json.loads(out.read_text())["batch"] == 20
    assert figure.stat().st_size > 10_000


def test_plan() -> None:
    output = fastcnn("profile", "--plan", "--batch-size", 64, "--threads", 2)
    assert output.startswith("batch 64: 4 blocks of 16 samples, 2 threads, ")
    assert "conv2: pack weights" in output


def test_unknown_model() -> None:
    output = fastcnn("profile", "resnet1000", code=2)
    assert "'resnet1000' is neither a run nor one of" in output
