"""The machine's peak rates: fused multiply-adds and bytes per second.

The roofs against which kernels are judged are measured in the same process, with the same vector
code as the engine's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.codegen.simd import LANES
from fastcnn.data.reading import machine_memory
from fastcnn.timing import measure, together

#: Numbers of independent accumulators; the best one depends on the registers.
CHAINS = (4, 8, 12, 16)
#: Cache sizes if the system does not report them: bytes of L1 data, L2 and L3.
USUAL_CACHES = {"L1": 32 << 10, "L2": 512 << 10, "L3": 16 << 20}
#: Maximum working set for measuring main memory, over all threads.
MEMORY_LIMIT = 512 << 20
#: Maximum working set for L3, per thread: a virtual machine shares L3 with others.
L3_LIMIT = 16 << 20


@dataclass(frozen=True)
class Peaks:
    """The peak rates of some threads together.

    Attributes
    ----------
    threads : int
    flops : float
        Floating-point operations per second of fused multiply-adds, two for each.
    bandwidth : dict of str to float
        Bytes per second of ``z = x * s + y`` by the level of the arrays: L1, L2, L3, memory. Reads
        and writes count once each, as in STREAM.
    working_set : dict of str to int
        Bytes over which each of these was measured, per thread.
    """

    threads: int
    flops: float
    bandwidth: dict[str, float]
    working_set: dict[str, int]


def measure_peaks(
    threads: tuple[int, ...],
    *,
    rounds: int = 5,
    seconds: float = 0.02,
    memory_limit: int = MEMORY_LIMIT,
) -> dict[int, Peaks]:
    """Measure the machine's roofs for each number of threads, in interleaved rounds.

    Parameters
    ----------
    threads : tuple of int
    rounds : int
        Each rate is the best of this many rounds.
    seconds : float
        Minimum duration of one measurement.
    memory_limit : int
        Maximum working set in bytes, over all threads.
    """
    sets = {count: working_sets(count, memory_limit) for count in threads}
    triads = {(count, level): _triad(sets[count][level]) for count in sets for level in sets[count]}
    best = _rates(_all_multiply_adds(threads) | triads, rounds, seconds)
    return {
        count: Peaks(
            count,
            max(best[count, chains] for chains in CHAINS),
            {level: best[count, level] for level in sets[count]},
            sets[count],
        )
        for count in threads
    }


@cache
def measured_flops(threads: tuple[int, ...]) -> dict[int, float]:
    """The rate of fused multiply-adds alone, by number of threads, measured once per process.

    In many short rounds, of which the best counts: on a busy machine few of these are undisturbed,
    and none that exceed a scheduler's time slice.
    """
    best = _rates(_all_multiply_adds(threads), rounds=80, seconds=0.0025)
    return {count: max(best[count, chains] for chains in CHAINS) for count in threads}


def cache_sizes() -> dict[str, int]:
    """Bytes of each level of data cache of the first core, or typical ones."""
    found = dict(USUAL_CACHES)
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, level, size = (
                (index / name).read_text().strip() for name in ("type", "level", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}"] = int(size[:-1]) << 10
    return found


def working_sets(threads: int, memory_limit: int = MEMORY_LIMIT) -> dict[str, int]:
    """Bytes per thread that fit in each level: half of a cache, four times the last for memory."""
    caches = cache_sizes()
    memory = min(max(4 * caches["L3"], 64 << 20), memory_limit, machine_memory() // 4)
    return {
        "L1": caches["L1"] // 2,
        "L2": caches["L2"] // 2,
        "L3": min(caches["L3"] // (2 * threads), L3_LIMIT),
        "memory": memory // threads,
    }


#: Makes one thread's job: a function of the number of repetitions, and the work of one.
Job = Callable[[], tuple[Callable[[int], None], float]]


def _rates(
    jobs: Mapping[tuple[int, int | str], Job], rounds: int, seconds: float
) -> dict[tuple[int, int | str], float]:
    """The highest rate of each job, whose key begins with a number of threads: work per second."""
    made = {key: [make() for _ in range(key[0])] for key, make in jobs.items()}
    runs = {key: together([run for run, _ in each]) for key, each in made.items()}
    timings = measure(runs, rounds=rounds, seconds=seconds, pause=0.0)
    return {key: key[0] * made[key][0][1] / timing.least for key, timing in timings.items()}


def _all_multiply_adds(threads: tuple[int, ...]) -> dict[tuple[int, int | str], Job]:
    return {(count, chains): _multiply_adds(chains) for count in threads for chains in CHAINS}


def _multiply_adds(chains: int) -> Job:
    steps = 10_000

    def make() -> tuple[Callable[[int], None], float]:
        kernel = _kernels()[0][chains]
        values = np.full(2 * LANES, 0.5, np.float32)
        kernel(values, 1)
        return lambda n: kernel(values, n * steps), 2.0 * LANES * chains * steps

    return make


def _triad(size: int) -> Job:
    vectors = size // (3 * 4 * LANES) // 4 * 4

    def make() -> tuple[Callable[[int], None], float]:
        kernel = _kernels()[1]
        x, y, z = (np.full(vectors * LANES, 0.5, np.float32) for _ in range(3))
        kernel(x, y, z, vectors, 1)
        return lambda n: kernel(x, y, z, vectors, n), 3.0 * 4 * LANES * vectors

    return make


@cache
def _kernels() -> tuple[dict[int, Any], Any]:
    """The two compiled loops: multiply-adds by number of chains, and the triad."""
    from numba import njit

    # Registers the vectors' types with numba; a process that found its kernels has not imported it.
    import fastcnn.codegen.numba_frontend  # noqa: F401
    from fastcnn.codegen import simd
    from fastcnn.codegen.emitter import Emitter, tile
    from fastcnn.codegen.simd import emit_fma, emit_load, emit_store

    @tile(1)
    def multiply_adds(at: Emitter, chains: int, A: Any, steps: Any) -> None:
        """``chains`` independent accumulators, each updated by one multiply-add per step."""
        factor = emit_load(at.builder, at.pointer(A, at.index(0)))
        target = at.pointer(A, at.index(LANES))
        # The chains start at different values: equal ones would be computed once.
        start = [factor]
        for _ in range(chains - 1):
            start.append(emit_fma(at.builder, start[-1], factor, factor))

        def step(_: Any, state: list[Any]) -> list[Any]:
            return [emit_fma(at.builder, value, factor, factor) for value in state]

        total = factor
        for value in at.loop(at.index(0), steps, start, step):
            total = emit_fma(at.builder, value, factor, total)
        emit_store(at.builder, total, target)

    def specialise(chains: int) -> Any:
        @njit(nogil=True)
        def run(A: Any, steps: Any) -> Any:
            multiply_adds(chains, A, steps)

        return run

    @njit(nogil=True)
    def triad(x: Any, y: Any, z: Any, vectors: Any, repetitions: Any) -> Any:
        scale = simd.splat(np.float32(0.5))
        for _ in range(repetitions):
            for i in range(0, vectors * LANES, 4 * LANES):
                for k in range(4):
                    at = i + k * LANES
                    simd.store(z, at, simd.fma(simd.load(x, at), scale, simd.load(y, at)))

    return {chains: specialise(chains) for chains in CHAINS}, triad
