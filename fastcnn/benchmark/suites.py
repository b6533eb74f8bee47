"""The suites of ``fastcnn bench``: what each measures, and how results are shown and written."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastcnn.backends.lanes import default_threads
from fastcnn.benchmark import backward, inference, ladder, layers, steps
from fastcnn.benchmark.environment import describe_environment
from fastcnn.benchmark.exchange import machine_state
from fastcnn.benchmark.figures import write_figures
from fastcnn.benchmark.peer import Peer
from fastcnn.benchmark.pytorch import PEERS
from fastcnn.benchmark.records import Records
from fastcnn.benchmark.results import Result, as_records, table_of
from fastcnn.benchmark.work import NETWORKS
from fastcnn.benchmark.zoo import ZOO
from fastcnn.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

#: Measures one table after the other.
Tables = Iterator[list[Result]]


@dataclass(frozen=True)
class Scope:
    """How much to measure.

    Attributes
    ----------
    networks : sequence of str
        For the suites step and inference; by default all of the benchmark's networks.
    batches : sequence of int
        For the suite step; by default 64 and 16.
    peers : sequence of Peer
        Other libraries to include, if they work.
    quick : bool
        A few short rounds, as a trial.
    sizes : bool
        Whether the suite backward also measures each operation over sizes.
    algorithms : sequence of str
        For the suite layer: only convolutions, also by each of these algorithms of the engine.
    """

    networks: Sequence[str] = ()
    batches: Sequence[int] = ()
    peers: Sequence[Peer] = PEERS
    quick: bool = False
    sizes: bool = False
    algorithms: Sequence[str] = ()

    @property
    def threads(self) -> tuple[int, ...]:
        """One, and the engine's default."""
        return tuple(sorted({1, default_threads()}))

    @property
    def rounds(self) -> int:
        """Rounds of the suites step and inference."""
        return 2 if self.quick else 5

    @property
    def seconds(self) -> float:
        """Minimum duration of one of their measurements."""
        return 0.02 if self.quick else 0.12

    @property
    def names(self) -> Sequence[str]:
        """The networks to measure."""
        return self.networks or (["report_cnn"] if self.quick else NETWORKS)


def step_tables(scope: Scope) -> Tables:
    """Whole training steps."""
    for name in scope.names:
        for batch in scope.batches or ([16] if scope.quick else [64, 16]):
            yield steps.bench_steps(
                name,
                batch,
                threads=scope.threads,
                peers=scope.peers,
                rounds=scope.rounds,
                seconds=scope.seconds,
            )


def inference_tables(scope: Scope) -> Tables:
    """Predictions of one image and of a thousand."""
    for name in scope.names:
        for batch, rounds in ((1, scope.rounds), (1000, min(scope.rounds, 3))):
            yield inference.bench_inference(
                name,
                batch,
                threads=scope.threads,
                peers=bool(scope.peers),
                rounds=rounds,
                seconds=scope.seconds,
            )


def layer_tables(scope: Scope) -> Tables:
    """Single layers, forward and backward."""
    some = list(layers.cases())
    if scope.algorithms:
        some = [case for case in some if case.operation in ("conv2d", "conv_transpose2d")]
    for case in some[:: 5 if scope.quick else 1]:
        yield layers.bench_layers(
            threads=scope.threads,
            chosen=[case],
            algorithms=scope.algorithms,
            peers=scope.peers,
            rounds=2 if scope.quick else 3,
            seconds=0.03,
        )


def zoo_tables(scope: Scope) -> Tables:
    """Training steps of the networks of the zoo, each at its batch size."""
    for name in scope.networks or (["lenet_tanh", "mlp"] if scope.quick else list(ZOO)):
        yield steps.bench_steps(
            name,
            ZOO[name][1] if name in ZOO else 64,
            threads=scope.threads,
            backends=("lanes",),
            peers=scope.peers,
            rounds=2 if scope.quick else 3,
            seconds=scope.seconds,
            suite="zoo",
        )


def backward_tables(scope: Scope) -> Tables:
    """Naive and fast gradients: a convolution rung by rung, and each operation over sizes."""
    rounds, seconds = (2, 0.01) if scope.quick else (7, 0.05)
    yield ladder.bench_ladder(threads=scope.threads, rounds=rounds, seconds=seconds)
    if scope.sizes:
        some = list(backward.cases())[:: 8 if scope.quick else 1]
        yield backward.bench_backward(chosen=some, rounds=2 if scope.quick else 5)


#: The suites of ``fastcnn bench`` by name.
SUITES: dict[str, Callable[[Scope], Tables]] = {
    "step": step_tables,
    "zoo": zoo_tables,
    "inference": inference_tables,
    "layer": layer_tables,
    "backward": backward_tables,
}


def run_tables(
    tables: Tables,
    command: str,
    console: "Console",
    *,
    quick: bool = False,
    out: Path | None = None,
    figures: bool = False,
    show_code: bool = False,
) -> None:
    """Measure tables one after the other, show each, and write all of them.

    Parameters
    ----------
    command : str
        The command that repeats the measurement, for the record.
    quick : bool
        Whether it is a trial run, for the record.
    out : path, optional
        Folder of ``bench.json`` and ``bench.csv``.
    figures : bool
        Also draw figures into ``out``.
    show_code : bool
        Print the code of a ladder's rungs.

    Raises
    ------
    ConfigurationError
        If figures are requested without a folder.
    """
    if figures and out is None:
        raise ConfigurationError("--figures needs a folder: --out FOLDER")
    began, environment = time.perf_counter(), describe_environment()
    console.print(", ".join(f"{key} {value}" for key, value in environment.items()))
    results: list[Result] = []
    before = machine_state()
    for made in tables:
        after = machine_state()
        state = before if after == before else f"{before}, then {after}"
        made = [replace(result, state=state) for result in made]
        show(console, made, code=show_code)
        results += made
        before = machine_state()
    if out is None or not results:
        return
    summary = {"seconds": round(time.perf_counter() - began, 1)}
    records = Records(
        "bench", command, as_records(results), summary, quick, environment=environment
    )
    written = [*records.write(out), *(write_figures(results, out) if figures else ())]
    console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)


def show(console: "Console", results: Sequence[Result], *, code: bool = False) -> None:
    """Print results as tables, one for each work."""
    tables: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        state = f" ({result.state})" if result.state else ""
        title = f"{result.suite}: {result.work}, batch {result.batch}{state}"
        tables.setdefault((title, result.unit), []).append(result)
    for (title, unit), rows in tables.items():
        climbs = rows[0].suite == "ladder"
        text = ladder.ladder_table(rows, show=code) if climbs else table_of(title, unit, rows)
        console.print(f"\n{text}", soft_wrap=True, markup=False)
