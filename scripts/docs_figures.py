"""Draw the figures of the documentation: ``.venv/bin/python scripts/docs_figures.py``."""

from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn.codegen.simd import LANES
from fastcnn.data import Augment
from fastcnn.training.figure import new_figure, save_figure

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#dddddd"


def layout_figure() -> Any:
    """Sixteen images in memory, and the same pixel of all of them as a vector."""
    figure = new_figure(9.0, 3.2)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    for sample in range(LANES):
        x, y = 3.8 * (sample % 4), -3.8 * (sample // 4)
        for pixel in range(9):
            _box(left, x + pixel % 3, y - pixel // 3, 0.94, 0.94, BLUE if pixel == 4 else GREY)
        left.text(
            x + 1.47, y - 0.53, str(sample), color="white", fontsize=7, ha="center", va="center"
        )
    left.text(-0.2, 2.1, "as stored: 16 images, one after the other", fontsize=10)
    for row in range(3):
        for lane in range(LANES):
            filled = row == 1
            _box(right, lane, -row * 1.6, 0.92, 0.92, BLUE if filled else GREY)
            if filled:
                right.text(
                    lane + 0.46,
                    -row * 1.6 + 0.46,
                    str(lane),
                    color="white",
                    fontsize=8,
                    ha="center",
                    va="center",
                )
        right.text(-0.4, -row * 1.6 + 0.46, f"pixel {row + 3}", ha="right", va="center", fontsize=9)
    right.set_title("in lanes: a pixel of 16 samples is one vector", fontsize=10, loc="left")
    right.text(
        8, -4.2, "one AVX-512 register, two of AVX2, or four of NEON", ha="center", fontsize=9
    )
    _frame(left, (-0.3, 14.6), (-13.8, 3.4))
    _frame(right, (-3, 16.5), (-4.8, 1.6))
    return figure


def tile_figure() -> Any:
    """The convolution's register tile: 4 channels by 4 pixels."""
    figure = new_figure(8.0, 3.4)
    axes = figure.subplots()
    for pixel in range(4):
        _box(axes, 5 + 1.5 * pixel, 4.2, 1.3, 0.7, ORANGE)
        axes.text(5.65 + 1.5 * pixel, 4.55, f"x[{pixel}]", color="white", ha="center", va="center")
    for channel in range(4):
        _box(axes, 2.6, 3 - 0.9 * channel, 1.3, 0.7, GREEN)
        axes.text(
            3.25, 3.35 - 0.9 * channel, f"w[{channel}]", color="white", ha="center", va="center"
        )
        for pixel in range(4):
            _box(axes, 5 + 1.5 * pixel, 3 - 0.9 * channel, 1.3, 0.7, BLUE)
            axes.text(
                5.65 + 1.5 * pixel,
                3.35 - 0.9 * channel,
                "+= w x",
                color="white",
                ha="center",
                va="center",
                fontsize=9,
            )
    axes.text(5, 5.15, "4 neighbouring pixels: 4 vectors of 16 samples", fontsize=9)
    axes.text(
        2.4,
        1.65,
        "4 output\nchannels:\none number\neach, in\nall lanes",
        fontsize=9,
        ha="right",
        va="center",
    )
    axes.text(5, -0.35, "16 sums stay in registers while all taps pass by", fontsize=9)
    _frame(axes, (0, 11.4), (-0.7, 5.6))
    return figure


def program_figure() -> Any:
    """The program of the report's network, phase by phase."""
    program = fastcnn.plan(fastcnn.models.report_cnn(seed=0), 64, threads=2)
    lines = sum(last - first for first, last, _ in program.phases)
    figure = new_figure(8.6, 0.24 * lines + 0.14 * len(program.phases) + 0.9)
    axes = figure.subplots()
    y = 0.0
    for number, (first, last, whole) in enumerate(program.phases, start=1):
        height = float(last - first)
        colour = ORANGE if whole else BLUE
        _box(axes, 0.0, y - height, 0.35, height, colour)
        kind = "whole batch, shared out" if whole else "each thread: block after block"
        axes.text(0.55, y - height / 2, f"{number}", ha="left", va="center", fontsize=9)
        axes.text(8.6, y - height / 2, kind, va="center", fontsize=8, color=colour)
        for place, name in enumerate(program.names[first:last]):
            axes.text(1.3, y - place - 0.5, name, va="center", fontsize=9)
        y -= height + 0.45
    axes.set_title(
        "One training step of the report's network, batch 64: "
        f"{len(program.names)} rows in {len(program.phases)} phases",
        fontsize=10,
        loc="left",
    )
    _frame(axes, (-0.2, 12.5), (y, 0.3), equal=False)
    return figure


def augment_figure() -> Any:
    """Drawn digits as stored, and with random augmentation."""
    images, labels = fastcnn.data.draw_digits(200, seed=3)
    chosen = [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]
    rows: dict[str, Augment] = {
        "as stored": Augment(),
        "shift=3": Augment(shift=3),
        "rotation=20, scale=0.2": Augment(rotation=20, scale=0.2),
        "elastic=1.2": Augment(elastic=1.2),
        "cutout=8": Augment(cutout=8),
        "all of them": Augment(shift=3, rotation=20, scale=0.2, elastic=1.2, cutout=8),
    }
    figure = new_figure(8.6, 0.68 * len(rows))
    axes = figure.subplots(len(rows), 1)
    for line, (name, augment) in zip(axes, rows.items(), strict=True):
        strip = np.concatenate(list(augment.apply(images, chosen)[:, 0]), axis=1)
        line.imshow(strip, cmap="gray", aspect="equal", interpolation="nearest")
        line.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        line.set_xticks([])
        line.set_yticks([])
    return figure


def _box(
    axes: Any, x: float, y: float, width: float, height: float, face: str, edge: str = "white"
) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), width, height, facecolor=face, edgecolor=edge))


def _frame(axes: Any, x: tuple[float, float], y: tuple[float, float], equal: bool = True) -> None:
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    if equal:
        axes.set_aspect("equal")
    axes.set_axis_off()


def main() -> None:
    """Write the figures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, draw in (
        ("lanes.png", layout_figure),
        ("tile.png", tile_figure),
        ("program.png", program_figure),
        ("augment.png", augment_figure),
    ):
        save_figure(draw(), IMAGES / name)


if __name__ == "__main__":
    main()
