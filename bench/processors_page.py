"""The page of the same training steps on other processors, from docs/benchmarks/processors/*.json.

Each file was written there by ``fastcnn bench step`` or ``fastcnn bench zoo`` with ``--out``.
"""

from pathlib import Path

from bench.markdown import best, groups, machine, number, table, threads_of
from bench.report import Report, read_report
from fastcnn.benchmark.results import Result

SUITES = ("step", "zoo")


def render_processors(here: Report, folder: Path) -> list[str]:
    """The page's paragraphs: for each file, its steps next to those of this machine."""
    lines = [
        "# Other processors",
        "Training steps compared with PyTorch only, in microseconds per sample: the better of one "
        "thread and all threads for fastcnn, and the best of eager, channels_last and "
        f"torch.compile for PyTorch. The last column is the ratio on {machine(here)}.",
    ]
    elsewhere = f"times faster on {here.environment['processor']}"
    known = {
        (work, batch): _ratio(group)
        for suite in SUITES
        for (work, batch), group in groups(here.results, suite)
    }
    for path in sorted((folder / "processors").glob("*.json")):
        report = read_report(path)
        rows = [
            _row(work, batch, group, known.get((work, batch), ""))
            for suite in SUITES
            for (work, batch), group in groups(report.results, suite)
        ]
        commit = report.environment["commit"]
        header = ("network", "batch", "fastcnn", "PyTorch's best", "times faster", elsewhere)
        heading = f"## {machine(report)}"
        lines += [] if heading in lines else [heading]
        lines += [
            f"Made {report.date[:10]} with commit {commit}: `{report.command}`. "
            "Medians, with the first and the last decile in parentheses.",
            table(header, rows, left=1),
        ]
    return lines


def _row(work: str, batch: int, group: list[Result], elsewhere: str) -> tuple[str, ...]:
    own, peer = best(group, "lanes"), best(group, "PyTorch")
    return (work, str(batch), _shown(own), _shown(peer), _ratio(group), elsewhere)


def _shown(row: Result | None) -> str:
    if row is None:
        return "-"
    way = row.contestant.removeprefix("PyTorch ").removeprefix("lanes")
    said = f"{way}, {threads_of(row)}" if way else threads_of(row)
    return f"{number(row.median)} ({number(row.low)} to {number(row.high)}; {said})"


def _ratio(group: list[Result]) -> str:
    own, peer = best(group, "lanes"), best(group, "PyTorch")
    return f"{peer.median / own.median:.2f}" if own and peer else ""
