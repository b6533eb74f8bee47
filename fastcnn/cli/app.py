"""The application: its commands and what they share."""

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


app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("study")(study.study)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("compare")(compare_runs.compare_runs)
app.command("sweep")(sweep.sweep)
app.command("bench")(bench.bench)
app.command("gradcheck")(gradcheck.gradcheck)
app.command("compare-backends")(compare.compare)
app.command("profile")(profile.profile)
app.command("scale")(scale.scale)
app.command("serve")(serve.serve)
app.command("warmup")(warmup.warmup)
app.command("info")(info.info)
app.add_typer(data.app, name="data")
