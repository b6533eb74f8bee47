"""``fastcnn compare``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fastcnn.cli.screen import screen


def compare_runs(
    runs: Annotated[list[Path], typer.Argument(help="Folders of two or more runs.")],
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("compare.png"),
) -> None:
    """Overlay the curves of runs, and list the settings in which they differ.

    Example: fastcnn compare runs/one runs/two
    """
    from fastcnn.analysis.runs import compare_runs as compare
    from fastcnn.errors import ConfigurationError
    from fastcnn.training.figure import save_figure

    comparison = compare(runs)
    table = Table(*comparison.header)
    for cells in comparison.cells:
        table.add_row(*cells)
    console = screen()
    console.print(table)
    console.print("settings in which they differ:")
    for line in comparison.differences:
        console.print(f"  {line}", soft_wrap=True)
    try:
        save_figure(comparison.figure(), out)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written ({error.strerror})") from None
    console.print(f"picture: {out}", soft_wrap=True)
