"""Heat maps with their numbers written into the cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np


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
    """Draw cells coloured by ``values``; those that are NaN are left in the page's colour.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : ndarray, shape (rows, columns)
    texts : sequence of sequence of str
        What is written into the cells.
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
            # The luminance that text has to stand out from, as in ITU-R BT.601.
            red, green, blue, _ = picture.cmap(picture.norm(value))
            written["color"] = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
        axes.text(column, row, texts[row][column], **written)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labelsize=fontsize)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return picture
