"""Training curves in TensorBoard (extra ``tensorboard``)."""

from pathlib import Path
from typing import Any

from fastcnn.extras import require
from fastcnn.files import expanded
from fastcnn.layers import Model
from fastcnn.training.callbacks import Callback, Steps, TrainingStart
from fastcnn.training.history import History, measured


class TensorBoard(Callback):
    """Writes losses, learning rates and accuracies as TensorBoard events.

    ``tensorboard --logdir FOLDER`` displays them; several runs in one folder are overlaid.

    Parameters
    ----------
    folder : path
        Folder of the event file.
    histograms : bool
        Whether to write the distribution of every parameter after each epoch.

    Raises
    ------
    MissingExtraError
        If tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path, histograms: bool = False) -> None:
        self.folder = expanded(folder)
        self.histograms = histograms
        self._module = require("tensorboardX", "tensorboard")
        self._writer: Any = None

    def on_train_begin(self, start: TrainingStart) -> None:
        """Open the event file."""
        self._writer = self._module.SummaryWriter(str(self.folder))

    def on_steps(self, steps: Steps) -> None:
        """Write the loss and learning rate of each step."""
        first = steps.step - len(steps.losses) + 1
        for index, (loss, lr) in enumerate(zip(steps.losses, steps.learning_rates, strict=True)):
            self._writer.add_scalar("step/loss", loss, first + index)
            self._writer.add_scalar("step/lr", lr, first + index)

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        """Write the epoch's metrics."""
        for name in measured(epoch):
            self._writer.add_scalar(name.replace("_", "/", 1), epoch[name], epoch["epoch"])
        self._writer.add_scalar("samples_per_second", epoch["samples_per_second"], epoch["epoch"])
        if self.histograms:
            for key, value in model.named_parameters().items():
                self._writer.add_histogram(key, value, epoch["epoch"])
        self._writer.flush()

    def on_train_end(self, history: History) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
