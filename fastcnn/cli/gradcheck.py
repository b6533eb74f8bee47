"""``fastcnn gradcheck``."""

from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from fastcnn.cli.model_name import ModelName
from fastcnn.cli.screen import screen


def gradcheck(
    backend: Annotated[
        list[str] | None, typer.Option(help="reference, im2col or lanes; may be repeated.")
    ] = None,
    model: Annotated[
        ModelName | None,
        typer.Option(
            metavar="NAME",
            help=f"Also check a network: {', '.join(ModelName)}. On the reference backend this "
            "takes seconds, of the larger ones minutes.",
        ),
    ] = None,
) -> None:
    """Check every gradient against finite differences in float64; exit with 1 if one is wrong.

    Errors are relative to the largest element of the gradient.
    """
    from fastcnn.analysis.gradcheck import gradcheck as check
    from fastcnn.models import MODELS

    network = None if model is None else MODELS[model.value](seed=0)
    report = check(backends=tuple(backend) if backend else None, model=network)
    name = Column("layer or loss", overflow="fold")
    table = Table("backend", name, "gradient of", "relative error", "")
    for row in report.rows:
        mark = "ok" if row.ok else Text("WRONG", "bold red")
        table.add_row(row.backend, row.subject, row.gradient, f"{row.error:.1e}", mark)
    console = screen()
    console.print(table)
    console.print(f"{len(report.rows)} gradients checked, {len(report.failures)} wrong")
    if not report.ok:
        raise typer.Exit(1)
