"""When a run's state goes to the disk, and how it comes back."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.errors import CheckpointError, RunWriteError
from fastcnn.files import atomic_write
from fastcnn.layers import Model
from fastcnn.training.checkpoints import Checkpoint, differences
from fastcnn.training.history import History

if TYPE_CHECKING:
    from fastcnn.training.loop import TrainingLoop

LAST, BEST = "checkpoints/last.safetensors", "checkpoints/best.safetensors"
#: Seconds between checkpoints at ends of epochs, and within them. An epoch of the report's network
#: takes 0.05 s, writing its checkpoint 5 ms.
AFTER_EPOCH, WITHIN_EPOCH = 1.0, 10.0


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Let a failure to write say which run it ends, and that the run may go on.

    Raises
    ------
    RunWriteError
        Instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunWriteError(
            f"{folder} cannot be written ({error.strerror or error}): a checkpoint "
            "written before is whole; resume the run when it can be"
        ) from None


class Saver:
    """Writes the checkpoints of one run: the last state, and the weights of the best epoch.

    The best epoch is that of the smallest test loss, without test data of the smallest training
    loss.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = time.monotonic()
        self.best_loss = math.inf
        self.best: dict[str, np.ndarray] | None = None
        self._best_is_new = False

    def save_after_epoch(self, loop: "TrainingLoop") -> None:
        """Write a checkpoint, unless one was written just before."""
        if time.monotonic() - self.written >= AFTER_EPOCH:
            self.save(loop)

    def save_within_epoch(self, loop: "TrainingLoop") -> None:
        """Write a checkpoint in a long epoch."""
        if time.monotonic() - self.written >= WITHIN_EPOCH:
            self.save(loop)

    def save(self, loop: "TrainingLoop") -> None:
        """Write a checkpoint, and the best weights where they are new.

        Raises
        ------
        RunWriteError
            If they cannot be written; the checkpoint before is then untouched.
        """
        with writing(self.folder):
            Checkpoint(
                {"loop": loop.state_dict(), "best_loss": self.best_loss, "best": self.best}
            ).write(self.folder / LAST)
            if self._best_is_new and self.best is not None:
                from safetensors.numpy import save

                atomic_write(self.folder / BEST, save(self.best))
                self._best_is_new = False
        self.written = time.monotonic()

    def note_epoch(self, record: dict[str, Any], model: Model) -> None:
        """Remember the weights of the best epoch."""
        loss = record["train_loss"] if record["test_loss"] is None else record["test_loss"]
        if loss < self.best_loss:
            self.best_loss, self._best_is_new = loss, True
            self.best = {key: value.copy() for key, value in model.state_dict().items()}

    def resume(self, loop: "TrainingLoop", metrics: Path) -> None:
        """Bring a loop and its history to where the last checkpoint was written.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, damaged or of another model, or ``metrics`` lacks steps
            that were taken before it.
        """
        path = self.folder / LAST
        state = Checkpoint.read(path).state
        try:
            loop.load_state_dict(state["loop"])
            self.best_loss = float(state["best_loss"])
            self.best = state["best"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} does not fit this run ({error})") from None
        restore_history(loop.history, metrics, loop.executor.step, loop.progress.epoch - 1)


def restore_history(history: History, metrics: Path, steps: int, epochs: int) -> None:
    """Read back the records of a run's first steps and epochs, and forget the later ones.

    Raises
    ------
    CheckpointError
        If records are missing.
    """
    kept: list[dict[str, Any]] = []
    try:
        lines = metrics.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CheckpointError(f"{metrics} cannot be read ({error.strerror})") from None
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            break  # the line that was being written when the run was killed
        if record["kind"] == "step" and record["step"] > steps:
            continue
        if record["epoch"] > epochs + (record["kind"] == "step"):
            continue
        kept.append(record)
    history.steps[:] = [record for record in kept if record["kind"] == "step"]
    history.epochs[:] = [record for record in kept if record["kind"] == "epoch"]
    if len(history.steps) != steps or len(history.epochs) != epochs:
        raise CheckpointError(
            f"{metrics} has {len(history.steps)} of the {steps} steps and {len(history.epochs)} of "
            f"the {epochs} epochs before the checkpoint"
        )
    text = "".join(json.dumps(record) + "\n" for record in kept)
    atomic_write(metrics, text.encode())


#: Schedules that do not depend on the number of epochs.
OPEN_ENDED = ("Constant", "StepDecay")
#: Parts of a config that may differ when a run is resumed.
FREE = ("training.threads", "training.epochs", "model.name", "model.arguments", "data.source")


def check_same(saved: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse to resume a run under other settings.

    Raises
    ------
    CheckpointError
        The message names what differs.
    """
    parts = ("model", "data", "loss", "optimizer", "schedule", "training")
    now = json.loads(json.dumps(now))
    found = [
        line
        for line in differences(
            {key: saved.get(key) for key in parts}, {key: now.get(key) for key in parts}
        )
        if not line.startswith(FREE)
    ]
    before, after = saved["training"].get("epochs"), now["training"].get("epochs")
    if before != after and saved["schedule"]["name"] not in OPEN_ENDED:
        found.append(
            f"training.epochs was {before} and is now {after}, on which the schedule "
            f"{saved['schedule']['name']} depends"
        )
    if found:
        raise CheckpointError(f"{folder} was trained otherwise: {'; '.join(sorted(found))}")
