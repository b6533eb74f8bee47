"""The page docs/benchmarks/ladder.md: one backward pass, made faster step by step."""

from pathlib import Path

from bench.markdown import command, machine, number, table
from bench.report import Report, read_report
from fastcnn.benchmark.ladder import RUNGS, named, percent
from fastcnn.benchmark.results import Result

LADDER = "ladder"
BUSY = "busy"


def read_ladder(folder: Path) -> Report:
    """The output of ``fastcnn bench backward --out docs/benchmarks/ladder``."""
    return read_report(folder / LADDER / "bench.json")


def shown(report: Report) -> list[Result]:
    """The rungs, except those on several threads that had to share a core with other programs."""
    return [row for row in report.results if row.threads == 1 or BUSY not in row.state]


def render_ladder(report: Report) -> list[str]:
    """The page as paragraphs, including its title."""
    rows, before = [], None
    for row in shown(report):
        step = number(before.median / row.median) if before else ""
        total = f"{row.ratio:,.0f}" if row.ratio else ""
        share = percent(row.share or 0.0).replace("%", " %")
        rows.append((named(row), f"{number(row.median)}", step, total, share))
        before = row
    header = ("rung", "µs a sample", "times faster", "than the loops", "of peak")
    busy = any(BUSY in row.state for row in report.results)
    first = report.results[0]
    lines = [
        "# From nested loops to the engine",
        "![The ladder](ladder.png)",
        "The same gradients, implemented five times, each time faster: the backward pass of the "
        f"second convolution of the report's network ({first.work}, batch {first.batch}), on one "
        "thread. The results are compared before anything is timed. The notebook "
        "`docs/notebooks/from_loops_to_the_engine.ipynb` goes through the same code step by step.",
        table(header, rows, left=1),
        f"Measured {report.date[:10]} on {machine(report)}."
        + (
            " Other programs were running at the time: thread counts above one are left out."
            if busy
            else ""
        )
        + " To repeat the measurement:",
        command("fastcnn bench backward --out docs/benchmarks/ladder\npython -m bench.write_page"),
    ]
    for place, rung in enumerate(RUNGS, 1):
        code = f"```python\n{rung.source()}\n```"
        lines += [f"## {place}. {rung.name}", rung.change, code]
    return lines
