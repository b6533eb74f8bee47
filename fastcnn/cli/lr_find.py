"""``fastcnn lr-find``."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from rich.console import Console

from fastcnn.cli.declared import as_words, with_options
from fastcnn.cli.training_data import ImageSize, InGray, load_training
from fastcnn.training.rate_search import DECIDED, HIGHEST, LOWEST, STEPS
from fastcnn.training.recipe import Recipe, suited


@with_options(Recipe, without=DECIDED)
def lr_find(
    context: typer.Context,
    *,
    data: Annotated[
        str | None, typer.Option(help="As for fastcnn train: a name, a file, or a folder.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data files; by default FASTCNN_DATA_DIR.")
    ] = None,
    image_size: ImageSize = None,
    gray: InGray = None,
    lowest: Annotated[float, typer.Option(help="Learning rate of the first step.")] = LOWEST,
    highest: Annotated[float, typer.Option(help="Learning rate of the last step.")] = HIGHEST,
    steps: Annotated[int, typer.Option(help="Steps; fewer if the loss grows.")] = STEPS,
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")] = Path(
        "lr-find.png"
    ),
    **options: Any,
) -> None:
    """Find a learning rate: train some steps with one that grows; a picture and a number.

    The options are those of fastcnn train that decide a step. fastcnn train --lr auto does the
    same before its training.

    Examples:

      fastcnn lr-find

      fastcnn lr-find --data pictures --optimizer sgd --out rates.svg
    """
    from fastcnn.training import lr_find as find
    from fastcnn.training.declarations import declarations
    from fastcnn.training.figure import figure_format, save_figure

    figure_format(out)
    console = Console(highlight=False)
    given = {name: value for name, value in context.params.items() if name in declarations(Recipe)}
    recipe = Recipe(**given)
    o = SimpleNamespace(
        data=data, data_dir=data_dir, validation_split=False, image_size=image_size, gray=gray
    )
    training, _, _ = load_training(o, console)
    if training.files:
        typed = [name for name in given if given[name] != getattr(Recipe(), name)]
        chosen = suited(training, recipe, [*typed, *DECIDED])
        recipe = replace(recipe, **chosen)
    deciding = {name: value for name, value in recipe.training().items() if name not in DECIDED}
    found = find(
        recipe.make_model(training),
        training,
        lowest=lowest,
        highest=highest,
        steps=steps,
        **deciding,
    )
    console.print(str(found), soft_wrap=True)
    save_figure(found.figure(), out)
    console.print(f"picture: {out}", soft_wrap=True, markup=False)
    words = as_words(replace(recipe, lr=float(f"{found.suggestion:.2g}")))
    source = f"--data {data} " if data else ""
    console.print(f"next: fastcnn train {source}{words}", soft_wrap=True, markup=False)
