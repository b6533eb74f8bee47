"""Timing of several contestants in one run: interleaved rounds, medians with spread."""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

#: Seconds before each contestant: pools of threads of the one before spin on after its work. With
#: 0.02 s the engine on two threads measured 7.1 us a sample beside PyTorch, with 0.3 s 4.6.
PAUSE = 0.25


@dataclass(frozen=True)
class Timing:
    """What one call took.

    Attributes
    ----------
    median, low, high : float
        Seconds of a call: median, first and last decile over the rounds.
    rounds : int
    cores : float
        CPU seconds for each second of time: more than the threads that were asked for means
        that something else runs, or spins, beside.
    """

    median: float
    low: float
    high: float
    rounds: int
    cores: float


def measure(
    contestants: Mapping[str, Callable[[int], object]],
    *,
    rounds: int = 7,
    seconds: float = 0.15,
    pause: float = PAUSE,
) -> dict[str, Timing]:
    """Time contestants in turn, round after round, so that a machine's drift meets all alike.

    Parameters
    ----------
    contestants : mapping of str to function of int
        Each does its work the given number of times.
    rounds : int
        How often each is timed; the order turns round by one each time.
    seconds : float
        About how long one round of one contestant takes, if a single call is not longer.

    Returns
    -------
    dict of str to Timing
    """
    counts = {name: _repeats(run, seconds) for name, run in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(rounds):
        for name in order:
            time.sleep(pause)
            began, busy = time.perf_counter(), _cpu_seconds()
            contestants[name](counts[name])
            elapsed = time.perf_counter() - began
            times[name].append(elapsed / counts[name])
            cpu[name].append((_cpu_seconds() - busy) / elapsed)
        order = order[1:] + order[:1]
    return {name: _summary(times[name], cpu[name]) for name in contestants}


def _repeats(run: Callable[[int], object], seconds: float) -> int:
    """Warm up, and find how many calls fill a round."""
    count, elapsed = 1, 0.0
    run(1)
    while True:
        began = time.perf_counter()
        run(count)
        elapsed = time.perf_counter() - began
        if elapsed >= seconds / 4 or count >= 1 << 20:
            return max(1, math.ceil(count * seconds / max(elapsed, 1e-9)))
        count *= 4


def _cpu_seconds() -> float:
    usage = os.times()
    return usage.user + usage.system


def _summary(times: list[float], cpu: list[float]) -> Timing:
    low, median, high = np.quantile(times, (0.1, 0.5, 0.9))
    return Timing(float(median), float(low), float(high), len(times), float(np.median(cpu)))
