"""``fastcnn compare``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from fastcnn.cli.screen import Screen, number_columns


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of two or more runs.")],
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("compare.png"),
) -> None:
    """Overlay the curves of runs, and list the settings that differ.

    Example: fastcnn compare runs/one runs/two
    """
    from fastcnn.analysis.runs import compare_runs
    from fastcnn.training.figure import save_figure

    comparison = compare_runs(runs)
    # With two-line titles and no lines between columns, usual names fit in 80 columns.
    run, *measured = comparison.header
    widest = max(len(cells[0]) for cells in comparison.cells)
    name = Column(run, overflow="fold", min_width=min(widest, 32))
    titles = (title.replace(" ", "\n") for title in measured)
    table = Table(name, *number_columns(*titles), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for cells in comparison.cells:
        table.add_row(*cells)
    console = Screen()
    console.print(table)
    console.print("settings that differ:")
    for line in comparison.differences:
        console.say(f"  {line}")
    save_figure(comparison.figure(), out)
    console.say(f"picture: {out}")
