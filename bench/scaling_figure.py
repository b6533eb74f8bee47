"""The figure of scaling: cost and memory along each axis."""

from collections.abc import Sequence
from typing import Any

from bench.scaling import ScalingResult
from fastcnn.training.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure

COLUMNS = 3


def scaling_figure(results: Sequence[ScalingResult]) -> Any:
    """For each axis the cost per unit of work, and the memory below it.

    Cost is relative to the axis's lowest, so 1 is the best; rising points are orange.
    """
    columns = min(COLUMNS, len(results))
    rows = -(-len(results) // columns)
    figure = new_figure(3.4 * columns + 0.2, 4.6 * rows)
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in panels.ravel():
        axes.set_axis_off()
    for index, result in enumerate(results):
        row, column = 2 * (index // columns), index % columns
        _draw_cost(panels[row, column], result)
        _draw_memory(panels[row + 1, column], result)
    return figure


def _draw_cost(axes: Any, result: ScalingResult) -> None:
    _prepare(axes, result)
    least = min(point.cost for point in result.points)
    relative = [point.cost / least for point in result.points]
    values = [point.value for point in result.points]
    axes.plot(values, relative, color=TRAIN_COLOUR, linewidth=1.2)
    for point, height in zip(result.points, relative, strict=True):
        below = height * (1 - point.low / point.seconds)
        above = height * (point.high / point.seconds - 1)
        colour = TEST_COLOUR if point.flagged else TRAIN_COLOUR
        axes.errorbar(
            point.value,
            height,
            [[below], [above]],
            color=colour,
            marker="o",
            markersize=4,
            capsize=2,
        )
    axes.set_title(result.title.replace(", ", ",\n", 1), fontsize=8, loc="left")
    axes.set_ylabel(f"cost a {result.unit},\nlowest = 1", fontsize=8)
    if max(relative) > 4:
        axes.set_yscale("log")
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if tick <= 2 * max(relative)]
        axes.set_yticks(ticks, [str(tick) for tick in ticks], fontsize=7)
        axes.minorticks_off()
    axes.set_ylim(0.9, max(1.6, 1.1 * max(relative)))


def _draw_memory(axes: Any, result: ScalingResult) -> None:
    _prepare(axes, result)
    values = [point.value for point in result.points]
    mebibytes = [point.memory / 2**20 for point in result.points]
    axes.plot(values, mebibytes, color=TRAIN_COLOUR, marker="o", markersize=4, linewidth=1.2)
    axes.set_ylabel("MiB for engine and step", fontsize=8)
    axes.set_xlabel(result.axis, fontsize=8)
    axes.set_ylim(bottom=0.0)


def _prepare(axes: Any, result: ScalingResult) -> None:
    axes.set_axis_on()
    axes.set_xscale("log", base=2)
    values = [point.value for point in result.points]
    axes.set_xticks(values, [str(value) for value in values], fontsize=6)
    axes.minorticks_off()
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.tick_params(axis="y", labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
