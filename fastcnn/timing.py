"""Timing of several contestants in one run: interleaved rounds, medians with spread."""

import math
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

#: Maximum seconds of rest before each contestant: thread pools of the previous one spin on after
#: its work, PyTorch's for a millisecond, OpenBLAS' for a tenth of a second. After 0.02 s of rest
#: the engine on two threads measured 7.1 us per sample next to PyTorch, after 0.3 s 4.6.
PAUSE = 0.25
#: Seconds between checks for spinning threads, and the share of CPU time that counts as spinning.
REST, SPINS = 0.01, 0.1
#: Maximum calls per round, and minimum rounds of what may take no longer than some seconds.
MOST, FEWEST = 1 << 20, 3
Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Timing:
    """The timing of one call.

    Attributes
    ----------
    times : sequence of float
        Seconds per call in each round, in order.
    cores : float
        CPU seconds per second of time, median: more than the number of threads means that other
        threads run, or spin, at the same time.
    repeats : int
        Number of calls that were timed together.
    """

    times: Sequence[float]
    cores: float = 1.0
    repeats: int = 1

    @property
    def rounds(self) -> int:
        """The number of rounds."""
        return len(self.times)

    @property
    def least(self) -> float:
        """Seconds per call of the shortest round."""
        return min(self.times)

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return float(np.median(self.times))

    @property
    def low(self) -> float:
        """First decile of the rounds."""
        return float(np.quantile(self.times, 0.1))

    @property
    def high(self) -> float:
        """Last decile of the rounds."""
        return float(np.quantile(self.times, 0.9))


def measure(
    contestants: Mapping[Key, Callable[[int], object]],
    *,
    rounds: int = 7,
    seconds: float = 0.15,
    pause: float = PAUSE,
    most: int = MOST,
    longest: float = math.inf,
    before: Callable[[], object] = lambda: None,
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
    most : int
        Maximum calls in one round of a contestant.
    longest : float
        Seconds after which no further round begins, if there were three.
    before : callable
        Called before each turn of a contestant, untimed.

    Returns
    -------
    dict of key to Timing
    """
    counts = {name: _repeats(run, seconds, most) for name, run in contestants.items()}

    def turn(name: Key) -> tuple[float, float]:
        rest(pause)
        before()
        busy = _cpu_seconds()
        _, elapsed = timed(partial(contestants[name], counts[name]))
        return elapsed / counts[name], (_cpu_seconds() - busy) / max(elapsed, 1e-9)

    turns = in_turns({name: partial(turn, name) for name in contestants}, rounds, longest)
    return {
        name: Timing(
            [spent for spent, _ in own], float(np.median([cpu for _, cpu in own])), counts[name]
        )
        for name, own in turns.items()
    }


def in_turns(
    calls: Mapping[Key, Callable[[], Made]], rounds: int, longest: float = math.inf
) -> dict[Key, list[Made]]:
    """What each of some calls returned, in rounds in which the first one changes.

    After ``longest`` seconds no further round begins, if there were three.
    """
    found: dict[Key, list[Made]] = {name: [] for name in calls}
    order, end = list(calls), time.perf_counter() + longest
    for number in range(rounds):
        if number >= FEWEST and time.perf_counter() > end:
            break
        for name in order:
            found[name].append(calls[name]())
        order = order[1:] + order[:1]
    return found


def timed(call: Callable[[], Made]) -> tuple[Made, float]:
    """What a call returns, and its seconds."""
    began = time.perf_counter()
    made = call()
    return made, time.perf_counter() - began


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


def together(runs: Sequence[Callable[[int], object]]) -> Callable[[int], None]:
    """A contestant that runs each of some others on a thread of its own, the first on this one."""

    def run(times: int) -> None:
        others = [threading.Thread(target=other, args=(times,)) for other in runs[1:]]
        for thread in others:
            thread.start()
        runs[0](times)
        for thread in others:
            thread.join()

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
    run(1)
    count = 1
    while count < most:
        _, elapsed = timed(partial(run, count))
        if elapsed >= seconds / 4:
            return min(most, max(1, math.ceil(count * seconds / max(elapsed, 1e-9))))
        count *= 4
    return most


def _cpu_seconds() -> float:
    return time.process_time()
