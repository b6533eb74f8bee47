"""Plain-text tables, for reports outside a terminal."""

from collections.abc import Iterable, Sequence


def text_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 2,
    footer: Sequence[str] | None = None,
) -> str:
    """Format rows as lines with aligned columns.

    Parameters
    ----------
    rows : iterable of sequence of str
        A str is a line across all columns.
    left : int
        Number of left-aligned columns; the others are right-aligned.
    footer : sequence of str, optional
        A last line below a rule, such as totals.
    """
    table = [header, *rows, *([] if footer is None else [footer])]
    cells = [line for line in table if not isinstance(line, str)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [
        line
        if isinstance(line, str)
        else "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    rule = "-" * max(map(len, lines))
    body = lines[1:] if footer is None else [*lines[1:-1], rule, lines[-1]]
    return "\n".join([lines[0], rule, *body])
