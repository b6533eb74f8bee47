"""``fastcnn profile``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastcnn.cli.arguments import ModelName
from fastcnn.cli.screen import Screen

if TYPE_CHECKING:
    from fastcnn.layers import Model


def profile(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help=f"{', '.join(ModelName)}, or the folder of a run."),
    ] = ModelName.report_cnn,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 64,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default all cores.")
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="Convolution algorithm to use wherever it fits, such as direct or winograd2d; by "
            "default the fastest of each convolution."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few rounds, to try it out.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the program without measuring.")
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option(help="Write the roofline picture to this .png, .svg or .pdf file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write profile-MODEL.json and .csv into this folder.")
    ] = None,
) -> None:
    """Time each kernel of a training step and compare it with the machine's measured peaks.

    Each row of the engine's program is timed in isolation and within the whole step, and compared
    with the measured peaks of multiply-adds and memory bandwidth.

    Examples:

      fastcnn profile

      fastcnn profile vgg_small --threads 1 --figure roofline.png --out benchmarks

      fastcnn profile lenet5 --plan

      fastcnn profile resnet8 --algorithm direct
    """
    import fastcnn
    from fastcnn.benchmark import profile as profiling
    from fastcnn.benchmark.records import this_command
    from fastcnn.benchmark.roofline import roofline_figure
    from fastcnn.files import make_folder
    from fastcnn.training.figure import figure_format, save_figure

    if figure is not None:
        figure_format(figure)
    network = _open(model)
    console = Screen()
    if plan:
        with fastcnn.conv_algorithm(algorithm):
            description = fastcnn.plan(network, batch_size, threads=threads).describe()
        console.print(description, soft_wrap=True)
        return
    if out is not None:
        make_folder(out)  # rather than fail after measuring
    with fastcnn.conv_algorithm(algorithm):
        result = profiling.profile(
            network, batch_size, threads=threads, name=Path(model).name, rounds=3 if quick else 11
        )
    console.print(result.table(), soft_wrap=True)
    if figure is not None:
        save_figure(roofline_figure(result), figure)
        console.say(f"picture: {figure}")
    if out is not None:
        path, _ = result.as_records(this_command(), quick).write(out)
        console.say(f"numbers: {path}")


def _open(model: str) -> "Model":
    """The network with a name, or that of a run."""
    from fastcnn.errors import ConfigurationError
    from fastcnn.models import MODELS
    from fastcnn.training import Run

    if model in MODELS:
        return MODELS[model](seed=0)
    if Path(model).exists():
        return Run.open(model).load_model()
    raise ConfigurationError(f"{model!r} is neither a run nor one of {', '.join(MODELS)}")
