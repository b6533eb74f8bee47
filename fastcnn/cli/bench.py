"""``fastcnn bench``."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from fastcnn.benchmark.results import Result


class Suite(StrEnum):
    """What can be measured."""

    step = "step"
    inference = "inference"
    layer = "layer"
    backward = "backward"
    accuracy = "accuracy"
    startup = "startup"
    process = "process"
    scaling = "scaling"
    all = "all"


def bench(
    suites: Annotated[
        list[Suite] | None, typer.Argument(help="What to measure; by default step.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Network of step and inference; may be repeated.")
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(min=1, help="Batch of step; may be repeated.")
    ] = None,
    peers: Annotated[
        bool,
        typer.Option(help="Measure PyTorch, JAX, TensorFlow and tinygrad too, where installed."),
    ] = True,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            help="Axis of scaling: batch, threads, threads-vgg, image-size, channels, depth; may "
            "be repeated."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Few short rounds: to try it out.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for bench.json and bench.csv, with --figures figures."),
    ] = None,
    figures: Annotated[bool, typer.Option(help="Draw figures into the folder of --out.")] = False,
) -> None:
    """Measure fastcnn's backends and, where installed, PyTorch and others, side by side in one run.

    All contestants of a table do the same work from the same weights on the same samples; what
    they compute is compared before anything is timed, and who computes something else is not
    timed. They take turns, round after round; figures are medians with first and last decile.

    Suites: step (a training step: forward, loss, backward, SGD with momentum), inference (one
    image, a thousand images), layer (single layers, forward and backward, with their share of the
    processor's rate of multiply-adds), backward (naive against fast gradients of each operation),
    accuracy (seconds to 95, 98, 99 %), startup (import and first gradient of fresh processes, cold
    and warm, and their memory), process (a whole `fastcnn train`), scaling (cost and memory along
    batch, threads, image size, channels and depth; a cost that rises is flagged).

    Examples:

      fastcnn bench

      fastcnn bench step --network lenet5 --batch-size 64 --out results

      fastcnn bench layer --no-peers

      fastcnn bench backward --figures --out results

      fastcnn bench scaling --axis batch --axis depth

      fastcnn bench all --out results
    """
    from fastcnn.benchmark.environment import describe_environment
    from fastcnn.benchmark.records import this_command
    from fastcnn.benchmark.results import Report
    from fastcnn.errors import ConfigurationError

    began = time.perf_counter()
    if figures and out is None:
        raise ConfigurationError("--figures needs a folder: --out FOLDER")
    console = Console(highlight=False)
    environment = describe_environment()
    console.print(", ".join(f"{key} {value}" for key, value in environment.items()))
    chosen = set(suites or [Suite.step])
    if Suite.all in chosen:
        chosen = set(Suite) - {Suite.all}
    if Suite.scaling in chosen:
        _scale(axis, quick, out, figures, console)
    chosen.discard(Suite.scaling)
    results: list[Result] = []
    for suite in Suite:
        if suite in chosen:
            for work in _works(suite, network, batch_size, peers, quick, console):
                made = work()
                _print(console, made)
                results += made
    if out is not None and chosen:
        report = Report(
            this_command(), datetime.now(UTC).isoformat("T", "seconds"), environment, results,
            quick, time.perf_counter() - began,
        )  # fmt: skip
        written: tuple[Path, ...] = report.write(out)
        if figures:
            from fastcnn.benchmark.figures import write_figures

            written = (*written, *write_figures(report, out))
        console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)


def _scale(
    axis: list[str] | None, quick: bool, out: Path | None, figures: bool, console: Console
) -> None:
    """Measure scaling, and write it as records of its own."""
    from fastcnn.backends.lanes.engine import default_threads
    from fastcnn.benchmark.records import Records, this_command
    from fastcnn.benchmark.scaling import axes, scale
    from fastcnn.benchmark.scaling_figure import scaling_figure
    from fastcnn.errors import ConfigurationError
    from fastcnn.training.curves import save_figure

    known = axes(default_threads())
    for name in axis or ():
        if name not in known:
            raise ConfigurationError(f"no axis named {name!r}: choose of {', '.join(known)}")
    rounds, seconds = (3, 0.003) if quick else (9, 0.03)
    results = []
    for name in axis or known:
        values = known[name].quick if quick else None
        results.append(scale(known[name], values=values, rounds=rounds, seconds=seconds))
        console.print(results[-1].table() + "\n", soft_wrap=True, markup=False)
    if out is None:
        return
    records = [record for result in results for record in result.as_records()]
    written: tuple[Path, ...] = Records("scaling", this_command(), records, quick=quick).write(out)
    if figures:
        written = (*written, out / "scaling.png")
        save_figure(scaling_figure(results), written[-1])
    console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)


def _works(
    suite: Suite,
    network: list[str] | None,
    batch_size: list[int] | None,
    peers: bool,
    quick: bool,
    console: Console,
) -> "list[Callable[[], list[Result]]]":
    """The tables of a suite, each as a function that measures it."""
    from fastcnn.backends.lanes.engine import default_threads
    from fastcnn.benchmark import accuracy, backward, inference, layers, processes, steps
    from fastcnn.benchmark.work import networks

    most = default_threads()
    threads = (1,) if most == 1 else (1, most)
    names = network or (["report_cnn"] if quick else list(networks()))
    rounds, seconds = (2, 0.02) if quick else (5, 0.12)
    measured: dict[str, Any] = {
        "threads": threads,
        "peers": peers,
        "rounds": rounds,
        "seconds": seconds,
    }
    if suite is Suite.step:
        return [
            partial(steps.bench_steps, name, batch, **measured)
            for name in names
            for batch in batch_size or ([16] if quick else [64, 16])
        ]  # fmt: skip
    if suite is Suite.inference:
        return [
            partial(inference.bench_inference, name, batch, **measured | {"rounds": most_rounds})
            for name in names
            for batch, most_rounds in ((1, rounds), (1000, min(rounds, 3)))
        ]
    if suite is Suite.layer:
        cases = list(layers.cases())[:: 5 if quick else 1]
        return [
            partial(layers.bench_layers, threads=threads, chosen=[case],
                    libraries=layers.PEERS if peers else (), rounds=2 if quick else 3,
                    seconds=0.03)
            for case in cases
        ]  # fmt: skip
    if suite is Suite.backward:
        some = list(backward.cases())[:: 8 if quick else 1]
        return [partial(backward.bench_backward, chosen=some, rounds=2 if quick else 5)]
    if suite is Suite.startup:
        return [partial(processes.bench_startup, peers=peers, rounds=1 if quick else 3)]
    from fastcnn.data import load, load_default

    *_, missing = load_default()
    if missing:
        console.print(f"{missing} (figures are of that data)", style="yellow", soft_wrap=True)
    if suite is Suite.process:
        source = "digits012" if missing else "mnist012"
        return [partial(processes.bench_process, source, peers=peers, rounds=1 if quick else 3)]
    sources = ("digits012", "digits") if missing else ("mnist012", "mnist")
    trained = [(sources[0], "report_cnn", 2), (sources[1], "lenet5", 5)]
    return [
        partial(
            accuracy.bench_accuracy,
            name,
            *load(data),
            peers=peers,
            seeds=(0,) if quick else (0, 1, 2),
            epochs=epochs,
        )
        for data, name, epochs in trained[: 1 if quick else 2]
    ]


def _print(console: Console, results: "list[Result]") -> None:
    from fastcnn.benchmark.results import contestants_table

    tables: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        alone = result.suite in ("step", "inference", "layer", "process")
        title = f"{result.suite}: {result.work}, batch {result.batch}" if alone else result.suite
        tables.setdefault((title, result.unit), []).append(result)
    for (title, unit), rows in tables.items():
        if len({row.work for row in rows}) > 1:
            _print_list(console, title, unit, rows)
            continue
        text = contestants_table(title, unit, rows)
        console.print(f"\n{text}", soft_wrap=True, markup=False)


def _print_list(console: Console, title: str, unit: str, rows: "list[Result]") -> None:
    """Many works with few contestants each: lines, which fit a narrow terminal."""
    from fastcnn.benchmark.results import table_rows

    console.print(f"\n{title} ({unit})", style="bold")
    work = ""
    for row, (name, _, spread, ratio, difference, note) in zip(rows, table_rows(rows), strict=True):
        batch = f", batch {row.batch}" if row.suite == "backward" else ""
        if row.work + batch != work:
            work = row.work + batch
            console.print(work, soft_wrap=True)
        faster = f"{ratio} times the reference" if ratio and row.ratio != 1.0 else ""
        apart = f"differs by {difference}" if difference else ""
        parts = "  ".join(part for part in (faster, apart, note) if part)
        console.print(f"    {name:22s} {spread:24s} {parts}", soft_wrap=True)
