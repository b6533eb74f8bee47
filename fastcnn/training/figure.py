"""Matplotlib figures, and the colours of all figures."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fastcnn.errors import ConfigurationError
from fastcnn.files import atomic_write

# Hues of the Okabe-Ito palette, which is safe for colour-blind readers.
TRAIN_COLOUR, TEST_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00", "#009E73"

#: Background and foreground of figures for light and dark pages.
THEMES = {"light": ("#ffffff", "#1b1f24"), "dark": ("#16191d", "#e3e6ea")}


@contextmanager
def theme(name: str) -> Iterator[None]:
    """Draw figures in the colours of one of :data:`THEMES`, in a ``with`` statement."""
    import matplotlib as mpl

    ground, ink = THEMES[name]
    style: dict[str, Any] = {
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), ground),
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink
        ),
    }
    with mpl.rc_context(style):
        yield


def new_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """A figure without pyplot, whose import takes longer than an epoch of training."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _notebook_figure()(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


@cache
def _notebook_figure() -> Any:
    """A figure class that Jupyter displays, which otherwise only knows pyplot's figures."""
    from matplotlib.figure import Figure

    return type("Figure", (Figure,), {"_repr_png_": png, "_repr_html_": _card})


def _card(figure: Any) -> str:
    """A figure as HTML, on a card that suits dark pages."""
    data = base64.b64encode(png(figure)).decode()
    style = "background:white;border-radius:6px;box-sizing:border-box;max-width:100%;padding:8px"
    return f'<img alt="" style="{style}" src="data:image/png;base64,{data}">'


def literal(text: str) -> str:
    """Escape a name for matplotlib, which would read text between dollar signs as a formula.

    Bytes that are not Unicode, which matplotlib refuses, become question marks.
    """
    return text.encode(errors="replace").decode().replace("$", r"\$")


#: File formats of figures, by suffix.
FORMATS = ("png", "svg", "pdf")


def png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    return _content(figure, "png")


def _content(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=120)
    return buffer.getvalue()


def figure_format(path: str | Path) -> str:
    """The file format of a figure with this name: check it before measuring what it shows.

    Raises ConfigurationError if the name does not end in one of :data:`FORMATS`.
    """
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        ends = ", ".join(f".{name}" for name in FORMATS)
        raise ConfigurationError(f"a picture's name must end in one of {ends}, got {path}")
    return kind


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a figure atomically as PNG, SVG or PDF, according to its name.

    Raises ConfigurationError if the name has another suffix.
    """
    atomic_write(path, _content(figure, figure_format(path)))
