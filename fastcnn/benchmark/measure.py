"""Timing of several contestants in one run: interleaved rounds, medians with spread."""

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

#: Maximum seconds of rest before each contestant: thread pools of the previous one spin on after
#: its work, PyTorch's for a millisecond, OpenBLAS' for a tenth of a second. After 0.02 s of rest
#: the engine on two threads measured 7.1 us per sample next to PyTorch, after 0.3 s 4.6.
PAUSE = 0.25
#: Seconds between checks for spinning threads, and the share of CPU time that counts as spinning.
REST, SPINS = 0.01, 0.1
#: Maximum calls per round.
MOST = 1 << 20
Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Timing:
    """The timing of one call.

    Attributes
    ----------
    median, low, high : float
        Seconds per call: median, first and last decile over the rounds.
    rounds : int
    cores : float
        CPU seconds per second of time: more than the number of threads means that other threads
        run, or spin, at the same time.
    times : ndarray of float64, shape (rounds,)
        Seconds per call in each round, in order.
    repeats : int
        Number of calls that were timed together.
    """

    median: float
    low: float
    high: float
    rounds: int
    cores: float
    times: np.ndarray
    repeats: int


def measure(
    contestants: Mapping[Key, Callable[[int], object]],
    *,
    rounds: int = 7,
    seconds: float = 0.15,
    pause: float = PAUSE,
    before: Callable[[], object] = lambda: None,
    most: int = MOST,
) -> dict[Key, Timing]:
    """Time contestants in turn, round after round, so that a machine's drift affects all equally.

    Parameters
    ----------
    contestants : mapping of any key to function of int
        Each repeats its work the given number of times.
    rounds : int
        Number of times each is timed; the order is rotated by one each time.
    seconds : float
        Approximate duration of one round of one contestant, unless a single call is longer.
    pause : float
        Maximum seconds of rest before each contestant: until no thread of this process computes.
    before : callable
        Called before each contestant is warmed up and before each round, untimed.
    most : int
        Maximum calls in one round of a contestant.

    Returns
    -------
    dict of key to Timing
    """
    counts = {}
    for name, run in contestants.items():
        before()
        counts[name] = _repeats(run, seconds, most)
    times: dict[Key, list[float]] = {name: [] for name in contestants}
    cpu: dict[Key, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(rounds):
        before()
        for name in order:
            rest(pause)
            began, busy = time.perf_counter(), _cpu_seconds()
            contestants[name](counts[name])
            elapsed = time.perf_counter() - began
            times[name].append(elapsed / counts[name])
            cpu[name].append((_cpu_seconds() - busy) / elapsed)
        order = order[1:] + order[:1]
    return {name: timing_of(times[name], cpu[name], counts[name]) for name in contestants}


def repeated(
    step: Callable[[], Made], within: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Callable[[int], Made]:
    """A contestant that repeats a step, and returns the result of the last one."""

    def run(times: int) -> Made:
        with within():
            for _ in range(times):
                made = step()
        return made

    return run


def rest(most: float) -> None:
    """Wait until no thread of this process computes any longer."""
    end = time.perf_counter() + most
    while time.perf_counter() < end:
        busy = _cpu_seconds()
        time.sleep(REST)
        if _cpu_seconds() - busy < SPINS * REST:
            return


def _repeats(run: Callable[[int], object], seconds: float, most: int) -> int:
    """Warm up, and determine how many calls fill a round."""
    count, elapsed = 1, 0.0
    run(1)
    while True:
        began = time.perf_counter()
        run(count)
        elapsed = time.perf_counter() - began
        if elapsed >= seconds / 4 or count >= most:
            return min(most, max(1, math.ceil(count * seconds / max(elapsed, 1e-9))))
        count = min(most, 4 * count)


def _cpu_seconds() -> float:
    return time.process_time()


def timing_of(times: list[float], cpu: Sequence[float] = (1.0,), repeats: int = 1) -> Timing:
    """The timing of a call, from its seconds in each round, and from its CPU seconds per second."""
    low, median, high = np.quantile(times, (0.1, 0.5, 0.9))
    return Timing(
        float(median),
        float(low),
        float(high),
        len(times),
        float(np.median(cpu)),
        np.array(times),
        repeats,
    )
