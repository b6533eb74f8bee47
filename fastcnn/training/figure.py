"""Matplotlib figures, and the colours of all figures."""

import base64
import io
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from fastcnn.errors import ConfigurationError
from fastcnn.files import atomic_write

log = logging.getLogger("fastcnn")
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
    content, missing = _drawn(figure, kind)
    if missing and (family := family_with(missing)):
        from matplotlib.text import Text

        for text in figure.findobj(Text):
            text.set_fontfamily([*text.get_fontfamily(), family])
        content, missing = _drawn(figure, kind)
    if missing:
        log.warning("no installed font has %s: figures show boxes instead", " ".join(missing))
    return content


def _drawn(figure: Any, kind: str) -> tuple[bytes, list[str]]:
    """A figure as the bytes of a file, and the characters that its fonts lack."""
    buffer = io.BytesIO()
    missing: dict[str, None] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(buffer, format=kind, dpi=120)
    for warning in caught:
        if found := re.match(r"Glyph (\d+) ", str(warning.message)):
            missing[chr(int(found[1]))] = None
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return buffer.getvalue(), list(missing)


def family_with(characters: Iterable[str]) -> str | None:
    """The installed family of fonts that has most of some characters, if one has any."""
    from matplotlib.font_manager import fontManager, get_font

    wanted = set(map(ord, characters))
    most, family = 0, None
    for entry in fontManager.ttflist:
        # It has boxes for all characters.
        if entry.name.startswith("Last Resort"):
            continue
        with suppress(OSError, RuntimeError):  # removed since the list was made, or damaged
            count = len(wanted & get_font(entry.fname).get_charmap().keys())
            if count > most:
                most, family = count, entry.name
    return family


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
