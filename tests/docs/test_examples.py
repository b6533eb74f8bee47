"""The example scripts run, as a user would run them, except for a new process's imports."""

import contextlib
import io
import re
import runpy
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


pytestmark = pytest.mark.usefixtures("own_kernels")


def run(name: str, *arguments: object) -> str:
    printed = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [name, *map(str, arguments)]),
        contextlib.redirect_stdout(printed),
    ):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return printed.getvalue()


def test_train_and_deploy(tmp_path: Path) -> None:
    printed = run("train_and_deploy.py", tmp_path)
    assert float(re.search(r"test accuracy ([\d.]+)%", printed)[1]) > 95  # type: ignore[index]
    assert (tmp_path / "run" / "config.json").exists()
    assert (tmp_path / "report.safetensors").exists()
    if "not installed" not in printed:
        apart = re.search(r"ONNX Runtime differs by (\S+)", printed)
        assert apart is not None
        assert float(apart[1]) < 1e-4


def test_naive_and_wrong() -> None:
    printed = run("naive_and_wrong.py")
    times = [float(time) for time in re.findall(r"([\d.]+) ms", printed)]
    assert len(times) == 3
    right, wrong = re.search(r"gradient: (\S+); the report's: (\S+)", printed).groups()  # type: ignore[union-attr]
    assert float(right) < 1e-6 < 0.1 < float(wrong)


def test_own_loss_and_optimizer() -> None:
    assert float(run("own_loss_and_optimizer.py").split()[1]) > 0.95


def test_fine_tuning(tmp_path: Path) -> None:
    printed = run("fine_tuning.py", tmp_path / "picture.png")
    first, tuned, scratch = map(float, re.findall(r"accuracy ([\d.]+)", printed))
    assert first > 0.95
    assert tuned > scratch + 0.02
    assert (tmp_path / "picture.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("name", "pattern", "least", "most"),
    [
        ("multi_label", r"labels right: ([\d.]+)%", 98, 100),
        ("segmentation", r"intersection over union: ([\d.]+)%", 70, 100),
        ("two_heads", r"digits right: ([\d.]+)%", 97, 100),
        ("autoencoder", r"before, ([\d.]+) after", 0.001, 0.03),
        ("time_series", r"right: ([\d.]+)%", 97, 100),
    ],
)
def test_learns_and_draws(
    name: str, pattern: str, least: float, most: float, tmp_path: Path
) -> None:
    printed = run(f"{name}.py", tmp_path / "picture.png")
    assert least <= float(re.search(pattern, printed)[1]) <= most  # type: ignore[index]
    with Image.open(tmp_path / "picture.png") as picture:
        assert len(np.unique(np.asarray(picture))) > 50


def test_every_example_is_run_and_named() -> None:
    page = (EXAMPLES.parent / "tutorial.md").read_text(encoding="utf-8")
    here = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in here or f'("{path.stem}", r"' in here, f"{path.name} is not run"
        assert f"`{path.name}`" in page, f"docs/tutorial.md does not name {path.name}"
