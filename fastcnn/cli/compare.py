"""``fastcnn compare``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fastcnn.cli.screen import Screen, number_columns


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of two or more runs.")
    ],
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("compare.png"),
) -> None:
    """Overlay the curves of runs, and list the settings that differ.

    Example: fastcnn compare runs/one runs/two
    """
    from fastcnn.analysis.runs import compare_runs
    from fastcnn.training.figure import figure_format, save_figure

    figure_format(out)
    comparison = compare_runs(runs)
    run, *measured = comparison.header
    table = Table(run, *number_columns(*measured))
    for cells in comparison.cells:
        table.add_row(*cells)
    console = Screen()
    console.show(table)
    console.print("settings that differ:")
    for line in comparison.differences:
        console.say(f"  {line}")
    save_figure(comparison.figure(), out)
    console.say(f"picture: {out}")
