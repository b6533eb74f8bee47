"""The application: its commands and what they share."""

from collections.abc import Callable
from inspect import cleandoc
from typing import Annotated

import typer
from rich.console import Console

import fastcnn
from fastcnn.cli import (
    bench,
    compare,
    compare_runs,
    data,
    evaluate,
    export,
    gradcheck,
    info,
    predict,
    profile,
    scale,
    serve,
    study,
    sweep,
    train,
    warmup,
)

app = typer.Typer(
    name="fastcnn",
    help=(
        "Train small convolutional networks on a CPU, fast.\n\n"
        "Start with [bold]fastcnn train[/bold]: it trains a network on digits 0, 1, 2 and writes "
        "its curves; then [bold]fastcnn evaluate RUN[/bold] and "
        "[bold]fastcnn predict RUN IMAGE[/bold]."
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        Console().print(f"fastcnn {fastcnn.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    """Options before the command."""


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "study": study.study,
    "export": export.export,
    "predict": predict.predict,
    "compare": compare_runs.compare_runs,
    "sweep": sweep.sweep,
    "bench": bench.bench,
    "gradcheck": gradcheck.gradcheck,
    "compare-backends": compare.compare,
    "profile": profile.profile,
    "scale": scale.scale,
    "serve": serve.serve,
    "warmup": warmup.warmup,
    "info": info.info,
}


def in_paragraphs(text: str | None) -> str:
    """A docstring whose paragraphs are lines, so that a terminal breaks them where it ends.

    Lines that are indented, such as examples, stay as they are.
    """
    paragraphs = cleandoc(text or "").split("\n\n")
    return "\n\n".join(
        paragraph if paragraph.startswith(" ") else " ".join(paragraph.split())
        for paragraph in paragraphs
    )


for _name, _command in COMMANDS.items():
    app.command(_name, help=in_paragraphs(_command.__doc__))(_command)
app.add_typer(data.app, name="data")
