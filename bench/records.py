"""Trainings by recipes, next to PyTorch's: ``python -m bench records mnist-99 --seeds 30``.

Records are written to the file that ``fastcnn recipes`` reads; docs/records.md and README's table
are generated from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.markdown import fill
from bench.recipe_page import PAGE, README, page, readme_records
from bench.recipe_twin import Twin
from fastcnn.backends.lanes import default_threads
from fastcnn.benchmark.recipe_records import Own, Trainer, keep, key, measured, new_record
from fastcnn.benchmark.records import this_command
from fastcnn.data import Dataset
from fastcnn.errors import ConfigurationError, counted
from fastcnn.files import atomic_write
from fastcnn.recipes import NamedRecipe, get, names, records
from fastcnn.recipes.records import FILE

PROGRAM = "python -m bench"


@dataclass(frozen=True)
class Plan:
    """How recipes are measured.

    Attributes
    ----------
    seeds : int
        Number of seeds, from 0.
    threads : int, optional
        By default all cores.
    batch_size : int, optional
        Instead of the recipe's; the record has the batch size in its recipe's name.
    max_steps : int, optional
        Instead of the recipe's, with the corresponding number of epochs: a schedule by fractions of
        the training shrinks with it. The record has the steps in its recipe's name.
    data : str, optional
        Instead of the recipe's.
    more : bool
        Keep the recorded seeds, and train the missing ones.
    timed : bool
        Whether seconds are recorded; not on a busy machine. If untimed, accuracies are added to the
        recorded seeds, whose seconds, threads and machine are kept.
    """

    seeds: int = 5
    threads: int | None = None
    batch_size: int | None = None
    max_steps: int | None = None
    data: str | None = None
    more: bool = False
    timed: bool = True
    note: str = ""
    command: str = ""


def planned(name: str, plan: Plan) -> tuple[NamedRecipe, Dataset, Dataset]:
    """The recipe as the plan changes it, and its data."""
    recipe = get(name)
    if plan.data is not None:
        recipe = recipe.changed({"data": plan.data})
    if plan.batch_size is not None:
        recipe = recipe.changed({"batch_size": plan.batch_size})
        recipe = replace(recipe, name=f"{recipe.name}, batch {plan.batch_size}")
    train, test = recipe.load_data()
    if plan.max_steps is not None:
        per_epoch = recipe.options.steps_per_epoch or -(-len(train) // recipe.options.batch_size)
        epochs, rest = divmod(plan.max_steps, per_epoch)
        changes = (
            {"epochs": epochs + 1, "max_steps": plan.max_steps} if rest else {"epochs": epochs}
        )
        recipe = replace(recipe.changed(changes), name=f"{recipe.name}, {plan.max_steps} steps")
    return recipe, train, test


def measure(
    name: str,
    plan: Plan,
    trainers: Sequence[Callable[[NamedRecipe, Dataset, Dataset, int], Trainer]],
    path: Path,
    console: Any,
) -> None:
    """Train by a recipe; print and save the record after each seed.

    Raises
    ------
    FastcnnError
        If there is no such recipe, its data are unavailable, or the recorded seeds are of another
        machine.
    """
    recipe, train, test = planned(name, plan)
    threads = plan.threads or default_threads()
    for make in trainers:
        trainer = make(recipe, train, test, threads)
        data = train.name if plan.data else ""
        record = new_record(
            recipe.name, trainer.name, threads, plan.command, data=data, note=plan.note
        )
        known = records(path) if plan.more and path.exists() else []
        for before in [each for each in known if key(each) == key(record)]:
            here, there = (
                f"{each.machine}, {counted(each.threads, 'thread')}" for each in (record, before)
            )
            if plan.timed and here != there:
                raise ConfigurationError(
                    f"{recipe.name}: the recorded seeds are of {there}, and these would be of "
                    f"{here}"
                )
            record = replace(
                before, date=record.date, command=plan.command, data=data, note=plan.note
            )
        seeds = range(len(record.accuracies), plan.seeds)
        for made in measured(trainer, record, seeds, keep_seconds=plan.timed):
            keep(made, path, console, is_timed=plan.timed)


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
        makers: dict[By, list[Callable[..., Trainer]]] = {
            By.fastcnn: [Own],
            By.torch: [Twin],
            By.both: [Own, Twin],
        }
        plan = Plan(
            seeds, threads, batch_size, max_steps, data, more, timed, note, this_command(PROGRAM)
        )
        for name in recipes or names():
            measure(name, plan, makers[by], out, Console(highlight=False))
    if out == FILE:
        atomic_write(PAGE, page(records()).encode())
        fill(README, records=readme_records(records()))
