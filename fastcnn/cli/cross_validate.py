"""``fastcnn cross-validate``."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from rich.console import Console

from fastcnn.cli.declared import with_options
from fastcnn.cli.training_data import ImageSize, InGray, load_training
from fastcnn.training.recipe import Recipe, suited

#: Options that a training on several MPI processes has alone.
WITHOUT = ("average_every", "ordered_reduction", "diagnose")


@with_options(Recipe, without=WITHOUT)
def cross_validate(
    context: typer.Context,
    *,
    folds: Annotated[int, typer.Option(min=2, help="Parts, and trainings.")] = 5,
    data: Annotated[
        str | None, typer.Option(help="As for fastcnn train: a name, a file, or a folder.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data files; by default FASTCNN_DATA_DIR.")
    ] = None,
    image_size: ImageSize = None,
    gray: InGray = None,
    **options: Any,
) -> None:
    """Train on all but one part of the training data, for each part, and measure on that part.

    The test data of the data set are not used.

    Example:

      fastcnn cross-validate --folds 5 --data digits012 --epochs 3
    """
    from fastcnn.training.cross_validation import cross_validate as run
    from fastcnn.training.declarations import declarations

    console = Console(highlight=False)
    given = {name: value for name, value in context.params.items() if name in declarations(Recipe)}
    recipe = Recipe(**given)
    o = SimpleNamespace(
        data=data, data_dir=data_dir, validation_split=False, image_size=image_size, gray=gray
    )
    training, _, _ = load_training(o, console)
    if training.files:
        typed = [name for name in given if given[name] != getattr(Recipe(), name)]
        recipe = replace(recipe, **suited(training, recipe, typed))
    chosen = {name: value for name, value in recipe.training().items() if name not in WITHOUT}
    chosen["diagnose"] = False
    found = run(lambda: recipe.make_model(training), training, folds=folds, **chosen)
    for number, (loss, accuracy) in enumerate(
        zip(found.losses, found.accuracies, strict=True), start=1
    ):
        share = "" if accuracy != accuracy else f", accuracy {100 * accuracy:.2f} %"
        console.print(f"fold {number}: loss {loss:.4f}{share}")
    console.print(str(found))
