"""Trainings by recipes, next to PyTorch's: ``python -m bench records mnist-99 --seeds 30``.

Records are written to the file that ``fastcnn recipes`` reads; docs/records.md and README's table
are generated from it.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.markdown import fill
from bench.recipe_page import PAGE, README, page, readme_records
from bench.recipe_twin import Twin
from fastcnn.benchmark.recipe_records import Own, Plan, measure
from fastcnn.benchmark.records import this_command
from fastcnn.files import atomic_write
from fastcnn.recipes import names, records
from fastcnn.recipes.records import FILE

PROGRAM = "python -m bench"


class By(StrEnum):
    """The library that trains."""

    fastcnn = "fastcnn"
    torch = "torch"
    both = "both"


def main(
    recipes: Annotated[
        list[str] | None, typer.Argument(help="Names of recipes, or files; by default all.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, from 0 on.")] = 5,
    by: Annotated[By, typer.Option(help="Who trains: fastcnn, torch or both.")] = By.fastcnn,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Other batches.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Steps at most.")] = None,
    more: Annotated[
        bool, typer.Option("--more", help="Keep the recorded seeds, and train the missing ones.")
    ] = False,
    timed: Annotated[
        bool, typer.Option(help="Keep seconds; for accuracies on a busy machine, --no-timed.")
    ] = True,
    data: Annotated[str | None, typer.Option(help="Other data, such as a folder.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="By default all cores.")] = None,
    note: Annotated[str, typer.Option(help="What is special, such as a busy machine.")] = "",
    out: Annotated[
        Path, typer.Option(help="File of records, in which those of the same recipe are replaced.")
    ] = FILE,
    only_page: Annotated[
        bool, typer.Option("--page", help="Measure nothing, and write docs/records.md and README.")
    ] = False,
) -> None:
    """Train by recipes from several seeds; record accuracies and seconds after each seed."""
    if not only_page:
        trainers = {By.fastcnn: [Own], By.torch: [Twin], By.both: [Own, Twin]}[by]
        plan = Plan(
            seeds, threads, batch_size, max_steps, data, more, timed, note, this_command(PROGRAM)
        )
        for name in recipes or names():
            measure(name, plan, trainers, out, Console(highlight=False))
    if out == FILE:
        atomic_write(PAGE, page(records()).encode())
        fill(README, records=readme_records(records()))
