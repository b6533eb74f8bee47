"""All measurements of docs/benchmarks.md: ``python -m bench`` in a checkout.

``make bench-report`` runs them all and writes the page.
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import accuracy, processes, records, scaling
from bench.peers import PEERS
from bench.scaling_figure import scaling_figure
from fastcnn.backends.lanes import default_threads
from fastcnn.benchmark.records import Records, this_command
from fastcnn.benchmark.suites import SUITES, Scope, Tables, run_tables
from fastcnn.cli import run
from fastcnn.cli.app import in_paragraphs
from fastcnn.cli.bench import one_of
from fastcnn.data import load, load_default
from fastcnn.errors import ConfigurationError
from fastcnn.training.figure import save_figure

PROGRAM = "python -m bench"


def startup_tables(scope: Scope) -> Tables:
    """Imports and first gradients of fresh processes."""
    yield processes.bench_startup(peers=bool(scope.peers), rounds=1 if scope.quick else 3)


def process_tables(scope: Scope) -> Tables:
    """Whole training runs."""
    source, _ = _sources()
    rounds = 1 if scope.quick else 3
    yield processes.bench_process(source, peers=bool(scope.peers), rounds=rounds)


def accuracy_tables(scope: Scope) -> Tables:
    """Seconds to an accuracy."""
    three, ten = _sources()
    trained = [(three, "report_cnn", 2), (ten, "lenet5", 5)]
    for data, name, epochs in trained[: 1 if scope.quick else 2]:
        yield accuracy.bench_accuracy(
            name,
            *load(data),
            peers=bool(scope.peers),
            seeds=(0,) if scope.quick else (0, 1, 2),
            epochs=epochs,
        )


def _sources() -> tuple[str, str]:
    """MNIST's digits 0, 1, 2 and all of MNIST; if it is missing, drawn digits with a warning."""
    *_, missing = load_default()
    if missing:
        console = Console(highlight=False)
        console.print(f"{missing} (figures are of that data)", style="yellow", soft_wrap=True)
        return "digits012", "digits"
    return "mnist012", "mnist"


OWN_SUITES: dict[str, Callable[[Scope], Tables]] = {
    "accuracy": accuracy_tables,
    "startup": startup_tables,
    "process": process_tables,
}
Suite = StrEnum("Suite", "step zoo inference layer backward accuracy startup process scaling all")


def main(
    suites: Annotated[list[str], typer.Argument(metavar="SUITE...", help=f"{', '.join(Suite)}.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Model of step and inference; may be repeated.")
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(min=1, help="Batch of step; may be repeated.")
    ] = None,
    peers: Annotated[
        bool,
        typer.Option(help="Measure PyTorch, JAX, TensorFlow and tinygrad, too, where they work."),
    ] = True,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            help="Axis of scaling: batch, threads, threads-vgg, image-size, channels, depth; may "
            "be repeated."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Few short rounds: to try it out.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for results and figures.")] = None,
) -> None:
    """Measure this project next to other libraries, for its own pages.

    The suites of fastcnn bench with all libraries, and these:

    accuracy: seconds until 95, 98 and 99 % of the test images are right.

    startup: import and first gradient of fresh processes, cold and warm, and their memory.

    process: a whole fastcnn train.

    scaling: cost and memory along batch, threads, image size, channels and depth; a rising cost is
    flagged.

    python -m bench records has its own options.

    Example: python -m bench step layer --quick --out results
    """
    chosen = {one_of(Suite, name) for name in suites}
    if Suite.all in chosen:
        chosen = set(Suite) - {Suite.all}
    if axis and Suite.scaling not in chosen:
        raise ConfigurationError("--axis has no effect without the suite scaling")
    console = Console(highlight=False)
    if Suite.scaling in chosen:
        measure_scaling(axis, quick, out, console)
        chosen.remove(Suite.scaling)
    if chosen:
        scope = Scope(model or (), batch_size or (), PEERS if peers else (), quick, sizes=True)
        makers = SUITES | OWN_SUITES
        tables = (table for name, make in makers.items() if name in chosen for table in make(scope))
        figures = out is not None
        run_tables(tables, this_command(PROGRAM), console, quick=quick, out=out, figures=figures)


def measure_scaling(
    axis: list[str] | None, quick: bool, out: Path | None, console: Console
) -> None:
    """Measure scaling, and write separate records of it."""
    known = scaling.axes(default_threads())
    for name in axis or ():
        if name not in known:
            raise ConfigurationError(f"no axis named {name!r}: choose of {', '.join(known)}")
    rounds, seconds = (3, 0.003) if quick else (9, 0.03)
    results = []
    for name in axis or known:
        values = known[name].quick if quick else None
        results.append(scaling.scale(known[name], values=values, rounds=rounds, seconds=seconds))
        console.print(results[-1].table() + "\n", soft_wrap=True, markup=False)
    if out is None:
        return
    records = [record for result in results for record in result.as_records()]
    written = [*Records("scaling", this_command(PROGRAM), records, quick=quick).write(out)]
    written.append(out / "scaling.png")
    save_figure(scaling_figure(results), written[-1])
    console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)


def application(arguments: list[str]) -> typer.Typer:
    """The application of one command; removes the name of another command from the arguments."""
    command: Callable[..., None] = main
    if arguments[:1] == ["records"]:
        del arguments[0]
        command = records.main
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(help=in_paragraphs(command.__doc__))(command)
    return app


if __name__ == "__main__":
    run(application)
