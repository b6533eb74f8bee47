"""Well-known networks on the engine, next to PyTorch: ``python -m bench.networks``.

Without options it checks all of them: whether the engine runs them, their gradients, and their
round trip through ONNX. ``--exporters`` reads the files of PyTorch's exporters. ``--time`` measures
training steps, which needs an idle machine. Each writes a JSON file, from which ``python -m
bench.write_page`` generates docs/networks.md.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.networks.check import check
from bench.networks.exporters import check_exporters
from bench.networks.tasks import TASKS, Task
from bench.networks.times import time_steps
from fastcnn.backends.lanes import default_threads
from fastcnn.benchmark.records import Records, this_command
from fastcnn.errors import ConfigurationError, FastcnnError

PROGRAM = "python -m bench.networks"
CHECKS, EXPORTERS, TIMES = "networks", "network-exporters", "network-times"


def main(
    model: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    exporters: Annotated[bool, typer.Option(help="Read PyTorch's ONNX files instead.")] = False,
    timed: Annotated[bool, typer.Option("--time", help="Measure steps instead.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of one network's timings.")] = 6.0,
    threads: Annotated[int | None, typer.Option(min=1, help="By default all cores.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Check or time networks; with --out, existing results of other networks are kept."""
    unknown = [name for name in model or () if name not in TASKS]
    if unknown:
        raise ConfigurationError(f"no network {unknown[0]!r}: choose of {', '.join(TASKS)}")
    count = default_threads() if threads is None else threads
    if exporters and timed:
        raise ConfigurationError("--exporters and --time are two measurements")
    measured: Callable[[Task], dict[str, Any]] = check_exporters if exporters else check
    if timed:
        measured = lambda task: time_steps(task, count, seconds)  # noqa: E731
    records = []
    for name in model or TASKS:
        began = time.perf_counter()
        records.append(measured(TASKS[name]))
        plain = {key: value for key, value in records[-1].items() if value != ""}
        print(f"{time.perf_counter() - began:.1f} s: {plain}", flush=True)
    if out is not None:
        suite = TIMES if timed else EXPORTERS if exporters else CHECKS
        print("written:", *write(records, suite, out, keep=bool(model)))


def write(
    records: list[dict[str, Any]], suite: str, folder: Path, *, keep: bool
) -> tuple[Path, ...]:
    """Write records in the order of the table; ``keep`` existing ones of other networks."""
    found = {record["network"]: record for record in records}
    path = folder / f"{suite}.json"
    if keep and path.is_file():
        found = {record["network"]: record for record in Records.read(path).records} | found
    ordered = [found[name] for name in TASKS if name in found]
    return Records(suite, this_command(PROGRAM), ordered).write(folder)


if __name__ == "__main__":
    try:
        typer.run(main)
    except FastcnnError as error:
        raise SystemExit(f"error: {error}") from None
