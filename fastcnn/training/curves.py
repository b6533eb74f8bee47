"""The curves of a run: losses and accuracies over its epochs."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.training.figure import TEST_COLOUR, TRAIN_COLOUR, VALIDATION_COLOUR
from fastcnn.training.line_chart import Line, Panel, draw_panels

if TYPE_CHECKING:
    from fastcnn.training.history import History

COLOURS = {"train": TRAIN_COLOUR, "validation": VALIDATION_COLOUR, "test": TEST_COLOUR}
#: Steps over which the training loss is smoothed.
SMOOTHED = 25


def curves_png(history: "History") -> bytes | None:
    """The curves of a run as PNG; None if it has no steps."""
    panels = curves(history)
    return draw_panels(panels, columns=2 if len(panels) > 1 else 1) if panels else None


def curves(history: "History") -> list[Panel]:
    """Loss and accuracy of training, validation and test data, as available.

    Training loss is drawn for every step (and smoothed), the others for every epoch.
    """
    panels = []
    if history.steps:
        unit = "epoch" if history.epochs else "step"
        first_epoch = sum(record["epoch"] == 1 for record in history.steps)
        lines = _steps(history, 1 if unit == "step" else max(1, first_epoch))
        panels.append(Panel("Training loss", history.loss_unit, lines, from_zero=True, x_name=unit))
    for parts, measure in (
        (("train",), "accuracy"),
        (("validation", "test"), "loss"),
        (("validation", "test"), "accuracy"),
    ):
        there = [part for part in parts if np.isfinite(_column(history, part, measure)).any()]
        if there:
            accuracy = measure == "accuracy"
            panels.append(
                Panel(
                    " and ".join(there).replace("train", "training").capitalize() + f" {measure}",
                    "%" if accuracy else history.loss_unit,
                    [_epochs(history, part, measure, named=len(there) > 1) for part in there],
                    most=100.0 if accuracy else math.inf,
                )
            )
    return panels


def _steps(history: "History", per_epoch: int) -> list[Line]:
    steps = np.array([record["step"] for record in history.steps]) / per_epoch
    losses = np.array([record["loss"] for record in history.steps])
    if len(losses) <= SMOOTHED:
        return [Line(steps, losses, TRAIN_COLOUR)]
    mean = Line(steps, smooth(losses), TRAIN_COLOUR, name=f"mean of {SMOOTHED} steps")
    return [Line(steps, losses, TRAIN_COLOUR, faint=True), mean]


def _epochs(history: "History", part: str, measure: str, named: bool) -> Line:
    scale = 100.0 if measure == "accuracy" else 1.0
    values = scale * _column(history, part, measure)
    known = np.isfinite(values)  # an epoch in which all targets are ignored has no accuracy
    values = values[known]
    return Line(
        np.array(history.column("epoch"), float)[known],
        values,
        COLOURS[part],
        name=part if named else "",
        markers=True,
        last=f"{values[-1]:.2f} %" if measure == "accuracy" else f"{values[-1]:.4f}",
    )


def _column(history: "History", part: str, measure: str) -> np.ndarray:
    """One value per epoch; NaN where missing."""
    return np.array([epoch.get(f"{part}_{measure}") for epoch in history.epochs], float)


def smooth(values: Sequence[float] | np.ndarray, window: int = SMOOTHED) -> np.ndarray:
    """Mean of the last ``window`` values at each position."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)
