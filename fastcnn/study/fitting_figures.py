"""Figures of underfitting and overfitting."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.study.heat_map import draw_heat_map
from fastcnn.study.layer_lines import LAYER_COLOURS, draw_legend, style_axes
from fastcnn.study.networks import NAMES, REPORT_LR
from fastcnn.training.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure

if TYPE_CHECKING:
    from fastcnn.study.overfitting import OverfittingResult
    from fastcnn.study.underfitting import UnderfittingResult

#: Where weights usually move well: about a thousandth of themselves a step.
HEALTHY_RATIO = 1e-3
#: Losses below this, of single precision's last digits, are drawn here.
LEAST_LOSS = 2e-7
VARIANT_NAMES = {
    "cnn": "CNN",
    "dropout": "CNN, dropout",
    "decay": "CNN, weight decay",
    "augment": "CNN, augmentation",
    "dense": "fully connected",
}
VARIANT_COLOURS = {
    "cnn": "#0072B2",
    "dropout": "#E69F00",
    "decay": "#CC79A7",
    "augment": "#009E73",
    "dense": "#D55E00",
}


def plateau_figure(result: "UnderfittingResult") -> Any:
    """Training loss at the end over standard deviation and learning rate, one panel a network."""
    figure = new_figure(9.0, 4.9)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, name in zip(panels, result.activations, strict=True):
        cells = [[(name, std, lr) for std in result.deviations] for lr in result.learning_rates]
        losses = np.array([[result.final_loss(cell) for cell in row] for row in cells])
        texts = [[_cell(result, cell) for cell in row] for row in cells]
        picture = draw_heat_map(
            axes,
            losses,
            texts,
            [f"{lr:g}" for lr in result.learning_rates],
            [_power(std) for std in result.deviations],
            span=(0.0, 1.2),
            cmap="cividis_r",
        )
        axes.set_title(f"FC {NAMES[name]}", loc="left", fontsize=9)
        axes.set_ylabel("learning rate", fontsize=9)
    panels[1].set_xlabel("standard deviation of the initial weights and biases", fontsize=9)
    bar = figure.colorbar(picture, ax=panels, extend="max", aspect=30, fraction=0.04)
    bar.set_label("training loss at the end (nats)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def start_figure(result: "UnderfittingResult") -> Any:
    """Gradient norms and relative updates of each layer before the first step."""
    figure = new_figure(9.0, 5.6)
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, name in enumerate(result.activations):
        upper, lower = panels[:, column]
        for layer, colour in LAYER_COLOURS.items():
            gradients = result.gradients(name, layer)
            ratios = REPORT_LR * gradients / result.weights(name, layer)
            for axes, values in ((upper, gradients), (lower, ratios)):
                axes.loglog(
                    result.deviations,
                    np.where(values > 0.0, values, np.nan),
                    color=colour,
                    marker="o",
                    markersize=3,
                    linewidth=1.4,
                )
        upper.set_title(f"FC {NAMES[name]}", loc="left", fontsize=9)
        upper.axhline(1e-5, color="gray", linestyle=":", linewidth=1)
        lower.axhline(HEALTHY_RATIO, color="gray", linestyle=":", linewidth=1)
        for axes in (upper, lower):
            style_axes(axes)
            axes.minorticks_off()
    panels[0, 0].annotate(
        "the report's 1e-5",
        (1.0, 1e-5),
        (-4, -11),
        ha="right",
        fontsize=8,
        textcoords="offset points",
        color="gray",
    )
    panels[1, 0].annotate(
        "a healthy 1e-3",
        (1e-5, HEALTHY_RATIO),
        (0, 4),
        fontsize=8,
        textcoords="offset points",
        color="gray",
    )
    panels[0, 0].set_ylabel("norm of the weight gradient", fontsize=9)
    panels[1, 0].set_ylabel(f"update / weight at lr {REPORT_LR:g}", fontsize=9)
    for axes in panels[1]:
        axes.set_xlabel("standard deviation of the initial weights", fontsize=9)
    draw_legend(figure, LAYER_COLOURS)
    return figure


def gap_figure(result: "OverfittingResult") -> Any:
    """Training and test loss, and test error, over the number of training images."""
    figure = new_figure(9.0, 5.4)
    panels = figure.subplots(2, 3).ravel()
    for axes, (variant, name) in zip(panels, VARIANT_NAMES.items(), strict=False):
        for split, colour in (("train", TRAIN_COLOUR), ("test", TEST_COLOUR)):
            losses = np.maximum(result.final(variant, f"{split}_loss"), LEAST_LOSS)
            draw_spread(axes, result.sizes, losses, colour)
        axes.set_title(name, loc="left", fontsize=9)
        axes.set_yscale("log")
        axes.set_ylim(1e-7, 2.0)
    errors = panels[5]
    for variant, colour in VARIANT_COLOURS.items():
        draw_spread(errors, result.sizes, result.errors(variant), colour, band=False)
    errors.set_yscale("log")
    errors.set_title("test errors (%)", loc="left", fontsize=9)
    for axes in panels:
        axes.set_xscale("log")
        style_axes(axes)
        axes.minorticks_off()
    low, high = errors.get_ylim()
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 5, 10, 20) if low < tick < high]
    errors.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    draw_legend(
        panels[0], {"training": TRAIN_COLOUR, "test": TEST_COLOUR}, loc="lower right", ncols=1
    )
    draw_legend(
        errors,
        {VARIANT_NAMES[key]: colour for key, colour in VARIANT_COLOURS.items()},
        loc="upper right",
        ncols=1,
    )
    for axes in (panels[0], panels[3]):
        axes.set_ylabel("cross-entropy (nats)", fontsize=9)
    figure.supxlabel("training images", fontsize=9)
    return figure


def draw_spread(axes: Any, x: Any, values: np.ndarray, colour: str, *, band: bool = True) -> None:
    """The mean over the seeds, and a band from the least to the largest."""
    axes.plot(x, values.mean(axis=1), color=colour, marker="o", markersize=3, linewidth=1.4)
    if band:
        axes.fill_between(
            x, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, linewidth=0
        )


def _cell(result: "UnderfittingResult", key: tuple[str, float, float]) -> str:
    if result.grid[key].diverged:
        return "×"
    left = result.left_at(key)
    return "–" if left is None else str(left)


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")
