"""``fastcnn cross-validate``."""

from typing import Annotated, Any

import typer

from fastcnn.cli.arguments import AnyData, DataDir, ImageSize, InGray
from fastcnn.cli.declared import with_options
from fastcnn.cli.screen import Screen
from fastcnn.cli.training_data import recipe_for_data
from fastcnn.training.recipe import Recipe

#: Options that apply only to training on several MPI processes.
WITHOUT = ("average_every", "ordered_reduction", "sync_batch_norm", "diagnose")


@with_options(Recipe, without=WITHOUT)
def cross_validate(
    context: typer.Context,
    *,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 5,
    data: AnyData = None,
    data_dir: DataDir = None,
    image_size: ImageSize = None,
    gray: InGray = None,
    **options: Any,
) -> None:
    """Train one network per fold, on the other folds, and test it on that fold.

    The folds are parts of the training data; the data set's test data are not used.

    Example:

      fastcnn cross-validate --folds 5 --data digits012 --epochs 3
    """
    from fastcnn.training.cross_validation import cross_validate as run

    console = Screen()
    recipe, training = recipe_for_data(context, console)
    chosen = {name: value for name, value in recipe.training().items() if name not in WITHOUT}
    chosen["diagnose"] = False
    found = run(lambda: recipe.make_model(training), training, folds=folds, **chosen)
    for number, (loss, accuracy) in enumerate(
        zip(found.losses, found.accuracies, strict=True), start=1
    ):
        share = "" if accuracy != accuracy else f", accuracy {100 * accuracy:.2f} %"
        console.say(f"fold {number}: loss {loss:.4f}{share}")
    console.say(str(found))
