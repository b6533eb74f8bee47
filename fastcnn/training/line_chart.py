"""Line charts drawn with Pillow, for the curves written at the end of every run.

Importing matplotlib and drawing four panels takes 0.35 s, longer than five epochs of the report's
network; this takes 0.08 s. Figures drawn on request use matplotlib.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageDraw

#: Size of a panel in pixels, and its margins: left, top, right, bottom.
WIDTH, HEIGHT = 540, 360
LEFT, TOP, RIGHT, BOTTOM = 68, 52, 76, 50
#: Lines with more points than this have no markers, which would merge.
MOST_MARKERS = 30
#: Pixels between the centres of two lines of small text.
APART = 16
#: Supersampling factor for anti-aliased lines.
FINER = 3
INK, GREY, GRID = "#222222", "#666666", "#E3E3E3"


@dataclass(frozen=True)
class Line:
    """A line of a panel.

    Attributes
    ----------
    x, y : ndarray, shape (N,)
        Finite numbers; ``x`` is increasing.
    colour : str
        As ``#RRGGBB``.
    name : str
        For the panel's legend; "" for none.
    faint : bool
        Whether the line is thin and pale.
    markers : bool
        Whether each point is marked.
    last : str
        Label to the right of the last point.
    """

    x: np.ndarray
    y: np.ndarray
    colour: str
    name: str = ""
    faint: bool = False
    markers: bool = False
    last: str = ""


@dataclass(frozen=True)
class Panel:
    """Two axes with lines.

    Attributes
    ----------
    title, unit : str
        Shown above the panel, the unit in grey.
    lines : sequence of Line
    from_zero : bool
        Whether the vertical axis starts at 0.
    most : float
        The largest possible value, such as 100 for percentages: the axis has no tick above it.
    x_name : str
        The name of the horizontal axis, whose ticks are integers.
    """

    title: str
    unit: str
    lines: Sequence[Line]
    from_zero: bool = False
    most: float = math.inf
    x_name: str = "epoch"


def draw_panels(panels: Sequence[Panel], columns: int = 2) -> bytes:
    """Panels in rows, as the bytes of a PNG file."""
    from PIL import Image, ImageDraw

    rows = -(-len(panels) // columns)
    places = [
        (panel, WIDTH * (index % columns), HEIGHT * (index // columns))
        for index, panel in enumerate(panels)
    ]
    fine = Image.new("RGB", (WIDTH * columns * FINER, HEIGHT * rows * FINER), "white")
    scales = [_Scales(panel, left, top) for panel, left, top in places]
    for scale in scales:
        _draw_lines(ImageDraw.Draw(fine), scale)
    image = fine.reduce(FINER)
    for scale in scales:
        _write(ImageDraw.Draw(image), scale)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def ticks(low: float, high: float, most: int = 6, least_step: float = 0.0) -> list[float]:
    """At most ``most`` round numbers from ``low`` to ``high``: multiples of 1, 2 or 5 times 10^n.

    Parameters
    ----------
    least_step : float
        Smallest distance between two; 1 gives integers.
    """
    exact = max((high - low) / (most - 1), least_step, 1e-300)
    power = 10.0 ** math.floor(math.log10(exact))
    step = next(
        factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= exact * (1 - 1e-9)
    )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


class _Scales:
    """Conversion from a panel's values to pixels."""

    def __init__(self, panel: Panel, left: int, top: int) -> None:
        self.panel = panel
        self.left, self.right = left + LEFT, left + WIDTH - RIGHT
        self.top, self.bottom = top + TOP, top + HEIGHT - BOTTOM
        self.x_low = min(float(line.x[0]) for line in panel.lines)
        self.x_high = max(float(line.x[-1]) for line in panel.lines)
        if self.x_low == self.x_high:
            self.x_low, self.x_high = self.x_low - 0.5, self.x_high + 0.5
        low = min(float(line.y.min()) for line in panel.lines)
        high = max(float(line.y.max()) for line in panel.lines)
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        self.low = min(0.0, low) if panel.from_zero else low - margin
        self.high = high + margin

    def ticks(self) -> list[float]:
        """The ticks of the vertical axis."""
        return [value for value in ticks(self.low, self.high) if value <= self.panel.most]

    def x(self, values: Any) -> Any:
        share = (values - self.x_low) / (self.x_high - self.x_low)
        return self.left + (self.right - self.left) * share

    def y(self, values: Any) -> Any:
        share = (values - self.low) / (self.high - self.low)
        return self.bottom + (self.top - self.bottom) * share


