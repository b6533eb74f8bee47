"""The application: its commands and what they share."""

import os
from collections.abc import Sequence
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any

import typer
from rich.console import Console

import fastcnn

#: Each command's module and function. A command imports its own module alone: together they import
#: most of the package, which takes longer than many a command.
COMMANDS = {
    "train": "train.train",
    "evaluate": "evaluate.evaluate",
    "study": "study.study",
    "export": "export.export",
    "predict": "predict.predict",
    "compare": "compare_runs.compare_runs",
    "sweep": "sweep.sweep",
    "bench": "bench.bench",
    "gradcheck": "gradcheck.gradcheck",
    "compare-backends": "compare.compare",
    "profile": "profile.profile",
    "scale": "scale.scale",
    "serve": "serve.serve",
    "warmup": "warmup.warmup",
    "info": "info.info",
    "data": "data.app",
}


def command(name: str) -> Any:
    """The function of a command, or the application of its commands."""
    module, _, function = COMMANDS[name].partition(".")
    return getattr(import_module(f"fastcnn.cli.{module}"), function)


def application(arguments: Sequence[str] = ()) -> typer.Typer:
    """The application, with the command that the arguments name; for help with all of them."""
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
    completing = any(name.endswith("_COMPLETE") for name in os.environ)
    for name in [wanted] if wanted in COMMANDS and not completing else COMMANDS:
        found = command(name)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name, help=in_paragraphs(found.__doc__))(found)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        Console().print(f"fastcnn {fastcnn.__version__}")
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
