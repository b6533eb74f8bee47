"""Interrupted runs, resumed with the same settings or with others."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import data
from fastcnn.errors import CheckpointError, ConfigurationError
from fastcnn.layers import Flatten, Linear, Sequential
from fastcnn.losses import CrossEntropyLoss
from fastcnn.optim import SGD, MultiStep, Warmup
from fastcnn.training import Callback, fit
from fastcnn.training.run import Run
from tests.command import fastcnn as command
from tests.command import process
from tests.training.resuming import TEST, TRAIN, network, records, settings

pytestmark = pytest.mark.usefixtures("no_pictures")


class StopAt(Callback):
    """Sends this process a signal after some steps."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def on_steps(self, steps: Any) -> None:
        if steps.step >= self.step:
            signal.raise_signal(self.number)
            self.step = 1 << 60


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": SGD(lr=0.01)}, "optimizer.name was 'adam' and is now 'sgd'"),
        ({"batch_size": 16}, "training.batch_size was 32 and is now 16"),
        (
            {"epochs": 9},
            "the schedule cosine depends on the number of epochs, which was 1 and is now 9",
        ),
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
    with pytest.raises(CheckpointError, match="no such folder"):
        fit(network(), TRAIN, out=tmp_path / "none", resume=True)


def test_more_epochs_after_the_milestones_of_a_schedule(tmp_path: Path) -> None:
    chosen = settings(schedule=MultiStep((1, 3)))
    fit(network(), TRAIN, TEST, out=tmp_path / "parts", **{**chosen, "epochs": 2})
    fit(network(), TRAIN, TEST, out=tmp_path / "parts", resume=True, **chosen)
    fit(network(), TRAIN, TEST, out=tmp_path / "whole", **chosen)
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


class Halved:
    """A user's schedule that is not a dataclass."""

    def lr(self, step: int, total_steps: int, steps_per_epoch: int, base_lr: float) -> float:
        return base_lr / 2

    def __repr__(self) -> str:
        return "Halved()"


def test_a_schedule_of_ones_own_after_a_warm_up_is_on_record(tmp_path: Path) -> None:
    chosen = settings(schedule=Warmup(2, Halved()), epochs=1)
    fit(network(), TRAIN, TEST, out=tmp_path / "run", **chosen)
    schedule = json.loads((tmp_path / "run" / "config.json").read_text())["schedule"]
    assert schedule["then"] == {"name": "Halved", "repr": "Halved()"}


def test_a_run_with_an_epoch_without_an_accuracy_goes_on(tmp_path: Path) -> None:
    """For example if the targets of all its batches are ignored."""
    images = np.ones((20, 4), np.float32)
    labels = np.where(np.arange(20) < 6, 0, 255)
    given = {"loss": CrossEntropyLoss(ignore_index=255), "batch_size": 1, "steps_per_epoch": 2}
    made = []
    for epochs in (4, 8):
        model = Sequential(Linear(4, 3, seed=0), input_shape=(4,))
        made.append(
            fit(model, (images, labels), epochs=epochs, out=tmp_path, resume=epochs == 8, **given)
        )
    accuracies = made[1].column("train_accuracy")
    assert None in accuracies[:4]
    assert len(accuracies) == 8
    assert accuracies[:4] == made[0].column("train_accuracy")
    assert made[1].has_accuracy


def test_more_epochs(tmp_path: Path) -> None:
    constant = settings(schedule="constant")
    fit(network(), TRAIN, TEST, **constant | {"epochs": 5}, out=tmp_path / "whole")
    fit(network(), TRAIN, TEST, **constant | {"epochs": 2}, out=tmp_path / "parts")
    fit(
        network(),
        TRAIN,
        TEST,
        **settings(schedule="constant", epochs=5),
        out=tmp_path / "parts",
        resume=True,
    )
    assert records(tmp_path / "parts")[:2] == records(tmp_path / "whole")[:2]
    with pytest.raises(CheckpointError, match="epoch 5 has begun: it cannot end after epochs=4"):
        fit(network(), TRAIN, TEST, **constant, out=tmp_path / "parts", resume=True)
    assert Run.open(tmp_path / "parts").config["training"]["epochs"] == 5


def test_a_run_keeps_the_type_of_its_parameters(tmp_path: Path) -> None:
    model = network().to(np.float64)
    short = {"epochs": 1, "backend": "im2col", "diagnose": False}
    fit(model, TRAIN, **short, out=tmp_path)
    loaded = Run.open(tmp_path).load_model()
    assert loaded.dtype == np.float64
    x = TEST.images[:8]
    assert (loaded.logits(x) == model.logits(x)).all()
    with pytest.raises(CheckpointError, match="dtype was 'float64' and is now 'float32'"):
        fit(network(), TRAIN, **short | {"epochs": 2}, out=tmp_path, resume=True)


class Second(Callback):
    """Trains into the same folder in the meantime."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_epoch_end(self, epoch: Any, model: Any) -> None:
        with pytest.raises(ConfigurationError, match="still training"):
            Run.create(self.folder, {}, overwrite=True)
        with pytest.raises(ConfigurationError, match="still training"):
            fit(network(), TRAIN, TEST, **settings(epochs=2), out=self.folder, resume=True)


def test_one_training_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    history = fit(
        network(), TRAIN, TEST, **settings(epochs=2, callbacks=[Second(tmp_path)]), out=tmp_path
    )
    assert len(history.epochs) == 2
    if os.name == "nt":
        return  # links need a right that users rarely have
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    again = settings(epochs=2, callbacks=[])
    fit(network(), TRAIN, TEST, **again, out=link, resume=True)  # and is free afterwards


def test_command_line(tmp_path: Path) -> None:
    archive, run = tmp_path / "digits.npz", tmp_path / "run"
    data.write_npz(archive, *data.digits_dataset(300, 60, classes=(0, 1, 2)))
    command("train", "--data", archive, "--epochs", 1, "--out", run)
    for arguments, message in (
        (("--resume", run), "finished its 1 epoch: give more with --epochs"),
        (("--resume", run, "--lr", 0.1), "--lr: a resumed run keeps the options"),
        (("--resume", tmp_path), "holds no run"),
    ):
        assert message in command("train", *arguments, code=2)
    process("train", "--resume", run, "--epochs", 3)
    assert [epoch["epoch"] for epoch in Run.open(run).metrics()] == [1, 2, 3]
