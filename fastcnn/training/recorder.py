"""What fills the folder of a run during training."""

import json
import time
from contextlib import nullcontext, suppress
from dataclasses import asdict
from typing import Any, TextIO

from fastcnn.errors import RunWriteError
from fastcnn.files import atomic_write
from fastcnn.layers import Model
from fastcnn.training.callbacks import Callback, Steps, TrainingStart
from fastcnn.training.history import History
from fastcnn.training.run import CURVES, EPOCHS, METRICS, Run
from fastcnn.training.saver import AFTER_EPOCH, writing


class Recorder(Callback):
    """Fills a run's folder during training."""

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
        first = steps.step - len(steps.losses) + 1
        records = []
        for index, (loss, lr) in enumerate(zip(steps.losses, steps.learning_rates, strict=True)):
            record = {
                "kind": "step",
                "epoch": steps.epoch,
                "step": first + index,
                "loss": loss,
                "lr": lr,
            }
            records.append(record)
        self._append(records)

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        self._append([epoch])
        if time.monotonic() - self.saved >= AFTER_EPOCH:
            with writing(self.run.folder):
                self._save(model)

    def _append(self, records: list[dict[str, Any]]) -> None:
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
        # The disk that is full now may be what has ended the training: that error counts.
        failed = history.status == "failed"
        with suppress(RunWriteError) if failed else nullcontext(), writing(self.run.folder):
            self._finish(history)

    def _finish(self, history: History) -> None:
        assert self.file is not None
        assert self.model is not None
        self.file.close()
        self._save(self.model)
        self.run.config["status"] = history.status
        self.run.config["findings"] = [asdict(finding) for finding in history.findings]
        self.run.save_config()
        from fastcnn.training.curves import curves_png

        curves = curves_png(history)
        if curves is not None:
            atomic_write(self.run.folder / CURVES, curves)
