"""Progress of training: a live bar on a terminal, otherwise one line per epoch."""

import math
from typing import TYPE_CHECKING, Any

from fastcnn.layers import Model
from fastcnn.training.callbacks import Callback, Steps, TrainingStart
from fastcnn.training.history import History
from fastcnn.training.metrics import ALWAYS

if TYPE_CHECKING:
    from rich.console import Console


class PlainLines(Callback):
    """One line per epoch."""

    def __init__(self, console: "Console") -> None:
        self.console = console
        self.epochs = 0

    def on_train_begin(self, start: TrainingStart) -> None:
        """Store the number of epochs."""
        self.epochs = start.epochs

    def on_epoch_end(self, epoch: dict[str, Any], model: Model) -> None:
        """Print the epoch."""
        self.console.print(describe_epoch(epoch, self.epochs), soft_wrap=True)

    def on_train_end(self, history: History) -> None:
        """Print why training ended early."""
        if history.stop_reason is not None:
            whole = not self.console.is_terminal
            self.console.print(f"stopped early: {history.stop_reason}", soft_wrap=whole)


class ProgressBar(PlainLines):
    """A bar with loss, accuracy, samples per second and remaining time, below the epochs."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(console)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[measured]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.samples = 0

    def on_train_begin(self, start: TrainingStart) -> None:
        """Show the bar."""
        super().on_train_begin(start)
        self.samples = start.samples
        self.task = self.progress.add_task(
            "train", total=start.epochs * start.samples, epoch=1, measured="first steps"
        )
        self.progress.start()

    def on_steps(self, steps: Steps) -> None:
        """Move the bar."""
        self.progress.update(
            self.task,
            completed=(steps.epoch - 1) * self.samples + steps.samples,
            epoch=steps.epoch,
            measured=f"loss {steps.mean_loss:.4f}{_accuracy(steps.accuracy)} "
            f"{steps.samples_per_second:,.0f} samples/s",
        )

    def on_train_end(self, history: History) -> None:
        """Remove the bar."""
        self.progress.stop()
        super().on_train_end(history)


def progress_callback(console: "Console | None" = None) -> Callback:
    """A progress callback for a console: a bar on a terminal or in a notebook, or else lines."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False) if console is None else console
    live = console.is_terminal or console.is_jupyter
    return ProgressBar(console) if live else PlainLines(console)


def _accuracy(value: float) -> str:
    """The accuracy as text; empty if targets are values."""
    return "" if math.isnan(value) else f" accuracy {100 * value:.2f} %"


def describe_epoch(epoch: dict[str, Any], epochs: int) -> str:
    """A line about an epoch that fits in 80 columns, and one of its metrics if there are any.

    It has the loss and, if available, the accuracy of each part of the data.
    """
    parts = [
        (name, epoch[f"{name}_loss"], epoch[f"{name}_accuracy"])
        for name in ("train", "validation", "test")
        if epoch.get(f"{name}_loss") is not None
    ]
    crowded = len(parts) == 3
    words = []
    for name, loss, accuracy in parts:
        number = f"{name[:5]} {'' if crowded else 'loss '}{_as_wide(loss, 4, 6)}"
        if accuracy is not None:
            number += f"{'' if crowded else ','} {_as_wide(100 * accuracy, 2, 5)} %"
        words.append(number)
    start = f"epoch {epoch['epoch']:>{len(str(epochs))}}/{epochs}  "
    line = start + "  ".join(words)
    line = line if crowded else f"{line}  {epoch['seconds']:.2f} s"
    measured = [(name, values) for name, _, _ in parts[1:] if (values := metrics_of(epoch, name))]
    lines = [
        " " * len(start) + f"{name[:5]} " + "  ".join(f"{k} {v}" for k, v in values.items())
        for name, values in measured
    ]
    return "\n".join([line, *lines])


def metrics_of(epoch: dict[str, Any], part: str) -> dict[str, str]:
    """An epoch's metrics of a part of the data other than loss and accuracy, as text."""
    found = {}
    for key, value in epoch.items():
        name = key.removeprefix(f"{part}_")
        if name not in (key, *ALWAYS):
            found[name] = "none" if value is None else _as_wide(value, 4, 6)
    return found


def _as_wide(value: float, decimals: int, width: int) -> str:
    """A number with this many decimals, or fewer to fit the width."""
    text = f"{value:.{decimals}f}"
    return f"{value:.{max(0, decimals - len(text) + width)}f}" if len(text) > width else text
