"""The picture of a sweep: the metric against every parameter that was varied."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.scalars import is_number
from fastcnn.training.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure
from fastcnn.training.sweep import Trial

#: Values of a parameter up to which each one has its tick.
MOST_TICKS = 6


def sweep_figure(trials: Sequence[Trial], parameters: Sequence[str], metric: str) -> Any:
    """One panel a parameter, one point a trial; the best trial is marked.

    Parameters
    ----------
    trials : sequence of Trial
        Best first, as :func:`fastcnn.training.sweep.rank` gives them.
    parameters : sequence of str
        Settings to draw.
    """
    done = [
        trial
        for trial in trials
        if trial.status == "finished" and trial.epochs and trial.epochs[-1][metric] is not None
    ]
    names = list(parameters)[:6] or ["number"]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3.6 * columns + 0.4, 3.0 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    values = [_error(trial.epochs[-1][metric], metric) for trial in done]
    for axes, name in zip(panels, names, strict=False):
        given = [trial.settings.get(name, trial.number) for trial in done]
        positions = _positions(axes, given)
        axes.scatter(positions, values, s=22, color=TRAIN_COLOUR, alpha=0.7, linewidths=0)
        if done:
            axes.scatter(positions[:1], values[:1], s=60, color=TEST_COLOUR, zorder=3, label="best")
        axes.set_xlabel("trial" if name == "number" else name)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes in panels[::columns]:
        axes.set_ylabel(
            f"{metric.split('_')[0]} error (%)"
            if metric.endswith("accuracy")
            else metric.replace("_", " ")
        )
        if metric.endswith(("accuracy", "loss")):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            # Within a decade there may be no other ticks than the minor ones.
            narrow = bool(values) and max(values) < 10 * min(values)
            axes.yaxis.set_minor_formatter("{x:g}" if narrow else "")
    if done:
        panels[0].legend(frameon=False)
    return figure


def _error(value: float, metric: str) -> float:
    """What is drawn: the loss, or the share of errors in per cent, on a logarithmic scale.

    On a linear scale of accuracies, trainings that diverged would press all others together.
    """
    if metric.endswith("accuracy"):
        return max(100.0 * (1.0 - value), 1e-2)
    return max(value, 1e-8) if metric.endswith("loss") else value


def _positions(axes: Any, given: list[Any]) -> list[float]:
    """Places on the axis: numbers as they are, names in a row."""
    if not all(map(is_number, given)):
        names = sorted({str(value) for value in given})
        axes.set_xticks(range(len(names)), names)
        axes.margins(x=0.2)
        return [float(names.index(str(value))) for value in given]
    numbers = np.array(given, dtype=float)
    if len(numbers) and numbers.min() > 0 and numbers.max() / numbers.min() >= 10:
        axes.set_xscale("log")
    tried = np.unique(numbers)
    if len(tried) <= MOST_TICKS:
        axes.set_xticks(tried, [f"{value:g}" for value in tried])
        axes.minorticks_off()
    return numbers.tolist()
