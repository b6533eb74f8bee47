"""The figure of a sweep: the metric against each varied parameter."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.scalars import is_number
from fastcnn.training.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure
from fastcnn.training.sweeps import Trial

#: Number of values up to which each gets a tick.
MOST_TICKS = 6


def sweep_figure(trials: Sequence[Trial], parameters: Sequence[str], metric: str) -> Any:
    """One panel per parameter, one point per trial; the best trial is marked.

    Parameters
    ----------
    trials : sequence of Trial
        Best first, as returned by :func:`fastcnn.training.sweeps.rank`.
    parameters : sequence of str
        Settings to draw.
    """
    kept = [(trial, trial.kept) for trial in trials]
    shown = [(trial, epoch[metric]) for trial, epoch in kept if epoch and epoch[metric] is not None]
    done = [trial for trial, _ in shown]
    names = list(parameters)[:6] or ["number"]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3.6 * columns + 0.4, 3.0 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    values = [_error(value, metric) for _, value in shown]
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
    """The value drawn: the loss, or the error rate in percent, on a logarithmic scale.

    On a linear scale of accuracies, diverged trials would compress all others.
    """
    if metric.endswith("accuracy"):
        return max(100.0 * (1.0 - value), 1e-2)
    return max(value, 1e-8) if metric.endswith("loss") else value


def _positions(axes: Any, given: list[Any]) -> list[float]:
    """Positions on the axis: numbers at their values, names evenly spaced."""
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
