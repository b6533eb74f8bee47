"""Figures of benchmark results."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastcnn.benchmark.ladder import RUNGS, named, percent
from fastcnn.benchmark.results import Result, short
from fastcnn.training.figure import THEMES, new_figure, save_figure, theme

#: Hues of the Okabe-Ito palette, which is safe for colour-blind readers.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
COLOURS = {"reference": GREY, "im2col": GREEN, "lanes": BLUE}


def write_figures(results: Iterable[Result], folder: Path) -> list[Path]:
    """Draw the figures for which there are results; returns the files."""
    suites: dict[str, list[Result]] = {}
    for result in results:
        suites.setdefault(result.suite, []).append(result)
    drawn = []
    for suite, draw in (("backward", backward_figure), ("step", step_figure)):
        if suite in suites:
            drawn.append(folder / f"{suite}.png")
            save_figure(draw(suites[suite]), drawn[-1])
    for name in THEMES if "ladder" in suites else ():
        drawn.append(folder / f"ladder-{name}.png")
        with theme(name):
            save_figure(ladder_figure(suites["ladder"]), drawn[-1])
    return drawn


def ladder_figure(results: list[Result]) -> Any:
    """A slide: the time of each rung of the ladder, and what changed from the previous one."""
    timed = [result for result in results if result.rounds]
    figure = new_figure(12.0, 6.75)
    axes = figure.subplots()
    low, high = min(row.median for row in timed), max(row.median for row in timed)
    for place, row in enumerate(timed):
        is_engine = row.contestant == RUNGS[-1].name
        axes.barh(place, row.median, height=0.34, color=BLUE if is_engine else GREY)
        faster = f"{row.ratio:,.0f} times as fast, " if row.ratio and row.ratio > 1.0 else ""
        text = f"  {short(row.median)} µs   {faster}{percent(row.share or 0.0)} of peak"
        axes.text(row.median, place, text, va="center", fontsize=13)
        change = "on all cores" if row.threads > 1 else row.note
        said = "\n".join(textwrap.wrap(change, 110))
        axes.text(low / 1.9, place + 0.22, said, va="top", fontsize=10, alpha=0.75)
    axes.set_yticks(range(len(timed)), [named(row) for row in timed], fontsize=14)
    axes.set_ylim(len(timed) - 0.3, -0.4)
    axes.set_xscale("log")
    axes.set_xlim(low / 2, high * 100)
    axes.set_xlabel("microseconds a sample", fontsize=12)
    axes.set_title(
        f"From loops to the engine, on one thread\n{timed[0].work}, batch {timed[0].batch}",
        loc="left",
        fontsize=14,
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def backward_figure(results: list[Result]) -> Any:
    """Speed-up of each backward pass over nested loops, on a logarithmic scale."""
    works = list(dict.fromkeys((result.work, result.batch) for result in results))
    figure = new_figure(9.0, 0.3 * len(works) + 1.3)
    axes = figure.subplots()
    for backend in ("im2col", "lanes"):
        points = {
            (result.work, result.batch): result.ratio
            for result in results
            if result.contestant == backend
        }
        axes.plot(
            [points.get(work) for work in works],
            range(len(works)),
            "o",
            color=COLOURS[backend],
            label=backend,
            markersize=5,
        )
    axes.set_yticks(
        range(len(works)), [f"{work}, batch {batch}" for work, batch in works], fontsize=7
    )
    axes.set_ylim(len(works) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlabel("times faster than nested loops, for one sample")
    axes.grid(alpha=0.25, axis="x")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def step_figure(results: list[Result]) -> Any:
    """Time of a training step: the best of each contestant, for each network.

    Without the nested loops, which would dwarf all other bars.
    """
    results = [result for result in results if result.contestant != "reference"]
    panels = list(dict.fromkeys((result.work, result.batch) for result in results))
    figure = new_figure(9.0, 1.5 * len(panels) + 0.6)
    for axes, (work, batch) in zip(
        figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True
    ):
        best: dict[str, float] = {}
        for result in results:
            if (result.work, result.batch) == (work, batch) and result.median == result.median:
                name = result.contestant
                best[name] = min(result.median, best.get(name, float("inf")))
        names = sorted(best, key=best.__getitem__)
        axes.barh(
            names,
            [best[name] for name in names],
            color=[COLOURS.get(name, ORANGE) for name in names],
        )
        axes.invert_yaxis()
        for place, name in enumerate(names):
            number = f"{best[name]:,.0f}" if best[name] >= 100 else f"{best[name]:.3g}"
            axes.text(best[name], place, f" {number}", va="center", fontsize=8)
        axes.set_title(
            f"{work}, batch {batch}: us a sample of a training step", fontsize=9, loc="left"
        )
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
