"""How lines of the report's layers are drawn: one colour a layer, from input to output."""

from collections.abc import Mapping
from typing import Any

#: Okabe-Ito colours, which colour-blind readers can tell apart, on light and dark ground.
LAYER_COLOURS = {
    "conv1": "#0072B2",
    "conv2": "#56B4E9",
    "fc1": "#009E73",
    "fc2": "#E69F00",
    "fc3": "#D55E00",
}


def style_axes(axes: Any) -> None:
    """A light grid, small numbers, and no frame above and to the right."""
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_legend(place: Any, colours: Mapping[str, str], **options: Any) -> None:
    """Names of lines: of a figure in one row above all panels, of axes where ``options`` say."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    placed = {"loc": "outside upper center", "ncols": len(lines)} | options
    place.legend(handles=lines, frameon=False, fontsize=8, **placed)
