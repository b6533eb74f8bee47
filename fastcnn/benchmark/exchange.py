"""Whether two cores share a cache: the cost of a line that one writes and the other reads.

Virtual machines may move their cores at any time. Small steps on two threads take 1.5 times as long
if the cores share no cache, so results include the state in which they were measured.
"""

from collections.abc import Callable

import numpy as np

from fastcnn.benchmark.peaks import time_together
from fastcnn.codegen import compiled
from fastcnn.codegen.threads import PATIENCE, SPINS, barrier
from fastcnn.cores import available_cores, take_core

#: Floats shared by two threads, which fit in a second-level cache, and their cache lines.
FLOATS = 176 * 256
LINES = FLOATS // 16
#: Rounds of a measurement, and number of measurements, of which the fastest counts.
ROUNDS, TRIALS = 300, 3
#: Up to this ratio to the time of a thread's own half, the other half comes from a shared cache.
SHARED = 1.6
#: From this ratio to the time of a single thread, another process is using one of the cores.
BUSY = 1.5


@compiled("out float32[:]", "out float32[:]", "out int64[:]", *["int64"] * 4)
def _exchange(
    shared: np.ndarray,
    sums: np.ndarray,
    sync: np.ndarray,
    thread: int,
    threads: int,
    rounds: int,
    crossed: int,
) -> None:
    """Write one half and read the same one or, if ``crossed``, the other thread's, repeatedly."""
    half = len(shared) // 2
    for k in range(rounds):
        first = thread * half
        for i in range(first, first + half):
            shared[i] = np.float32(k + i)
        if not barrier(sync, threads):
            return
        first = (1 - thread if crossed else thread) * half
        total = np.float32(0)
        for i in range(first, first + half, 16):
            total += shared[i]
        sums[thread] = total
        if not barrier(sync, threads):
            return


def _seconds(threads: int, crossed: bool) -> float:
    """Seconds per round."""
    shared, sums = np.zeros(FLOATS, np.float32), np.zeros(2, np.float32)
    sync = np.zeros(16, np.int64)
    sync[PATIENCE] = SPINS

    def job(thread: int) -> Callable[[int], None]:
        def run(rounds: int) -> None:
            if threads > 1:
                take_core(thread)
            _exchange(shared, sums, sync, thread, threads, rounds, int(crossed))

        return run

    return time_together([job(thread) for thread in range(threads)], ROUNDS) / ROUNDS


def machine_state() -> str:
    """``shared cache``, ``no shared cache (18 ns a line)`` or ``a core is busy``.

    Empty if there is one core. Takes some milliseconds.
    """
    if available_cores() < 2:
        return ""
    alone, own, other = (
        min(_seconds(threads, crossed) for _ in range(TRIALS))
        for threads, crossed in ((1, False), (2, False), (2, True))
    )
    if own > BUSY * alone:
        return "a core is busy"
    if other <= SHARED * own:
        return "shared cache"
    return f"no shared cache ({(other - own) * 1e9 / (LINES / 2):.0f} ns a line)"
