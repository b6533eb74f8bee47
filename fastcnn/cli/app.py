"""The application: its commands and what they share."""

import os
from collections.abc import Sequence
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any, NamedTuple

import typer

import fastcnn


class Listed(NamedTuple):
    """A command as the list of commands shows it.

    Attributes
    ----------
    place : str
        Module within this package, and function in it.
    help : str
        The first sentence of the function's docstring. It is repeated here because the modules of
        all commands import most of the package, which takes longer than many a command.
    """

    place: str
    help: str


COMMANDS = {
    "train": Listed(
        "train.train",
        "Train a network and write a run: config, metrics, weights, checkpoints and curves.",
    ),
    "recipes": Listed(
        "recipes.recipes",
        "List the trainings that have names: what each reaches, and in what time.",
    ),
    "evaluate": Listed(
        "evaluate.evaluate",
        "Test a trained network: accuracy, precision and recall of each class, worst mistakes.",
    ),
    "predict": Listed(
        "predict.predict", "Classify pictures with a trained network, or predict values for them."
    ),
    "explain": Listed(
        "explain.explain", "Show which parts of a picture a trained network's answer depends on."
    ),
    "serve": Listed(
        "serve.serve",
        "Draw or drop a picture in the browser, and see what each layer of a network makes of it.",
    ),
    "export": Listed(
        "export.export",
        "Write a trained network for other tools: ONNX, PyTorch, C, plain numpy, or a page.",
    ),
    "compare": Listed(
        "compare_runs.compare_runs",
        "Overlay the curves of runs, and list the settings in which they differ.",
    ),
    "sweep": Listed("sweep.sweep", "Train many networks, one on each core, and rank them."),
    "cross-validate": Listed(
        "cross_validate.cross_validate",
        "Test on each part of the training data a network that was trained on the others.",
    ),
    "lr-find": Listed(
        "lr_find.lr_find",
        "Find a learning rate: raise it step by step, draw the loss and suggest a rate.",
    ),
    "study": Listed(
        "study.study",
        "Answer the report's questions by experiment, and write one page about it.",
    ),
    "bench": Listed(
        "bench.bench",
        "Measure the speed of fastcnn's backends, and of PyTorch if it is installed.",
    ),
    "profile": Listed(
        "profile.profile",
        "Time each kernel of a training step and compare it with the machine's measured peaks.",
    ),
    "scale": Listed(
        "scale.scale",
        "Predict how training would scale over MPI, from steps measured on this machine.",
    ),
    "gradcheck": Listed(
        "gradcheck.gradcheck",
        "Check every gradient against finite differences in float64; exit with 1 if one is wrong.",
    ),
    "compare-backends": Listed(
        "compare.compare",
        "Compare every layer on every backend: differences, and time for each sample.",
    ),
    "data": Listed("data.app", "Prepare, show and list data sets."),
    "warmup": Listed(
        "warmup.warmup",
        "Compile all kernels for this machine, so that no later command has to wait.",
    ),
    "info": Listed(
        "info.info",
        "Show versions, processor, threads, folders, and what is missing and how to get it.",
    ),
}


def command(name: str) -> Any:
    """The function of a command, or the application of its commands."""
    module, _, function = COMMANDS[name].place.partition(".")
    return getattr(import_module(f"fastcnn.cli.{module}"), function)


def application(arguments: Sequence[str] = ()) -> typer.Typer:
    """The application with the command that the arguments name; without one, a list of all."""
    app = typer.Typer(
        name="fastcnn",
        help=(
            "Train small convolutional networks on a CPU, fast.\n\n"
            "Start with [bold]fastcnn train[/bold], which trains a network on the digits 0, 1 "
            "and 2 and writes a run. Then try [bold]fastcnn evaluate RUN[/bold] and "
            "[bold]fastcnn predict RUN IMAGE[/bold]."
        ),
        rich_markup_mode="rich",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    # Options before the command take no values: the first word is the command.
    wanted = next((word for word in arguments if not word.startswith("-")), "")
    if any(name.endswith("_COMPLETE") for name in os.environ):
        for name in COMMANDS:
            _add(app, name)
    elif wanted in COMMANDS:
        _add(app, wanted)
    else:
        for name, listed in COMMANDS.items():
            app.command(name, help=listed.help)(_not_imported)
    return app


def _add(app: typer.Typer, name: str) -> None:
    """Import a command and add it."""
    found = command(name)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    else:
        app.command(name, help=in_paragraphs(found.__doc__))(found)


def _not_imported() -> None:
    """Where only the names of commands are needed."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastcnn {fastcnn.__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options before the command."""


def in_paragraphs(text: str | None) -> str:
    """A docstring whose paragraphs are lines, so that a terminal breaks them where it ends.

    Lines that are indented, such as examples, stay as they are.
    """
    paragraphs = cleandoc(text or "").split("\n\n")
    return "\n\n".join(
        paragraph if paragraph.startswith(" ") else " ".join(paragraph.split())
        for paragraph in paragraphs
    )
