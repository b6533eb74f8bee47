"""A table of a benchmark: contestants are compared, those that are right are timed in turns."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from fastcnn.benchmark.peaks import measured_flops
from fastcnn.benchmark.results import Result
from fastcnn.timing import PAUSE, Timing, measure, timed

log = logging.getLogger("fastcnn.bench")

BASELINE = "im2col"
NAN = float("nan")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Compared:
    """A contestant whose results have been compared.

    Attributes
    ----------
    difference : float or None
        Largest difference from the expected results; None for these.
    run : function of int, optional
        Repeats the work.
    why : str
        Why the contestant is not timed; empty if it is.
    timing : Timing, optional
        If the contestant is too slow to be repeated, and was timed while it was compared.
    """

    difference: float | None
    run: Callable[[int], object] = lambda times: None
    why: str = ""
    timing: Timing | None = None

    def within(self, limit: float, what: str = "differs") -> "Compared":
        """The same, not timed if the difference is larger than a limit."""
        if self.difference is None or self.difference <= limit:
            return self
        return replace(self, why=f"not timed: {what} by {self.difference:.1e}")


def timed_on_few(call: Callable[[], Made], few: int, batch: int) -> tuple[Made, Timing]:
    """What a call on few samples returns, and its timing for a batch: of the nested loops."""
    call()  # the first one may import
    made, seconds = timed(call)
    return made, Timing([seconds * batch / few])


#: Name, threads, and what makes and compares a contestant.
Contestant = tuple[str, int, Callable[[], Compared]]


def compete(
    contestants: Iterable[Contestant],
    *,
    bases: Sequence[str | tuple[str, ...]] = ("PyTorch", BASELINE),
    scale: float,
    flops: float = 0.0,
    rounds: int,
    seconds: float,
    pause: float = PAUSE,
    **names: Any,
) -> list[Result]:
    """Compare contestants, and time those that are right.

    Parameters
    ----------
    bases : sequence of str or tuple of str
        Beginnings of names: ratios are to the fastest contestant of the first that has any.
    scale : float
        Units in a second.
    flops : float
        Floating-point operations of a call, for the rate and its share of the peak.
    **names
        Fields of all results.

    Returns
    -------
    list of Result
        In the order of the contestants.
    """
    entered: dict[tuple[str, int], Compared] = {}
    for name, threads, make in contestants:
        try:
            entered[name, threads] = make()
        except Exception as error:  # a peer's failure is a result, not the benchmark's end
            why = f"failed: {' '.join(str(error).split())[:80]}"
            log.warning("%s: %s", name, error)
            entered[name, threads] = Compared(None, why=why)
    right = {key: entry for key, entry in entered.items() if not entry.why}
    runs = {key: entry.run for key, entry in right.items() if entry.timing is None}
    timings = measure(runs, rounds=rounds, seconds=seconds, pause=pause)
    timings |= {key: entry.timing for key, entry in right.items() if entry.timing is not None}
    medians = [
        [timing.median for (name, _), timing in timings.items() if name.startswith(base)]
        for base in bases
    ]
    base = min(next(filter(None, medians), [NAN]))
    peak = measured_flops(tuple(sorted({count for _, count in timings}))) if flops else {}
    results = []
    for (name, threads), entry in entered.items():
        found = names | {"contestant": name, "threads": threads}
        timing = timings.get((name, threads))
        if timing is None:
            results.append(Result(median=NAN, low=NAN, high=NAN, rounds=0, note=entry.why, **found))
            continue
        rate = flops / timing.median if flops else None
        results.append(
            Result(
                median=timing.median * scale,
                low=timing.low * scale,
                high=timing.high * scale,
                rounds=timing.rounds,
                cores=timing.cores,
                ratio=None if np.isnan(base) else base / timing.median,
                difference=entry.difference,
                rate=rate,
                share=rate and rate / peak[threads],
                **found,
            )
        )
    return results
