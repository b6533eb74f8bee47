"""Markdown cells and tables of the benchmark pages and of README."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.report import Report
from fastcnn.benchmark.results import Result
from fastcnn.files import atomic_write


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A table in Markdown; the first columns are left-aligned, the others right-aligned."""
    rule = ["---" if column < left else "---:" for column in range(len(header))]
    lines = (header, rule, *rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def contestants(group: Sequence[Result]) -> str:
    rows = [
        (
            row.contestant,
            str(row.threads),
            spread(row),
            "" if row.ratio is None else number(row.ratio),
            "" if row.difference is None else f"{row.difference:.0e}",
            row.note,
        )
        for row in sorted(group, key=lambda row: (row.median != row.median, row.median))
    ]
    return table(("contestant", "threads", "time", "ratio", "difference", ""), rows, left=1)


def groups(results: Iterable[Result], suite: str) -> Iterator[tuple[tuple[str, int], list[Result]]]:
    """The results of a suite, grouped by work and batch, in order of appearance."""
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        if result.suite == suite:
            groups.setdefault((result.work, result.batch), []).append(result)
    yield from groups.items()


def best(group: Iterable[Result], *names: str) -> Result | None:
    """The fastest contestant whose name begins with one of the given names."""
    timed = [r for r in group if r.contestant.startswith(names) and r.median == r.median]
    return min(timed, key=lambda row: row.median, default=None)


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(row: Result) -> str:
    if row.median != row.median:
        return ""
    middle = number(row.median)
    if row.rounds < 2:
        return middle
    return f"{middle} ({number(row.low)} to {number(row.high)})"


def threads(row: Result | None) -> str:
    return f"{number(row.median)} ({threads_of(row)})" if row else "-"


def threads_of(row: Result) -> str:
    return f"{row.threads} thread{'s' if row.threads > 1 else ''}"


def command(text: str) -> str:
    return f"```sh\n{text}\n```"


def machine(report: Report) -> str:
    environment = report.environment
    return (
        f"{environment['cores']} cores of {environment['processor']}, "
        f"{environment['instruction set']}"
    )


def filled(text: str, file: str, **parts: str) -> str:
    """A page's text with its generated parts, each between two marker lines with its name.

    Raises
    ------
    ValueError
        If the marker lines are missing.
    """
    for name, made in parts.items():
        begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
        before, first, rest = text.partition(begin)
        _, last, after = rest.partition(end)
        if not first or not last:
            raise ValueError(f"{file} needs the lines {begin} and {end}")
        text = f"{before}{begin}\n{made}\n{end}{after}"
    return text


def fill(path: Path, **parts: str) -> None:
    """Write the generated parts into a page, as :func:`filled` does."""
    atomic_write(path, filled(path.read_text(encoding="utf-8"), path.name, **parts).encode())
