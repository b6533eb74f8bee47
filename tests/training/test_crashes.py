"""Runs that are killed or cannot write, at any moment and in any way, and what remains of them."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastcnn import data
from fastcnn.errors import RunWriteError
from fastcnn.files import atomic_write
from fastcnn.training import Callback, fit
from fastcnn.training import saver as saver_module
from fastcnn.training.checkpoints import Checkpoint
from fastcnn.training.run import Run
from tests.command import fastcnn as command
from tests.training.resuming import TEST, TRAIN, network, records, settings

pytestmark = pytest.mark.usefixtures("no_pictures")


class DieAt(Callback):
    """Raises an exception that no handler expects, after some steps or epochs."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step

    def on_steps(self, steps: Any) -> None:
        if steps.step >= self.step:
            raise RuntimeError("killed")


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver_module, "AFTER_EPOCH", 0.0)
    written = []

    def fails(path: Path, content: bytes) -> None:
        if path.name == "last.safetensors":
            written.append(path)
        if len(written) > 3:  # the first one is written before the first step
            raise OSError(28, "No space left on device")
        atomic_write(path, content)

    monkeypatch.setattr(saver_module, "atomic_write", fails)
    with pytest.raises(RunWriteError, match=r"written \(No space left.*is intact"):
        fit(network(), TRAIN, TEST, **settings(), out=tmp_path)
    monkeypatch.undo()
    state = Checkpoint.read(tmp_path / "checkpoints/last.safetensors").state
    assert state["loop"]["progress"]["epoch"] == 3
    fit(network(), TRAIN, TEST, **settings(), out=tmp_path, resume=True)
    fit(network(), TRAIN, TEST, **settings(), out=tmp_path / "whole")
    assert records(tmp_path)[:2] == records(tmp_path / "whole")[:2]


@pytest.mark.parametrize(
    ("written", "where"),
    [(0, "from its beginning: there is no checkpoint yet"), (1, "from its last checkpoint, which")],
)
def test_a_disk_that_is_full_at_the_first_or_the_last_checkpoint(
    tmp_path: Path, written: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [written]

    def fails(path: Path, content: bytes) -> None:
        if path.name == "last.safetensors":
            if not left[0]:
                raise OSError(28, "No space left on device")
            left[0] -= 1
        atomic_write(path, content)

    monkeypatch.setattr(saver_module, "AFTER_EPOCH", 3600.0)
    monkeypatch.setattr(saver_module, "atomic_write", fails)
    with pytest.raises(RunWriteError, match=where):
        fit(network(), TRAIN, TEST, **settings(), out=tmp_path / "parts")
    monkeypatch.undo()
    assert Run.open(tmp_path / "parts").config["status"] == "failed", "else it is not resumed"
    fit(network(), TRAIN, TEST, **settings(), out=tmp_path / "parts", resume=True)
    fit(network(), TRAIN, TEST, **settings(), out=tmp_path / "whole")
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


@pytest.mark.parametrize("step", [1, 20])
def test_killed_before_the_first_timed_checkpoint(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["fastcnn.training.loop"], "CHUNK_SECONDS", 0.0)
    killed = settings()
    killed["callbacks"].append(DieAt(tmp_path, step))
    with pytest.raises(RuntimeError, match="killed"):
        fit(network(), TRAIN, TEST, **killed, out=tmp_path / "parts")
    fit(network(), TRAIN, TEST, **settings(), out=tmp_path / "parts", resume=True)
    fit(network(), TRAIN, TEST, **settings(), out=tmp_path / "whole")
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_killed_between_its_folder_and_its_first_step(tmp_path: Path) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    expected = records(tmp_path)
    for path in [*tmp_path.glob("checkpoints/*"), *tmp_path.glob("m*"), tmp_path / "epochs.csv"]:
        path.unlink()
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)
    assert records(tmp_path) == expected


