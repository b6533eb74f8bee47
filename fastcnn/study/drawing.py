"""Common elements of the study's figures: colours, curves, heat maps and legends."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: One colour per layer, from input to output, of the Okabe-Ito palette, which is safe for
#: colour-blind readers, on light and dark backgrounds.
LAYER_COLOURS = {
    "conv1": "#0072B2",
    "conv2": "#56B4E9",
    "fc1": "#009E73",
    "fc2": "#E69F00",
    "fc3": "#D55E00",
}
#: A line through measured points.
MARKED = {"marker": "o", "markersize": 3, "linewidth": 1.4}


def style_axes(axes: Any) -> None:
    """A light grid, small tick labels, and no frame above and to the right."""
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_legend(place: Any, lines: Mapping[str, str | dict[str, Any]], **options: Any) -> None:
    """A legend of lines: for a figure in one row above all panels, for axes as in ``options``.

    A line is its colour, or the properties of a matplotlib line.
    """
    from matplotlib.lines import Line2D

    drawn = [
        Line2D([], [], label=name, **(line if isinstance(line, dict) else {"color": line}))
        for name, line in lines.items()
    ]
    placed = {"loc": "outside upper center", "ncols": len(drawn)} | options
    place.legend(handles=drawn, frameon=False, fontsize=8, **placed)


def draw_spread(
    axes: Any, x: Any, values: np.ndarray, colour: str, *, line: str = "-", band: bool = True
) -> None:
    """Means of ``values``, shape (points, seeds), and a band from minimum to maximum."""
    axes.plot(x, np.nanmean(values, axis=1), line, color=colour, **MARKED)
    if band:
        low, high = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def draw_heat_map(
    axes: Any,
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    span: tuple[float, float],
    cmap: str = "cividis",
    fontsize: float = 8.0,
) -> Any:
    """Draw cells coloured by ``values``; NaN cells keep the page's colour.

    Parameters
    ----------
    values : ndarray, shape (rows, columns)
    texts : sequence of sequence of str
        Texts in the cells.
    rows, columns : sequence of str
        Labels of the ticks.
    span : (float, float)
        Values of the first and last colour.

    Returns
    -------
    matplotlib.image.AxesImage
        For a colour bar.
    """
    shades = np.ma.masked_invalid(values)
    picture = axes.imshow(shades, cmap=cmap, vmin=span[0], vmax=span[1], aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        written: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": fontsize}
        if np.isfinite(value):
            # Luminance of the background of the text, by ITU-R BT.601.
            red, green, blue, _ = picture.cmap(picture.norm(value))
            written["color"] = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
        axes.text(column, row, texts[row][column], **written)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labelsize=fontsize)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return picture


def draw_bar(figure: Any, picture: Any, label: str, **place: Any) -> None:
    """The colour bar of a heat map."""
    bar = figure.colorbar(picture, **place)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
