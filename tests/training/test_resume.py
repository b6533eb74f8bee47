"""Runs that are stopped, at any moment and in any way, and resumed."""

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

import numpy as np
import pytest

import fastcnn
from fastcnn import data
from fastcnn.errors import CheckpointError, ConfigurationError, RunWriteError
from fastcnn.layers import Dropout, Flatten, Linear, ReLU, Sequential
from fastcnn.optim import SGD, Adam, Cosine
from fastcnn.training import Callback, EarlyStopping, ReduceLROnPlateau, fit
from fastcnn.training import saver as saver_module
from fastcnn.training.checkpoints import Checkpoint
from fastcnn.training.run import Run
from tests.command import fastcnn as command

TRAIN, TEST = data.digits_dataset(400, 100, classes=(0, 1, 2))


def network() -> Sequential:
    return Sequential(
        Flatten(), Dropout(0.2), Linear(784, 12, seed=0), ReLU(), Linear(12, 3, seed=1),
        input_shape=(1, 28, 28),
    )  # fmt: skip


class StopAt(Callback):
    """Sends this process a signal after some steps."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def on_steps(self, steps: Any) -> None:
        if steps.step >= self.step:
            os.kill(os.getpid(), self.number)
            self.step = 1 << 60


def settings(**changes: Any) -> dict[str, Any]:
    chosen = {
        "epochs": 4, "batch_size": 32, "optimizer": Adam(lr=0.01), "schedule": Cosine(),
        "ema_decay": 0.9, "clip_norm": 1.0, "seed": 5,
        "callbacks": [EarlyStopping(patience=9), ReduceLROnPlateau(patience=0)],
    }  # fmt: skip
    return chosen | changes


def records(folder: Path) -> list[Any]:
    """All that a run recorded, but for the times."""
    run = Run.open(folder)
    timeless = [
        {k: v for k, v in record.items() if k not in ("seconds", "samples_per_second")}
        for record in run.metrics("epoch")
    ]
    return [timeless, run.metrics("step"), (folder / "model.safetensors").read_bytes()]


@pytest.mark.parametrize("backend", ["lanes", "im2col"])
@pytest.mark.parametrize("step", [1, 13, 20, 39])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    tmp_path: Path, step: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["fastcnn.training.loop"], "CHUNK_SECONDS", 0.0)
    fit(network(), TRAIN, TEST, **settings(backend=backend), out=tmp_path / "whole")
    folder = tmp_path / "parts"
    stopped = settings(backend=backend)
    stopped["callbacks"].append(StopAt(step, signal.SIGTERM if step == 20 else signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(network(), TRAIN, TEST, **stopped, out=folder)
    assert Run.open(folder).config["status"] == "interrupted"
    assert len(Run.open(folder).metrics("step")) < 52
    history = fit(network(), TRAIN, TEST, **settings(backend=backend), out=folder, resume=True)
    assert records(folder) == records(tmp_path / "whole")
    assert history.status == "finished"
    assert len(history.steps) == 52


def test_both_checkpoints_are_kept(tmp_path: Path) -> None:
    history = fit(network(), TRAIN, TEST, **settings(), out=tmp_path)
    best = Checkpoint.read(tmp_path / "checkpoints/last.safetensors").state
    assert best["best_loss"] == min(history.column("test_loss"))
    model = network()
    from safetensors.numpy import load

    model.load_state_dict(load((tmp_path / "checkpoints/best.safetensors").read_bytes()))
    assert fastcnn.training.evaluate(model, TEST)[0] == pytest.approx(best["best_loss"], rel=1e-6)


@pytest.mark.parametrize("kind", ["truncated", "flipped", "one bit", "foreign", "missing"])
def test_a_checkpoint_that_is_no_good_is_refused(tmp_path: Path, kind: str) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    path = tmp_path / "checkpoints/last.safetensors"
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "flipped":
        path.write_bytes(b"\xff" * 8 + content[8:])
    elif kind == "one bit":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 64]) + content[-8:])
    elif kind == "foreign":
        path.write_bytes((tmp_path / "model.safetensors").read_bytes())
    else:
        path.unlink()
    model = network()
    before = model.parameter_vector.copy()
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        fit(model, TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)
    assert (model.parameter_vector == before).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": SGD(lr=0.01)}, "optimizer.name was 'adam' and is now 'sgd'"),
        ({"batch_size": 16}, "training.batch_size was 32 and is now 16"),
        ({"epochs": 9}, "on which the schedule Cosine depends"),
        ({"seed": 6}, "training.seed was 5"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    with pytest.raises(CheckpointError, match=message):
        fit(
            network(),
            TRAIN,
            TEST,
            **settings(**{"epochs": 1, **changes}),
            out=tmp_path,
            resume=True,
        )


def test_other_data_and_models_are_refused(tmp_path: Path) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    other, tested = data.digits_dataset(400, 100, classes=(0, 1, 2), seed=9)
    with pytest.raises(CheckpointError, match=r"data\.test_checksum"):
        fit(network(), TRAIN, tested, **settings(epochs=1), out=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"data\.checksum"):
        fit(network(), other, TEST, **settings(epochs=1), out=tmp_path, resume=True)
    model = Sequential(Flatten(), Linear(784, 3), input_shape=(1, 28, 28))
    with pytest.raises(CheckpointError, match=r"model\.parameters was"):
        fit(model, TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)
    with pytest.raises(ConfigurationError, match="out=FOLDER"):
        fit(network(), TRAIN, resume=True)
    with pytest.raises(CheckpointError, match="holds no run"):
        fit(network(), TRAIN, out=tmp_path / "none", resume=True)


def test_more_epochs(tmp_path: Path) -> None:
    constant = settings(schedule=None)
    fit(network(), TRAIN, TEST, **constant | {"epochs": 5}, out=tmp_path / "whole")
    fit(network(), TRAIN, TEST, **constant | {"epochs": 2}, out=tmp_path / "parts")
    fit(
        network(),
        TRAIN,
        TEST,
        **settings(schedule=None, epochs=5),
        out=tmp_path / "parts",
        resume=True,
    )
    assert records(tmp_path / "parts")[:2] == records(tmp_path / "whole")[:2]


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver_module, "AFTER_EPOCH", 0.0)
    written = []

    def fails(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) > 3:  # the first one is written before the first step
            raise OSError(28, "No space left on device")
        from fastcnn.files import atomic_write

        atomic_write(path, content)

    monkeypatch.setattr(sys.modules["fastcnn.training.checkpoints"], "atomic_write", fails)
    with pytest.raises(RunWriteError, match=r"written \(No space left.*before is whole"):
        fit(network(), TRAIN, TEST, **settings(), out=tmp_path)
    monkeypatch.undo()
    state = Checkpoint.read(tmp_path / "checkpoints/last.safetensors").state
    assert state["loop"]["progress"]["epoch"] == 3
    fit(network(), TRAIN, TEST, **settings(), out=tmp_path, resume=True)
    fit(network(), TRAIN, TEST, **settings(), out=tmp_path / "whole")
    assert records(tmp_path)[:2] == records(tmp_path / "whole")[:2]


def test_arrays_that_are_not_contiguous_survive(tmp_path: Path) -> None:
    value = np.arange(12.0).reshape(3, 4)
    Checkpoint({"a": [value.T, {"b": value[:, ::2]}], "none": None}).write(tmp_path / "c")
    state = Checkpoint.read(tmp_path / "c").state
    assert (state["a"][0] == value.T).all()
    assert (state["a"][1]["b"] == value[:, ::2]).all()
    assert state["none"] is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b'{"format": "fastcnn-run-1", "training": []}'),
        ("config.json", b"\xff\xfe"),
        ("metrics.jsonl", b"\xff\xfe"),
        ("metrics.jsonl", b"5\n"),
        ("metrics.jsonl", b""),
        ("checkpoints/last.safetensors", b"\x80\x04K\x01."),
        ("checkpoints/last.safetensors", b"\xff" * 7 + b"\x00"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    (tmp_path / name).write_bytes(content)
    model = network()
    before = model.parameter_vector.copy()
    with pytest.raises(CheckpointError, match=Path(name).stem):
        fit(model, TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)
    assert (model.parameter_vector == before).all()


def test_records_in_another_order_are_refused(tmp_path: Path) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(CheckpointError, match="in another order"):
        fit(network(), TRAIN, TEST, **settings(epochs=1), out=tmp_path, resume=True)


class DieAt(Callback):
    """Raises what no handler expects, after some steps or epochs: nothing more is written."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step

    def on_steps(self, steps: Any) -> None:
        if steps.step >= self.step:
            raise RuntimeError("killed")


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


