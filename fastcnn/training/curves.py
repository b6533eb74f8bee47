"""The picture of a run: losses and accuracies over its epochs."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.training.figure import TEST_COLOUR, TRAIN_COLOUR
from fastcnn.training.line_chart import Line, Panel, draw_panels

if TYPE_CHECKING:
    from fastcnn.training.history import History

#: Steps over which the training loss is smoothed.
SMOOTHED = 25


def curves_png(history: "History") -> bytes | None:
    """The curves of a run as PNG; None if it took no step.

    Parameters
    ----------
    history : History

    Returns
    -------
    bytes or None
    """
    panels = curves(history)
    return draw_panels(panels, columns=2 if len(panels) > 1 else 1) if panels else None


def curves(history: "History") -> list[Panel]:
    """Training loss and accuracy, test loss and accuracy: those that there are.

    Training loss is drawn for every step (and smoothed), the others for every epoch.
    """
    panels = []
    if history.steps:
        unit = "epoch" if history.epochs else "step"
        lines = _steps(history, 1 if unit == "step" else _per_epoch(history))
        panels.append(Panel("Training loss", history.loss_unit, lines, from_zero=True, x_name=unit))
    for name, title in (
        ("train_accuracy", "Training accuracy"),
        ("validation_loss", "Validation loss"),
        ("validation_accuracy", "Validation accuracy"),
        ("test_loss", "Test loss"),
        ("test_accuracy", "Test accuracy"),
    ):
        if history.final.get(name) is not None:
            accuracy = name.endswith("accuracy")
            unit = "accuracy (%)" if accuracy else history.loss_unit
            line = _epochs(history, name, 100.0 if accuracy else 1.0)
            panels.append(Panel(title, unit, [line], most=100.0 if accuracy else math.inf))
    return panels


def _per_epoch(history: "History") -> int:
    return max(1, sum(record["epoch"] == 1 for record in history.steps))


def _steps(history: "History", per_epoch: int) -> list[Line]:
    steps = np.array([record["step"] for record in history.steps]) / per_epoch
    losses = np.array([record["loss"] for record in history.steps])
    if len(losses) <= SMOOTHED:
        return [Line(steps, losses, TRAIN_COLOUR)]
    mean = Line(steps, smooth(losses), TRAIN_COLOUR, name=f"mean of {SMOOTHED} steps")
    return [Line(steps, losses, TRAIN_COLOUR, faint=True), mean]


def _epochs(history: "History", name: str, scale: float) -> Line:
    values = scale * np.array(history.column(name), float)
    last = f"{values[-1]:.2f} %" if scale != 1.0 else f"{values[-1]:.4f}"
    colour = TRAIN_COLOUR if name.startswith("train") else TEST_COLOUR
    return Line(np.array(history.column("epoch"), float), values, colour, markers=True, last=last)


def smooth(values: Sequence[float] | np.ndarray, window: int = SMOOTHED) -> np.ndarray:
    """Mean of the last ``window`` values at each position."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)
