"""Figure of the report's wrong gradients."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.study.drawing import draw_legend, style_axes
from fastcnn.training.figure import new_figure

if TYPE_CHECKING:
    from fastcnn.study.wrong_gradients import Plan, WrongGradients

#: Okabe-Ito colours and widths by wrong formulas. A line that coincides with an earlier one leaves
#: its edges visible.
LINES: dict[tuple[str, ...], tuple[str, float]] = {
    (): ("#56B4E9", 5.0),
    ("relu",): ("#E69F00", 2.6),
    ("convolution",): ("#009E73", 1.2),
    ("sigmoid",): ("#D55E00", 1.2),
    ("convolution", "relu"): ("#CC79A7", 1.2),
    ("sigmoid", "convolution", "relu"): ("#CC79A7", 1.2),
}
NAMES = {
    (): "none: right",
    ("relu",): "relu",
    ("convolution",): "convolution",
    ("sigmoid",): "sigmoid",
    ("convolution", "relu"): "all together",
}


def loss_figure(
    result: "WrongGradients",
    plans: Mapping[str, "Plan"],
    smoothed: Callable[[np.ndarray], np.ndarray],
) -> Any:
    """Training loss over the steps, raw and smoothed, one panel per plan."""
    figure = new_figure(9.0, 5.6)
    panels = figure.subplots(2, 3, sharey=True)
    for axes, (name, plan) in zip(panels.ravel(), plans.items(), strict=True):
        axes.axhline(np.log(3), color="grey", linestyle=":", linewidth=1)
        for wrong, (colour, width) in LINES.items():
            if wrong not in plan.sets:
                continue
            losses = result.of(name, wrong)[0].losses
            if wrong:
                axes.plot(losses, color=colour, linewidth=0.5, alpha=0.3)
            smooth = smoothed(losses)
            axes.plot(
                np.arange(len(smooth)) + len(losses[np.isfinite(losses)]) - len(smooth),
                smooth,
                color=colour,
                linewidth=width,
                alpha=1.0 if wrong else 0.6,
            )
        axes.set_title(plan.name, loc="left", fontsize=9)
        axes.set_yscale("log")
        style_axes(axes)
    for axes in panels[:, 0]:
        axes.set_ylabel("cross-entropy (nats)", fontsize=9)
    figure.supxlabel("step", fontsize=9)
    shown = {
        name: {"color": LINES[key][0], "linewidth": LINES[key][1], "alpha": 1.0 if key else 0.6}
        for key, name in NAMES.items()
    }
    draw_legend(figure, shown, title="wrong gradients", title_fontsize=8)
    return figure
