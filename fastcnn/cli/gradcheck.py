"""``fastcnn gradcheck``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from fastcnn.cli.arguments import ModelName
from fastcnn.cli.screen import Screen, number_columns

if TYPE_CHECKING:
    from fastcnn.analysis.gradcheck import GradientReport, GradientRow


def gradcheck(
    backend: Annotated[
        list[str] | None, typer.Option(help="reference, im2col or lanes; may be repeated.")
    ] = None,
    model: Annotated[
        ModelName | None,
        typer.Option(
            metavar="NAME",
            help=f"Also check a network: {', '.join(ModelName)}. On the reference backend this "
            "takes seconds, or minutes for the larger ones.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="One line per gradient, not one per kind of layer.")
    ] = False,
) -> None:
    """Check every gradient against finite differences in float64; exit with 1 if one is wrong.

    Each kind of layer and loss is checked with several settings. The table shows the largest error
    of each on each backend, relative to the largest element of the gradient.

    Examples:

      fastcnn gradcheck

      fastcnn gradcheck --backend lanes --model lenet5 --all
    """
    from fastcnn.analysis.gradcheck import gradcheck as check
    from fastcnn.models import MODELS

    network = None if model is None else MODELS[model.value](seed=0)
    report = check(backends=tuple(backend) if backend else None, model=network)
    console = Screen()
    if not every:
        console.show(_kinds(report))
    if wrong := report.rows if every else report.failures:
        console.show(_gradients(wrong))
    console.say(f"{len(report.rows)} gradients checked, {len(report.failures)} wrong")
    if not report.ok:
        raise typer.Exit(1)


def _kinds(report: "GradientReport") -> Table:
    """One line per kind of layer: number of gradients, and largest error on each backend."""
    backends = list(dict.fromkeys(row.backend for row in report.rows))
    errors: dict[str, dict[str, list[GradientRow]]] = {}
    for row in report.rows:
        kind = row.subject.partition("(")[0]
        errors.setdefault(kind, {}).setdefault(row.backend, []).append(row)
    table = Table("layer or loss", *number_columns("gradients", *backends), "")
    for kind, found in errors.items():
        rows = [row for each in found.values() for row in each]
        largest = [
            f"{max(row.error for row in found[name]):.1e}" if name in found else ""
            for name in backends
        ]
        table.add_row(kind, str(len(rows)), *largest, _mark(all(row.ok for row in rows)))
    return table


def _gradients(rows: "Sequence[GradientRow]") -> Table:
    """One line per gradient."""
    name = Column("layer or loss", overflow="fold")
    table = Table("backend", name, "gradient of", *number_columns("relative error"), "")
    for row in rows:
        table.add_row(row.backend, row.subject, row.gradient, f"{row.error:.1e}", _mark(row.ok))
    return table


def _mark(ok: bool) -> str | Text:
    return "ok" if ok else Text("WRONG", "bold red")
