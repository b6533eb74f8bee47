"""``fastcnn bench``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from fastcnn.cli.screen import Screen

Kind = TypeVar("Kind", bound=StrEnum)
#: The benchmark suites.
Suite = StrEnum("Suite", "step zoo inference layer backward records all")


def one_of(suites: type[Kind], name: str) -> Kind:
    """The suite with a name."""
    from fastcnn.errors import ConfigurationError

    try:
        return suites(name)
    except ValueError:
        known = ", ".join(suites)
        raise ConfigurationError(f"no suite {name!r}: must be one of {known}; see --help") from None


def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUITE...",
            help="step, zoo, inference, layer, backward, all of these, or records; "
            "by default step.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="For step, zoo and inference; may be repeated.")
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(min=1, help="For step; may be repeated.")
    ] = None,
    recipe: Annotated[
        list[str] | None, typer.Option(help="For records; may be repeated; by default report.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="For records: number of training runs; by default 5.")
    ] = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(
            help="For layer: only convolutions, also by this algorithm, such as direct or "
            "winograd2d; may be repeated."
        ),
    ] = None,
    peers: Annotated[
        bool,
        typer.Option(
            help="Also measure PyTorch and ONNX Runtime, if installed.", show_default=False
        ),
    ] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only a few short rounds, to try it out.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for bench.json, bench.csv and the figures of --figures."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="For backward: show the code of each rung.")
    ] = False,
    sizes: Annotated[
        bool, typer.Option("--sizes", help="For backward: also time each operation by size.")
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures", help="Write figures to the folder of --out.")
    ] = False,
) -> None:
    """Measure the speed of fastcnn's backends, and of PyTorch if it is installed.

    step: a training step (forward, loss, backward, SGD with momentum).

    zoo: the same for many kinds of networks, from an MLP to ResNet-18.

    inference: a single image, and a thousand images.

    layer: single layers, forward and backward, with their share of the processor's peak.

    backward: a convolution's gradients from nested Python loops to the engine, rung by rung.

    records: whole training runs of recipes (see fastcnn recipes): accuracies and seconds.

    All contestants do the same work with the same weights and samples, taking turns. Contestants
    whose results differ are not timed. Times are medians, with the first and the last decile in
    brackets. "ratio" is the speed-up over PyTorch, or over im2col if PyTorch is missing; "apart" is
    the largest difference from im2col's results; both are relative to the nested loops in backward.
    "peak" is the share of the processor's multiply-add peak. The note after the title says whether
    two cores currently share a cache.

    Examples:

      fastcnn bench

      fastcnn bench step --model lenet5 --batch-size 64 --out results

      fastcnn bench layer --no-peers

      fastcnn bench layer --algorithm direct --algorithm winograd2d

      fastcnn bench records --recipe mnist-99 --seeds 3 --out results

      fastcnn bench backward --show --figures --out results
    """
    from fastcnn import conv_algorithm
    from fastcnn.benchmark.pytorch import PEERS
    from fastcnn.benchmark.records import this_command
    from fastcnn.benchmark.suites import SUITES, Scope, run_tables
    from fastcnn.errors import ConfigurationError
    from fastcnn.files import make_folder

    chosen = {one_of(Suite, name) for name in suites or ["step"]}
    if Suite.all in chosen:
        chosen = set(Suite) - {Suite.all, Suite.records}
    if batch_size and Suite.step not in chosen:
        raise ConfigurationError("--batch-size has no effect without the suite step")
    if model and not chosen & {Suite.step, Suite.zoo, Suite.inference}:
        raise ConfigurationError("--model has no effect without the suite step, zoo or inference")
    if (show or sizes) and Suite.backward not in chosen:
        option = "--show" if show else "--sizes"
        raise ConfigurationError(f"{option} has no effect without the suite backward")
    if algorithm and Suite.layer not in chosen:
        raise ConfigurationError("--algorithm has no effect without the suite layer")
    for name in algorithm or ():
        with conv_algorithm(name):  # refuses a name that is not known
            pass
    if (recipe or seeds) and Suite.records not in chosen:
        raise ConfigurationError("--recipe and --seeds have no effect without the suite records")
    if out is not None:
        make_folder(out)  # rather than fail after measuring
    console = Screen()
    if Suite.records in chosen:
        _records(recipe or ["report"], seeds or 5, out, console)
        chosen.remove(Suite.records)
        if not chosen:
            return
    contestants = PEERS if peers else ()
    scope = Scope(model or (), batch_size or (), contestants, quick, sizes, algorithm or ())
    tables = (table for name, make in SUITES.items() if name in chosen for table in make(scope))
    run_tables(
        tables, this_command(), console, quick=quick, out=out, figures=figures, show_code=show
    )


def _records(recipes: list[str], seeds: int, out: Path | None, console: Screen) -> None:
    """Train with recipes; with a folder, write records.json to it."""
    from fastcnn.benchmark.recipe_records import measure
    from fastcnn.benchmark.records import this_command

    for name in recipes:
        path = None if out is None else out / "records.json"
        measure(name, seeds, this_command(), path, console)