def test_the_best_weights_survive_a_kill_between_two_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"callbacks": [], "optimizer": Adam(lr=0.01), "schedule": None}
    fit(network(), TRAIN, TEST, **settings(**changes), out=tmp_path / "whole")
    folder, kept = tmp_path / "parts", saver_module.Saver.save_best
    monkeypatch.setattr(saver_module.Saver, "save_best", lambda self: None)
    fit(network(), TRAIN, TEST, **settings(**changes), out=folder)
    monkeypatch.setattr(saver_module.Saver, "save_best", kept)
    best = "checkpoints/best.safetensors"
    assert not (folder / best).exists()
    fit(network(), TRAIN, TEST, **settings(**changes), out=folder, resume=True)
    assert (folder / best).read_bytes() == (tmp_path / "whole" / best).read_bytes()


def test_a_run_that_fails_keeps_its_best_weights(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        fit(network(), TRAIN, TEST, **settings(callbacks=[DieAt(tmp_path, 20)]), out=tmp_path)
    from safetensors.numpy import load

    network().load_state_dict(load((tmp_path / "checkpoints/best.safetensors").read_bytes()))


def test_leftovers_of_a_kill_within_a_write_are_removed(tmp_path: Path) -> None:
    fit(network(), TRAIN, TEST, **settings(epochs=1, schedule=None), out=tmp_path)
    left = [tmp_path / "checkpoints/.last.safetensors.abcd1234", tmp_path / ".config.json.x"]
    for path in left:
        path.write_bytes(b"half")
    mine = tmp_path / ".notes"
    mine.write_bytes(b"of the user")
    changed = settings(epochs=2, schedule=None)
    fit(network(), TRAIN, TEST, **changed, out=tmp_path, resume=True)
    assert not any(path.exists() for path in left)
    assert mine.exists()


class Second(Callback):
    """Trains into the same folder, meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_epoch_end(self, epoch: Any, model: Any) -> None:
        with pytest.raises(ConfigurationError, match="still going on"):
            Run.create(self.folder, {}, overwrite=True)
        with pytest.raises(ConfigurationError, match="still going on"):
            fit(network(), TRAIN, TEST, **settings(epochs=2), out=self.folder, resume=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders")
def test_one_training_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    history = fit(
        network(), TRAIN, TEST, **settings(epochs=2, callbacks=[Second(tmp_path)]), out=tmp_path
    )
    assert len(history.epochs) == 2
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    again = settings(epochs=2, callbacks=[])
    fit(network(), TRAIN, TEST, **again, out=link, resume=True)  # and is free afterwards


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that another user can reach."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place) / "run"


def test_a_folder_that_becomes_unwritable(public_path: Path) -> None:
    """Root writes everywhere, so that root becomes somebody else for a while."""
    tmp_path = public_path
    fit(network(), TRAIN, TEST, **settings(epochs=1, schedule=None), out=tmp_path)
    checkpoints = tmp_path / "checkpoints"
    before = (checkpoints / "last.safetensors").read_bytes()
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    checkpoints.chmod(0o555)
    try:
        if root:
            for path in (tmp_path, *tmp_path.iterdir()):
                os.chown(path, 65534, 65534)
            os.seteuid(65534)
        changed = settings(epochs=2, schedule=None)
        with pytest.raises(RunWriteError, match=r"checkpoints/best\.safetensors"):
            fit(network(), TRAIN, TEST, **changed, out=tmp_path, resume=True)
    finally:
        if root:
            os.seteuid(0)
        checkpoints.chmod(0o755)
    assert (checkpoints / "last.safetensors").read_bytes() == before
    assert [path.name for path in checkpoints.iterdir() if path.name.startswith(".")] == []
    fit(network(), TRAIN, TEST, **settings(epochs=2, schedule=None), out=tmp_path, resume=True)


def train_command(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "fastcnn", "train", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize("kills_wanted", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_at_random_moments(tmp_path: Path, kills_wanted: int) -> None:
    """SIGKILL several times, mid-epoch and mid-write; the rest equals a run that was left alone."""
    archive = tmp_path / "digits.npz"
    data.write_npz(archive, *data.digits_dataset(6000, 300, classes=(0, 1, 2)))
    options = ["--data", archive, "--epochs", 30, "--activation", "sigmoid", "--ema-decay", 0.99]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_command(*options, "--out", whole).wait(timeout=120) == 0
    often = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }
    # Every epoch and every chunk writes a checkpoint, so that kills meet writes.
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
        output = process.communicate(timeout=60)[0]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output
        kills += 1
        command = ["--resume", parts]
        if kills == kills_wanted:
            often.pop("PYTHONPATH")
            often["PYTHONPATH"] = os.pathsep.join(sys.path)
            process = train_command(*command, env=often)
            assert process.wait(timeout=120) == 0
            break
    assert kills >= 3
    assert records(parts)[:2] == records(whole)[:2]
    assert records(parts)[2] == records(whole)[2]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """Writes really fail in the midst of a file: files may not grow beyond a limit."""
    import resource

    archive, run = tmp_path / "digits.npz", tmp_path / "run"
    data.write_npz(archive, *data.digits_dataset(300, 60, classes=(0, 1, 2)))
    process = train_command("--data", archive, "--epochs", 1, "--out", run)
    assert process.wait(timeout=60) == 0
    saved = run / "checkpoints/last.safetensors"
    before = saved.read_bytes()
    limit = len(before) // 2
    process = train_command(
        "--resume", run, "--epochs", 2,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert "last.safetensors" in output
    assert "Traceback" not in output
    assert saved.read_bytes() == before
    assert list(run.rglob(".*")) == []
    process = train_command("--resume", run, "--epochs", 2)
    assert process.wait(timeout=60) == 0


def test_command_line(tmp_path: Path) -> None:
    archive, run = tmp_path / "digits.npz", tmp_path / "run"
    data.write_npz(archive, *data.digits_dataset(300, 60, classes=(0, 1, 2)))
    process = train_command("--data", archive, "--epochs", 1, "--out", run)
    assert process.wait(timeout=60) == 0
    for arguments, message in (
        (("--resume", run), "finished its 1 epochs: give more with --epochs"),
        (("--resume", run, "--lr", 0.1), "--lr: a resumed run keeps the options"),
        (("--resume", tmp_path), "holds no run"),
    ):
        assert message in command("train", *arguments, code=2)
    process = train_command("--resume", run, "--epochs", 3)
    assert process.wait(timeout=60) == 0
    assert [epoch["epoch"] for epoch in Run.open(run).metrics()] == [1, 2, 3]
