"""Writers of a run's folder: records during training, and checkpoints to resume from."""

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from fastcnn.errors import CheckpointError, RunWriteError, cause
from fastcnn.files import atomic_write
from fastcnn.layers import Model
from fastcnn.layers.description import file_metadata
from fastcnn.training.callbacks import Callback, Steps, TrainingStart
from fastcnn.training.checkpoints import BEST, LAST, Checkpoint
from fastcnn.training.history import EpochRecord, History, StepRecord, read_records
from fastcnn.training.run import CURVES, EPOCHS, METRICS, Run
from fastcnn.weights import weights_to_bytes

if TYPE_CHECKING:
    from fastcnn.training.loop import TrainingLoop

#: Seconds between checkpoints at the end of epochs, and within them. An epoch of the report's
#: network takes 0.05 s, writing its checkpoint 5 ms.
AFTER_EPOCH, WITHIN_EPOCH = 1.0, 10.0
#: Exceptions raised by checkpoint values of an unexpected kind.
UNFIT = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Context manager: a failed write names the file, and from where the run can be resumed.

    Raises RunWriteError instead of any OSError.
    """
    try:
        yield
    except RunWriteError:
        raise
    except OSError as error:
        where = "its last checkpoint, which is intact"
        if not (folder / LAST).exists():
            where = "its beginning: there is no checkpoint yet"
        raise RunWriteError(
            f"{error.filename or folder} cannot be written ({cause(error)}): resume the run once "
            f"the cause is fixed, from {where}"
        ) from None


class Recorder(Callback):
    """Writes the records of a run during training."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.file: TextIO | None = None
        self.model: Model | None = None
        self.history = History()
        self.saved = 0.0

    def on_train_begin(self, start: TrainingStart) -> None:
        resumed = bool(start.history.steps)
        self.model = start.model
        self.history = start.history
        with writing(self.run.folder):
            self.file = (self.run.folder / METRICS).open("a" if resumed else "w", encoding="utf-8")
            self._save(start.model)

    def on_steps(self, steps: Steps) -> None:
        self._append(self.history.steps[-len(steps.losses) :])

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        self._append([epoch])
        if time.monotonic() - self.saved >= AFTER_EPOCH:
            with writing(self.run.folder):
                self._save(model)

    def _append(self, records: Sequence[dict[str, Any]]) -> None:
        assert self.file is not None
        with writing(self.run.folder):
            self.file.writelines(json.dumps(record) + "\n" for record in records)
            self.file.flush()

    def _save(self, model: Model) -> None:
        atomic_write(self.run.folder / EPOCHS, self.history.to_csv().encode())
        self.run.save_weights(model)
        self.saved = time.monotonic()

    def on_train_end(self, history: History) -> None:
        if self.file is None or self.model is None:
            return
        # A full disk may already have ended the training: that error takes precedence.
        failed = history.status == "failed"
        with suppress(RunWriteError) if failed else nullcontext(), writing(self.run.folder):
            self.file.close()
            self._save(self.model)
            self.run.config["status"] = history.status
            self.run.config["findings"] = [asdict(finding) for finding in history.findings]
            self.run.save_config()
            from fastcnn.training.curves import curves_png

            curves = curves_png(history)
            if curves is not None:
                atomic_write(self.run.folder / CURVES, curves)


class Saver:
    """Writes the checkpoints of a run: the latest state, and the weights of the best epoch.

    The best epoch has the best monitored value, ``larger`` or smaller; without validation data, the
    smallest training loss: test data are never used for selection.
    """

    def __init__(self, run: Run, monitor: str, larger: bool) -> None:
        self.monitor = monitor
        self.sign = -1.0 if larger else 1.0
        self.folder = run.folder
        self.metrics = run.folder / METRICS
        self.written = time.monotonic()
        self.best_loss = math.inf
        self.best: dict[str, np.ndarray] | None = None
        self.metadata: dict[str, str] = {}
        self._best_is_new = False

    def save_if_due(self, loop: "TrainingLoop", *, ends_epoch: bool) -> None:
        """Write a checkpoint, unless one was written recently."""
        if time.monotonic() - self.written >= (AFTER_EPOCH if ends_epoch else WITHIN_EPOCH):
            self.save(loop)

    def save(self, loop: "TrainingLoop") -> None:
        """Write a checkpoint, and the best weights if they are new.

        Raises RunWriteError if they cannot be written; the previous checkpoint is then untouched.
        """
        with writing(self.folder):
            # A checkpoint is useless without the records of the steps before it.
            with self.metrics.open("rb+") as file:
                os.fsync(file.fileno())
            state = {
                "loop": loop.state_dict(),
                "best_loss": self.best_loss,
                "best": self.best,
                "last_step": loop.history.steps[-1:],
            }
            atomic_write(self.folder / LAST, Checkpoint(state).to_bytes())
            self.save_best()
        self.written = time.monotonic()

    def save_best(self) -> None:
        """Write the best weights if they are new."""
        if self._best_is_new and self.best is not None:
            with writing(self.folder):
                atomic_write(self.folder / BEST, weights_to_bytes(self.best, self.metadata))
            self._best_is_new = False

    def note_epoch(self, record: dict[str, Any], model: Model) -> None:
        """Keep the weights of the best epoch."""
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
        """Restore a loop and its history from the last checkpoint.

        Raises CheckpointError if the checkpoint is damaged, of another model, or missing although
        steps were recorded, or if records before it are missing. The model is then unchanged.
        """
        path = self.folder / LAST
        if not path.exists() and not _has_records(self.metrics):
            return  # killed before its first step
        state = Checkpoint.read(path).state
        before = loop.model.copy_state()
        try:
            if state["best"] is not None:
                loop.model.load_state_dict(state["best"])  # checks that it matches
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
        except BaseException as error:
            loop.model.load_state_dict(before)
            if isinstance(error, UNFIT):
                raise CheckpointError(f"{path} does not match this run ({error})") from None
            raise
        # The run may have been killed between writing the two files.
        self._best_is_new = self.best is not None


def _has_records(metrics: Path) -> bool:
    try:
        return metrics.stat().st_size > 0
    except FileNotFoundError:
        return False


def restore_history(history: History, metrics: Path, steps: int, epochs: int) -> None:
    """Read back the records of a run's first steps and epochs, and discard later ones.

    Raises CheckpointError if records are missing.
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
