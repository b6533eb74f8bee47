"""Tables for Jupyter, which shows what ``_repr_html_`` returns."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    left: int = 1,
    footer: Sequence[str] | None = None,
) -> str:
    """An HTML table; the first ``left`` columns are aligned left, the others right.

    All text is escaped. Colours are the notebook's own, so that dark themes stay readable.
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
