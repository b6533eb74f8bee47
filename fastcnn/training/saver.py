"""When a run's state goes to the disk, and how it comes back."""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.errors import CheckpointError, RunWriteError
from fastcnn.files import atomic_write
from fastcnn.layers import Model
from fastcnn.layers.description import file_metadata
from fastcnn.training.checkpoints import Checkpoint, differences
from fastcnn.training.history import EpochRecord, History, StepRecord, read_records
from fastcnn.weights import weights_to_bytes

if TYPE_CHECKING:
    from fastcnn.training.loop import TrainingLoop

LAST, BEST = "checkpoints/last.safetensors", "checkpoints/best.safetensors"
#: Seconds between checkpoints at ends of epochs, and within them. An epoch of the report's network
#: takes 0.05 s, writing its checkpoint 5 ms.
AFTER_EPOCH, WITHIN_EPOCH = 1.0, 10.0


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Let a failure to write say what it was of, and that the run can be resumed.

    Raises
    ------
    RunWriteError
        Instead of any OSError.
    """
    try:
        yield
    except RunWriteError:
        raise
    except OSError as error:
        raise RunWriteError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}): a "
            "checkpoint written before is whole; resume the run when it can be"
        ) from None


class Saver:
    """Writes the checkpoints of one run: the last state, and the weights of the best epoch.

    The best epoch is that of the best monitored value, by default of the smallest validation loss;
    without validation data that of the smallest training loss: test data choose nothing.

    Parameters
    ----------
    folder : Path
        The run's folder.
    metrics : Path
        Where the run's records are.
    monitor : str
        What records have that is compared.
    larger : bool
        Whether a larger value of that is better.
    """

    def __init__(
        self, folder: Path, metrics: Path, monitor: str = "validation_loss", larger: bool = False
    ) -> None:
        self.monitor = monitor
        self.sign = -1.0 if larger else 1.0
        self.folder = folder
        self.metrics = metrics
        self.written = time.monotonic()
        self.best_loss = math.inf
        self.best: dict[str, np.ndarray] | None = None
        self.metadata: dict[str, str] = {}
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
            # A checkpoint is worth nothing without the records of the steps before it.
            with self.metrics.open("rb+") as file:
                os.fsync(file.fileno())
            Checkpoint(
                {
                    "loop": loop.state_dict(),
                    "best_loss": self.best_loss,
                    "best": self.best,
                    "last_step": loop.history.steps[-1:],
                }
            ).write(self.folder / LAST)
            self.save_best()
        self.written = time.monotonic()

    def save_best(self) -> None:
        """Write the best weights where they are new."""
        if self._best_is_new and self.best is not None:
            with writing(self.folder):
                atomic_write(self.folder / BEST, weights_to_bytes(self.best, self.metadata))
            self._best_is_new = False

    def note_epoch(self, record: dict[str, Any], model: Model) -> None:
        """Remember the weights of the best epoch."""
        if record["validation_loss"] is None and self.monitor == "validation_loss":
            loss = record["train_loss"]
        else:
            found = record.get(self.monitor)
            loss = math.inf if found is None else self.sign * found
        if loss < self.best_loss:
            self.best_loss, self._best_is_new = loss, True
            self.best = {key: value.copy() for key, value in model.state_dict().items()}
            self.metadata = file_metadata(model)

    def resume(self, loop: "TrainingLoop") -> None:
        """Bring a loop and its history to where the last checkpoint was written.

        Raises
        ------
        CheckpointError
            If the checkpoint is damaged, of another model, or missing though steps were taken, or
            the records lack steps that were taken before it. The model is then unchanged.
        """
        path = self.folder / LAST
        if not path.exists() and not _has_records(self.metrics):
            return  # killed before its first step
        state = Checkpoint.read(path).state
        before = loop.model.copy_state()
        try:
            if state["best"] is not None:
                loop.model.load_state_dict(state["best"])  # so that it is known to fit
            loop.load_state_dict(state["loop"])
            self.best_loss = float(state["best_loss"])
            self.best = state["best"]
            self.metadata = file_metadata(loop.model)
            steps, progress = loop.executor.step, loop.progress
            begun = progress.epoch - (progress.done == 0)
            if loop.epochs < begun:
                raise CheckpointError(
                    f"{self.folder}: its epoch {begun} has begun: it cannot end after "
                    f"epochs={loop.epochs}"
                )
            restore_history(loop.history, self.metrics, steps, progress.epoch - 1)
            if sum(record["epoch"] == progress.epoch for record in loop.history.steps) != (
                progress.done
            ):
                raise CheckpointError(f"{path} counts other steps than {self.metrics}")
            if loop.history.steps[-1:] != state["last_step"]:
                raise CheckpointError(f"{path} is of another run than {self.metrics}")
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            loop.model.load_state_dict(before)
            raise CheckpointError(f"{path} does not fit this run ({error})") from None
        except CheckpointError:
            loop.model.load_state_dict(before)
            raise
        # The run may have been killed after the one file was written and before the other.
        self._best_is_new = self.best is not None


def _has_records(metrics: Path) -> bool:
    try:
        return metrics.stat().st_size > 0
    except FileNotFoundError:
        return False


def restore_history(history: History, metrics: Path, steps: int, epochs: int) -> None:
    """Read back the records of a run's first steps and epochs, and forget the later ones.

    Raises
    ------
    CheckpointError
        If records are missing.
    """
    try:
        records = read_records(metrics)
    except OSError as error:
        raise CheckpointError(f"{metrics} cannot be read ({error.strerror})") from None
    kept = [
        record
        for record in records
        if record["epoch"] <= epochs + (record["kind"] == "step")
        and (record["kind"] != "step" or record["step"] <= steps)
    ]
    history.steps[:] = [StepRecord(record) for record in kept if record["kind"] == "step"]
    history.epochs[:] = [EpochRecord(record) for record in kept if record["kind"] == "epoch"]
    for kind, found, count in (("step", history.steps, steps), ("epoch", history.epochs, epochs)):
        in_order = all(record[kind] == place for place, record in enumerate(found, start=1))
        if len(found) != count or not in_order:
            raise CheckpointError(
                f"{metrics} has {len(found)} of the {count} {kind}s before the checkpoint, or in "
                "another order"
            )
    text = "".join(json.dumps(record) + "\n" for record in kept)
    atomic_write(metrics, text.encode())


#: Schedules that do not depend on the number of epochs.
OPEN_ENDED = ("constant", "step", "multi-step")
#: Parts of a config that may differ when a run is resumed.
FREE = (
    "training.epochs",
    "model.name",
    "model.arguments",
    "data.source",
    "data.data_dir",
    "data.validation_split",
)


def check_same(saved: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse to resume a run under other settings.

    Raises
    ------
    CheckpointError
        The message names what differs.
    """
    parts = ("model", "preprocessing", "data", "loss", "optimizer", "schedule", "training")
    now = json.loads(json.dumps(now))
    found = [
        line
        for line in differences(
            {key: saved[key] for key in parts}, {key: now[key] for key in parts}
        )
        if not line.startswith(FREE)
    ]
    before, after = saved["training"].get("epochs"), now["training"].get("epochs")
    schedule = now["schedule"]  # one that differs is among the differences
    schedule = schedule.get("then", schedule)["name"]
    if before != after and schedule not in OPEN_ENDED:
        found.append(
            f"the schedule {schedule} depends on the number of epochs, which was {before} and is "
            f"now {after}"
        )
    lookahead = now["training"].get("lookahead") or {}
    if before != after and lookahead.get("final_alpha") is not None:
        found.append(
            f"lookahead's alpha depends on the number of epochs, which was {before} and is now "
            f"{after}"
        )
    if found:
        raise CheckpointError(
            f"{folder} cannot be continued: {'; '.join(sorted(found))}; init= or --init starts a "
            "new run with its weights"
        )
