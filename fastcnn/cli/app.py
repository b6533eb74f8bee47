"""The application: its commands and what they share."""

import os
import pkgutil
import re
from collections.abc import Sequence
from functools import wraps
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any

import typer

import fastcnn
from fastcnn.cli.lines import complain
from fastcnn.cli.signals import interrupted_code

#: In the order listed. Each is a function in the module of the same name, with ``_`` for ``-``;
#: ``data`` has subcommands, and ``app`` is their application.
COMMANDS = (
    *("train", "recipes", "evaluate", "predict", "explain", "serve", "export", "compare"),
    *("sweep", "cross-validate", "lr-find", "study", "bench", "profile", "scale"),
    *("gradcheck", "compare-backends", "data", "warmup", "info"),
)


def command(name: str) -> Any:
    """The function of a command, or the application of its subcommands."""
    function = name.replace("-", "_")
    module = import_module(f"fastcnn.cli.{function}")
    return getattr(module, "app", getattr(module, function))


def summary(name: str) -> str:
    """The first line of a command's docstring.

    It is read from the source without importing: commands import most of the package, which takes
    longer than many of them run. The package may be in a zip file.
    """
    function = name.replace("-", "_")
    source = (pkgutil.get_data("fastcnn.cli", f"{function}.py") or b"").decode()
    found = re.search(rf'^def {function}\(.*?"""(.*)', source, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].partition("\n")[0].removesuffix('"""')


def application(arguments: Sequence[str] = ()) -> typer.Typer:
    """The application with the command named by the arguments, or else a list of all."""
    app = typer.Typer(
        name="fastcnn",
        help=(
            "Train small convolutional networks on a CPU, fast.\n\n"
            "Start with [bold]fastcnn train[/bold], which trains a network on the digits 0, 1 "
            "and 2 and writes a run. Then try [bold]fastcnn evaluate RUN[/bold] and "
            "[bold]fastcnn predict RUN PICTURE[/bold]."
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
        for name in COMMANDS:
            app.command(name, help=summary(name))(_not_imported)
    return app


def _add(app: typer.Typer, name: str) -> None:
    """Import a command and add it."""
    found = command(name)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    else:
        app.command(name, help=in_paragraphs(found.__doc__))(_interruptible(found))


def _interruptible(function: Any) -> Any:
    """A command that ends with the exit code of its signal, which typer does not tell apart."""

    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except KeyboardInterrupt as interrupt:
            complain("interrupted")
            raise SystemExit(interrupted_code(interrupt)) from None

    return run


def _not_imported() -> None:
    """Placeholder for a command of which only the name is needed."""


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
    """Options that precede the command."""


def in_paragraphs(text: str | None) -> str:
    """A docstring with each paragraph on one line, for wrapping at the terminal's width.

    Indented lines, such as examples, are kept.
    """
    paragraphs = cleandoc(text or "").split("\n\n")
    return "\n\n".join(
        paragraph if paragraph.startswith(" ") else " ".join(paragraph.split())
        for paragraph in paragraphs
    )
