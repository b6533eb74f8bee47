"""``fastcnn lr-find``."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from fastcnn.cli.arguments import AnyData, DataDir, ImageSize, InGray, Picture
from fastcnn.cli.declared import with_options
from fastcnn.cli.screen import Screen
from fastcnn.cli.training_data import data_words, recipe_for_data, train_words
from fastcnn.training.rate_search import DECIDED, HIGHEST, LOWEST, STEPS
from fastcnn.training.recipe import Recipe


@with_options(Recipe, without=DECIDED)
def lr_find(
    context: typer.Context,
    *,
    data: AnyData = None,
    data_dir: DataDir = None,
    image_size: ImageSize = None,
    gray: InGray = None,
    lowest: Annotated[float, typer.Option(help="Learning rate of the first step.")] = LOWEST,
    highest: Annotated[float, typer.Option(help="Learning rate of the last step.")] = HIGHEST,
    steps: Annotated[int, typer.Option(help="Steps; fewer if the loss diverges.")] = STEPS,
    out: Picture = Path("lr-find.png"),
    **options: Any,
) -> None:
    """Find a learning rate: raise it step by step, draw the loss and suggest a rate.

    The options are those of fastcnn train that affect a step. fastcnn train --lr auto does the same
    before training.

    Examples:

      fastcnn lr-find

      fastcnn lr-find --data pictures --optimizer sgd --out rates.svg
    """
    from fastcnn.training import lr_find as find
    from fastcnn.training.figure import figure_format, save_figure

    figure_format(out)
    console = Screen()
    recipe, training = recipe_for_data(context, console, DECIDED)
    deciding = {name: value for name, value in recipe.training().items() if name not in DECIDED}
    network = recipe.make_model(training)
    found = find(network, training, lowest=lowest, highest=highest, steps=steps, **deciding)
    console.say(str(found))
    save_figure(found.figure(), out)
    console.say(f"picture: {out}")
    recipe = replace(recipe, lr=float(f"{found.suggestion:.2g}"))
    words = data_words(SimpleNamespace(**context.params)) + train_words(recipe, training, DECIDED)
    console.print(f"next: fastcnn train {words}", soft_wrap=True)
