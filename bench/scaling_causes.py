"""Why a step along an axis of scaling costs more than an earlier one: changes in its program."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from fastcnn.backends.lanes import default_threads
from fastcnn.benchmark.peaks import cache_sizes
from fastcnn.codegen.simd import LANES
from fastcnn.execution import plan
from fastcnn.layers import Model

#: Share of all cores that other programs may use before they are reported.
QUIET = 0.1


@dataclass(frozen=True)
class Case:
    """One point of an axis, to be measured.

    Attributes
    ----------
    work : float
        Divisor of the cost of one sample.
    threads : int or None
        None lets training choose the number.
    """

    model: Model
    batch: int
    work: float = 1.0
    threads: int | None = None


@dataclass(frozen=True)
class Shape:
    """Properties of a case's program that may make it more expensive than another.

    Attributes
    ----------
    lanes : float
        Share of lanes that hold a sample.
    block : int
        Maximum bytes that a row reads and writes for one block of samples.
    parameters : int
        Bytes of the parameters.
    program : int
        Bytes of all memory that a step accesses.
    rest : int
        Blocks that remain when each thread has the same number.
    phases : int
        Barriers of all threads per step.
    """

    lanes: float
    block: int
    parameters: int
    program: int
    rest: int
    phases: int
    threads: int


def shape_of(case: Case) -> Shape:
    """The properties of a case's program."""
    program = plan(case.model, case.batch, threads=case.threads)
    blocks = -(-case.batch // LANES)
    largest = max(cost.bytes for cost in program.costs())
    return Shape(
        case.batch / (blocks * LANES),
        largest // blocks,
        4 * case.model.num_parameters,
        program.bytes,
        blocks % program.workers,
        len(program.phases),
        program.workers,
    )


def explain(case: Case, best: Case, backend: str, others: float = 0.0) -> str:
    """What changed between the cheapest earlier case and a more expensive one.

    Parameters
    ----------
    others : float
        Cores used by other programs during the measurement.
    """
    reasons = []
    facts = []
    if backend == "lanes":
        now, then = shape_of(case), shape_of(best)
        caches = cache_sizes()
        if now.lanes < then.lanes - 0.02:
            reasons.append(
                f"{100 * now.lanes:.0f} % of the lanes hold a sample, before it "
                f"{100 * then.lanes:.0f} %"
            )
        second, last = ("L2", "second-level"), ("L3", "last")
        for name, size, earlier, (level, word) in (
            ("what a row touches for a block", now.block, then.block, second),
            ("the parameters", now.parameters, then.parameters, second),
            ("all that a step touches", now.program, then.program, last),
        ):
            text = f"{name}: {size / 2**20:.1f} MiB (before {earlier / 2**20:.1f}), "
            limit = f"the {word} cache of {caches[level] / 2**20:.1f} MiB"
            if size > caches[level] > earlier:
                reasons.append(f"{text}beyond {limit}")
            elif size != earlier:
                facts.append(f"{text}{size / caches[level]:.0%} of {limit}")
        if now.threads > then.threads:
            reasons.append(
                f"{now.threads} threads wait for each other {now.phases} times a step and fetch "
                "from each other's caches what the others wrote"
            )
        if now.rest and not then.rest and now.threads > 1:
            reasons.append(
                f"{now.rest} of the blocks cannot be given to a thread of its own: all threads "
                "share it row by row"
            )
    cores = default_threads()
    busy = f"other programs took {others:.1f} of {cores} cores meanwhile"
    if others > QUIET * cores:
        reasons.append(busy)
    if reasons:
        return "; ".join(reasons)
    return "; ".join(
        [
            "it rose in each measurement without passing a limit of the program or a cache",
            *facts,
            busy,
        ]
    )


class OtherPrograms:
    """How many cores other programs use, from now on.

    The system's busy time of all processors, minus that of this process.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter(), _busy_seconds(), time.process_time()

    def cores(self) -> float:
        """Their mean number of cores; 0 if the system does not report it."""
        began, busy, own = self._began
        elapsed = time.perf_counter() - began
        others = _busy_seconds() - busy - (time.process_time() - own)
        return max(0.0, others / elapsed) if elapsed > 0.0 and busy else 0.0


def _busy_seconds() -> float:
    """Busy seconds of all processors since the system's start; 0 if it does not report them."""
    try:
        first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()
        user, nice, system, _, _, irq, softirq, steal = map(int, first[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
