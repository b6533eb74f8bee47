"""The picture of a run: the report's four curves."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.files import atomic_write

if TYPE_CHECKING:
    from fastcnn.training.history import History

# Two hues of the Okabe-Ito palette, which colour-blind readers can tell apart.
TRAIN_COLOUR, TEST_COLOUR = "#0072B2", "#D55E00"


def new_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """A figure without pyplot: importing that costs more than an epoch of training."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a figure as PNG, atomically."""
    atomic_write(path, png(figure))


def curves_figure(history: "History") -> Any:
    """Training loss and accuracy, test loss and accuracy, in a 2 x 2 figure.

    Without accuracy, where targets are not classes, the losses alone.
    Training loss is drawn for every step (and smoothed), the others for every epoch.
    """
    # Margins by hand: the layout engine takes longer than two epochs.
    columns = 2 if history.has_accuracy else 1
    figure = new_figure(4.5 * columns, 6.0, layout=None)
    figure.subplots_adjust(0.18 / columns, 0.085, 0.985, 0.945, wspace=0.2, hspace=0.36)
    grid = figure.subplots(2, columns, squeeze=False)
    train_loss = grid[0, 0]
    epochs = history.column("epoch")
    per_epoch = max(1, sum(record["epoch"] == 1 for record in history.steps))
    steps = np.array([record["step"] for record in history.steps]) / per_epoch
    losses = np.array([record["loss"] for record in history.steps])
    if len(losses):
        train_loss.plot(steps, losses, color=TRAIN_COLOUR, alpha=0.25, linewidth=0.7)
        train_loss.plot(steps, _smooth(losses), color=TRAIN_COLOUR, label="mean of 25 steps")
        train_loss.legend(frameon=False)
    panels = [
        (train_loss, "Training loss", None, history.loss_unit),
        (grid[1, 0], "Test loss", "test_loss", history.loss_unit),
    ]
    if history.has_accuracy:
        panels += [
            (grid[0, 1], "Training accuracy", "train_accuracy", "accuracy (%)"),
            (grid[1, 1], "Test accuracy", "test_accuracy", "accuracy (%)"),
        ]
    for axes, title, name, unit in panels:
        if name is not None and epochs and history.final.get(name) is not None:
            scale = 100.0 if name.endswith("accuracy") else 1.0
            values = [scale * value for value in history.column(name)]
            colour = TRAIN_COLOUR if name.startswith("train") else TEST_COLOUR
            axes.plot(epochs, values, color=colour, marker="o", markersize=4)
            text = f"{values[-1]:.2f} %" if scale == 100.0 else f"{values[-1]:.4f}"
            axes.annotate(
                text,
                (epochs[-1], values[-1]),
                xytext=(0, -16),
                textcoords="offset points",
                ha="right",
                color=colour,
            )
            axes.margins(y=0.2)
        # At a place of its own: looking for a free one takes a tenth of the drawing.
        axes.set_title(title, loc="left", fontsize=11, y=1.0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    train_loss.set_ylim(bottom=0.0)
    return figure


def _smooth(values: np.ndarray, window: int = 25) -> np.ndarray:
    """Mean of the last ``window`` values at each position."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)