def test_a_run_that_fails_keeps_its_best_weights(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        fit(network(), TRAIN, TEST, **settings(callbacks=[DieAt(tmp_path, 20)]), out=tmp_path)
    from safetensors.numpy import load

    network().load_state_dict(load((tmp_path / "checkpoints/best.safetensors").read_bytes()))


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that another user can access."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place) / "run"


@pytest.mark.posix
def test_a_folder_that_becomes_unwritable(public_path: Path) -> None:
    """Root can write everywhere, so the test temporarily becomes another user."""
    tmp_path = public_path
    fit(network(), TRAIN, TEST, **settings(epochs=1, schedule="constant"), out=tmp_path)
    checkpoints = tmp_path / "checkpoints"
    before = (checkpoints / "last.safetensors").read_bytes()
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    checkpoints.chmod(0o555)
    try:
        if root:
            for path in (tmp_path, *tmp_path.iterdir()):
                os.chown(path, 65534, 65534)
            os.seteuid(65534)
        changed = settings(epochs=2, schedule="constant")
        with pytest.raises(RunWriteError, match=r"checkpoints/best\.safetensors"):
            fit(network(), TRAIN, TEST, **changed, out=tmp_path, resume=True)
    finally:
        if root:
            os.seteuid(0)
        checkpoints.chmod(0o755)
    assert (checkpoints / "last.safetensors").read_bytes() == before
    assert [path.name for path in checkpoints.iterdir() if path.name.startswith(".")] == []
    fit(
        network(), TRAIN, TEST, **settings(epochs=2, schedule="constant"), out=tmp_path, resume=True
    )


def train_command(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "fastcnn", "train", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


@pytest.mark.posix
@pytest.mark.parametrize("kills_wanted", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_at_random_moments(tmp_path: Path, kills_wanted: int) -> None:
    """SIGKILL several times, mid-epoch and mid-write; the result equals an undisturbed run's."""
    archive = tmp_path / "digits.npz"
    data.write_npz(archive, *data.digits_dataset(6000, 300, classes=(0, 1, 2)))
    options = ["--data", archive, "--epochs", 30, "--activation", "sigmoid", "--ema-decay", 0.99]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_command(*options, "--out", whole).wait(timeout=300) == 0
    often = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }
    # Every epoch and every chunk writes a checkpoint, so that kills interrupt writes.
    (tmp_path / "sitecustomize.py").write_text(
        "import fastcnn.training.saver as s\ns.AFTER_EPOCH = s.WITHIN_EPOCH = 0.0\n"
    )
    generator = random.Random(0)
    command: list[object] = [*options, "--out", parts]
    kills = 0
    for _ in range(25):
        process = train_command(*command, env=often)
        saved = parts / "checkpoints/last.safetensors"
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        while process.poll() is None and (not saved.exists() or saved.stat().st_mtime_ns == before):
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        output = process.communicate(timeout=300)[0]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output
        kills += 1
        command = ["--resume", parts]
        if kills == kills_wanted:
            often.pop("PYTHONPATH")
            often["PYTHONPATH"] = os.pathsep.join(sys.path)
            process = train_command(*command, env=often)
            assert process.wait(timeout=300) == 0
            break
    assert kills >= 3
    assert records(parts)[:2] == records(whole)[:2]
    assert records(parts)[2] == records(whole)[2]


@pytest.mark.posix
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """Writes really fail in the middle of a file: file sizes are limited."""
    import resource

    archive, run = tmp_path / "digits.npz", tmp_path / "run"
    data.write_npz(archive, *data.digits_dataset(300, 60, classes=(0, 1, 2)))
    command("train", "--data", archive, "--epochs", 1, "--out", run)
    saved = run / "checkpoints/last.safetensors"
    before = saved.read_bytes()
    limit = len(before) // 2
    process = train_command(
        "--resume", run, "--epochs", 2,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 2, output
    assert "last.safetensors" in output
    assert "Traceback" not in output
    assert saved.read_bytes() == before
    assert [path.name for path in run.rglob(".*")] == [".lock"]
    command("train", "--resume", run, "--epochs", 2)
