"""The shortest call of each contestant, measured in turns: that of an otherwise idle machine."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from fastcnn.timing import rest

#: Seconds of a turn before calls are timed, and while they are; minimum calls of a turn.
WARM, TURN, CALLS = 0.008, 0.006, 3
#: Maximum seconds to wait for a contestant's threads to end after its turn.
PAUSE = 0.5


def shortest(
    contestants: Sequence[Callable[[], Any]], seconds: float, threads: int = 1
) -> list[float]:
    """Seconds of the shortest call of each contestant, measured within some seconds.

    On one thread they are the thread's own CPU time.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    found = [float("inf")] * len(contestants)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for index, run in enumerate(contestants):
            rest(PAUSE)
            now = time.perf_counter()
            while time.perf_counter() < now + WARM:
                run()
            now, calls = time.perf_counter(), 0
            while calls < CALLS or time.perf_counter() < now + TURN:
                began = clock()
                run()
                found[index] = min(found[index], clock() - began)
                calls += 1
    return found
