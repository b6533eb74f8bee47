"""Whether two cores share a cache: the cost of a line that one writes and the other reads.

Virtual machines may move their cores at any time. Small steps on two threads take 1.5 times as long
if the cores share no cache, so results include the state in which they were measured.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from fastcnn.codegen import compiled
from fastcnn.codegen.threads import PATIENCE, SPINS, barrier
from fastcnn.cores import available_cores, take_core
from fastcnn.timing import measure, together

#: Floats shared by two threads, which fit in a second-level cache, and their cache lines.
FLOATS = 176 * 256
LINES = FLOATS // 16
#: Number of measurements, of which the fastest counts, and approximate seconds of each.
TRIALS, SECONDS = 3, 0.005
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


def _exchanges(threads: int, crossed: bool) -> Callable[[int], None]:
    """A contestant of some rounds."""
    shared, sums = np.zeros(FLOATS, np.float32), np.zeros(2, np.float32)

    def run(rounds: int) -> None:
        sync = np.zeros(16, np.int64)
        sync[PATIENCE] = SPINS

        def job(thread: int, rounds: int) -> None:
            if threads > 1:
                take_core(thread)
            _exchange(shared, sums, sync, thread, threads, rounds, int(crossed))

        together([partial(job, thread) for thread in range(threads)])(rounds)

    return run


def machine_state() -> str:
    """``shared cache``, ``no shared cache (18 ns a line)`` or ``a core is busy``.

    Empty if there is one core. Takes some milliseconds.
    """
    if available_cores() < 2:
        return ""
    runs = {
        (threads, crossed): _exchanges(threads, crossed)
        for threads, crossed in ((1, False), (2, False), (2, True))
    }
    timings = measure(runs, rounds=TRIALS, seconds=SECONDS, pause=0.0)
    alone, own, other = (timing.least for timing in timings.values())
    if own > BUSY * alone:
        return "a core is busy"
    if other <= SHARED * own:
        return "shared cache"
    return f"no shared cache ({(other - own) * 1e9 / (LINES / 2):.0f} ns a line)"
