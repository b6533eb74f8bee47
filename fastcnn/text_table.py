"""Tables as plain text, for reports that are read without a terminal."""

from collections.abc import Iterable, Sequence


def text_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 2,
    footer: Sequence[str] | None = None,
) -> str:
    """Lines with aligned columns.

    Parameters
    ----------
    left : int
        Columns that are aligned to the left; the others are to the right.
    footer : sequence of str, optional
        A last line under a rule, such as totals.
    """
    table = [tuple(header), *(tuple(row) for row in rows)]
    if footer is not None:
        table.append(tuple(footer))
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    rule = "-" * max(map(len, lines))
    body = lines[1:] if footer is None else [*lines[1:-1], rule, lines[-1]]
    return "\n".join([lines[0], rule, *body])
