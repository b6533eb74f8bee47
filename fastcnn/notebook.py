"""How objects are displayed: tables for Jupyter, and arrays on one line."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from html import escape
from typing import Any

#: Values of an array, and items of a tuple, shown on a line.
MOST_SHOWN = 6


def brief(self: Any) -> str:
    """A ``__repr__`` for dataclasses and named tuples that shows arrays by type and shape."""
    names = getattr(self, "_fields", None) or [each.name for each in fields(self) if each.repr]
    shown = ", ".join(f"{name}={_short(getattr(self, name))}" for name in names)
    return f"{type(self).__name__}({shown})"


def _short(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape") and value.size > MOST_SHOWN:
        return f"<{value.dtype} {value.shape}>"
    if isinstance(value, dict):
        items = [f"{key!r}: {_short(value[key])}" for key in list(value)[:MOST_SHOWN]]
        left = len(value) - len(items)
        return f"{{{', '.join(items)}{f', and {left:,} more' if left else ''}}}"
    if type(value) in (tuple, list) and len(value) > MOST_SHOWN:
        left = len(value) - MOST_SHOWN // 2
        first = ", ".join(map(_short, value[: MOST_SHOWN // 2]))
        return f"({first}, and {left:,} more)"
    return repr(value)


def html_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    left: int = 1,
    footer: Sequence[str] | None = None,
) -> str:
    """An HTML table; the first ``left`` columns are left-aligned, the others right-aligned.

    All text is escaped. Colours are inherited from the notebook, so that dark themes stay readable.
    """

    def line(cells: Sequence[str], tag: str, style: str = "") -> str:
        parts = (
            f'<{tag} style="text-align:{"left" if column < left else "right"};{style}">'
            f"{escape(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(parts)}</tr>"

    head = f'<caption style="text-align:left">{escape(caption)}</caption>' if caption else ""
    body = "".join(line(row, "td") for row in rows)
    foot = f"<tfoot>{line(footer, 'th', 'border-top:1px solid')}</tfoot>" if footer else ""
    return (
        f"<table>{head}<thead>{line(header, 'th', 'border-bottom:1px solid')}</thead>"
        f"<tbody>{body}</tbody>{foot}</table>"
    )