def _draw_lines(draw: "ImageDraw.ImageDraw", scale: _Scales) -> None:
    def at(x: float, y: float) -> tuple[float, float]:
        return FINER * x, FINER * y

    for value in scale.ticks():
        y = scale.y(value)
        draw.line([at(scale.left, y), at(scale.right, y)], GRID, FINER)
    for value in ticks(scale.x_low, scale.x_high, least_step=1.0):
        x = scale.x(value)
        draw.line([at(x, scale.top), at(x, scale.bottom)], GRID, FINER)
    corners = [(scale.left, scale.top), (scale.left, scale.bottom), (scale.right, scale.bottom)]
    draw.line([at(*corner) for corner in corners], GREY, FINER)
    for line in scale.panel.lines:
        x, y = _thinned(scale.x(line.x), scale.y(line.y), 2 * (scale.right - scale.left))
        points = [at(*point) for point in zip(x.tolist(), y.tolist(), strict=True)]
        colour = _paler(line.colour) if line.faint else line.colour
        draw.line(points, colour, (1 if line.faint else 2) * FINER, joint="curve")
        if (line.markers and len(points) <= MOST_MARKERS) or len(points) == 1:
            for x_of, y_of in points:
                radius = 3.5 * FINER
                draw.ellipse((x_of - radius, y_of - radius, x_of + radius, y_of + radius), colour)


def _write(draw: "ImageDraw.ImageDraw", scale: _Scales) -> None:
    from PIL import ImageFont

    small, large = ImageFont.load_default(13), ImageFont.load_default(17)
    panel, top = scale.panel, scale.top - TOP
    draw.text((scale.left, top + 12), panel.title, INK, large)
    begin = scale.left + draw.textlength(panel.title, large) + 12
    draw.text((begin, top + 15), panel.unit, GREY, small)
    places = scale.ticks()
    texts = _numbers(places)
    for value, text in zip(places, texts, strict=True):
        draw.text((scale.left - 8, scale.y(value)), text, GREY, small, anchor="rm")
    for value in ticks(scale.x_low, scale.x_high, least_step=1.0):
        draw.text((scale.x(value), scale.bottom + 7), f"{value:.0f}", GREY, small, anchor="mt")
    middle = (scale.left + scale.right) / 2
    draw.text((middle, scale.bottom + 26), panel.x_name, GREY, small, anchor="mt")
    ends = sorted((line for line in panel.lines if line.last), key=lambda line: -line.y[-1])
    lowest = -math.inf
    for line in ends:
        x, y = scale.x(float(line.x[-1])), scale.y(float(line.y[-1]))
        lowest = max(y, lowest + APART)  # below the previous one
        draw.text((x + 8, lowest), line.last, line.colour, small, anchor="lm")
    # Below the axes, clear of any line; the last name is aligned with the end of the axis.
    right, y = float(scale.right), scale.bottom + 33
    for line in reversed([line for line in panel.lines if line.name]):
        right -= draw.textlength(line.name, small)
        draw.text((right, y), line.name, INK, small, anchor="lm")
        draw.line([(right - 26, y), (right - 6, y)], line.colour, 2)
        right -= 42


def _numbers(values: Sequence[float]) -> list[str]:
    """Numbers with just enough decimals to distinguish them."""
    step = values[1] - values[0] if len(values) > 1 else abs(values[0]) if values else 1.0
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 1e6 or 0 < step < 1e-5:
        return [f"{value:.3g}" for value in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    return [f"{value:.{decimals}f}" for value in values]


def _thinned(x: np.ndarray, y: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """A visually identical line of at most ``most`` points: the extremes of short segments."""
    if len(x) <= most:
        return x, y
    bounds = np.linspace(0, len(x), most // 2 + 1).astype(int)[:-1]
    ends = np.stack([np.minimum.reduceat(y, bounds), np.maximum.reduceat(y, bounds)], axis=1)
    return np.repeat(x[bounds], 2), ends.ravel()


def _paler(colour: str) -> str:
    """A colour at 25 % opacity on white."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.28 * (255 - part)):02x}" for part in parts)
