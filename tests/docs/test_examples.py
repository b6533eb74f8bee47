"""The example scripts run, as a user would run them."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


def run(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    printed = run("fine_tuning.py", tmp_path)
    first, tuned, scratch = map(float, re.findall(r"accuracy ([\d.]+)", printed))
    assert first > 0.95
    assert tuned > scratch + 0.02
    assert (tmp_path / "fine_tuning.png").stat().st_size > 5_000


def test_every_example_is_run_and_named() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "train_and_deploy.py",
        "naive_and_wrong.py",
        "fine_tuning.py",
        "own_loss_and_optimizer.py",
    }
    page = (EXAMPLES.parent / "tutorial.md").read_text(encoding="utf-8")
    assert all(name in page for name in names)
