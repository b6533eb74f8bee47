"""The data of a training run from the command line, and the folder of its run."""

import shlex
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import typer

from fastcnn.cli.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastcnn.data.dataset import Dataset
    from fastcnn.data.preprocessing import Preprocessing
    from fastcnn.training.recipe import Recipe


def load_training(
    o: SimpleNamespace, console: Screen, trained: "Preprocessing | None" = None
) -> "tuple[Dataset, Dataset, dict[str, Any]]":
    """Training data, test data, and how to load them again; reports automatic choices.

    Options are ``data``, ``data_dir``, ``validation_split``, ``image_size`` and ``gray``. With the
    preprocessing of a resumed run, pictures are read as before.
    """
    from fastcnn.data import load, load_default
    from fastcnn.data.loading import NAMES
    from fastcnn.data.survey import are_pictures, chosen_pictures
    from fastcnn.errors import ConfigurationError
    from fastcnn.files import expanded

    path = None if o.data is None or o.data in NAMES else expanded(o.data)
    pictures = None
    if path is not None and are_pictures(path):
        if trained is None:
            pictures, line = chosen_pictures(path, image_size=o.image_size, gray=o.gray)
            console.say(f"{line} (see --image-size, --gray)")
        else:
            pictures = trained.pictures
    elif (o.image_size, o.gray) != (None, None):
        raise ConfigurationError(
            f"--image-size, --gray and --rgb are for picture files, not for {o.data or 'mnist012'}"
        )
    if o.data is None and not o.validation_split:
        training, test, message = load_default(o.data_dir)
        if message:
            console.say(message, style="yellow")
        name = "digits012" if message else "mnist012"
    else:
        name = o.data or "mnist012"
        training, test = load(
            name,
            data_dir=o.data_dir,
            validation_split=o.validation_split,
            progress=not console.quiet,
            pictures=pictures,
        )
    # Later loads may use another folder.
    source = {
        "source": name if name in NAMES else str(expanded(name).absolute()),
        "data_dir": None if o.data_dir is None else str(expanded(o.data_dir).absolute()),
        "validation_split": o.validation_split,
    }
    return training, test, source


#: click's name for the source of options given on the command line.
TYPED = "COMMANDLINE"


def typed(context: typer.Context) -> list[str]:
    """The names of the options given on the command line."""
    return [
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == TYPED
    ]


def recipe_for_data(
    context: typer.Context, console: Screen, decided: "Collection[str]" = ()
) -> "tuple[Recipe, Dataset]":
    """The recipe defined by a command's options, and its training data.

    Options in ``decided`` are not chosen automatically for pictures.
    """
    from fastcnn.training.declarations import declarations
    from fastcnn.training.recipe import Recipe, suited

    given = context.params
    recipe = Recipe(**{name: given[name] for name in declarations(Recipe) if name in given})
    training, _, _ = load_training(SimpleNamespace(**given, validation_split=False), console)
    if training.files:
        given_here = [*recipe.changes(), *typed(context), *decided]
        recipe = replace(recipe, **suited(training, recipe, given_here))
    return recipe, training


def data_words(o: SimpleNamespace) -> str:
    """The options of a command that name its data, as arguments of ``fastcnn train``."""
    words = "".join(
        f"--{name.replace('_', '-')} {shlex.quote(str(getattr(o, name)))} "
        for name in ("data", "data_dir", "image_size")
        if getattr(o, name)
    )
    return words + {None: "", True: "--gray ", False: "--rgb "}[o.gray]


def train_words(recipe: "Recipe", training: "Dataset", free: "Collection[str]" = ()) -> str:
    """Options of ``fastcnn train`` for a recipe.

    What fastcnn train would choose for pictures is given even if it is the default, except options
    in ``free``.
    """
    from fastcnn.cli.declared import as_words
    from fastcnn.training.options import NONE
    from fastcnn.training.recipe import suited

    words, given = [as_words(recipe)], [*recipe.changes(), *free]
    for name in suited(training, recipe, given) if training.files else ():
        value = getattr(recipe, name)
        words.append(f"--{name.replace('_', '-')} {NONE if value is None else value}")
    return " ".join(words).strip()


def free_folder(name: str) -> Path:
    """``runs/TIME-name``; with a number if another run began in the same second."""
    folder = first = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    number = 2
    while folder.exists():
        folder = first.with_name(f"{first.name}-{number}")
        number += 1
    return folder
