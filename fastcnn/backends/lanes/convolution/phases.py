"""Phases of a row: subsets of pixels with different taps, computed one after the other.

A convolution has one phase. The input gradient of a strided convolution has one for each residue of
rows and columns modulo the stride, as these pixels use the same part of the kernel. All phases read
the same pixels, which a row with several phases loads into the cache once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Row
from fastcnn.backends.lanes.reach.ranges import MORE_POSITIONS, Range, Reach
from fastcnn.codegen import linked
from fastcnn.codegen.simd import LANES

#: Fields of an entry of the phase table: number of taps and their table, where their weights begin,
#: number of pixels, and tables of the pixels' offsets in the source and the target.
PHASE = 6
PHASE_TAPS, TAPS_AT, WEIGHTS_AT, PIXELS, READ_AT, WRITTEN_AT = range(PHASE)


@linked
def phase_of(T: Any, r: Any, k: Any) -> tuple[Any, ...]:
    """A row's k-th phase: number of taps and pixels, where its weights begin, and its tables."""
    at = r[L.PHASE_TABLE] + k * PHASE
    tables = T[T[at + TAPS_AT] :], T[T[at + READ_AT] :], T[T[at + WRITTEN_AT] :]
    return np.int64(T[at + PHASE_TAPS]), np.int64(T[at + PIXELS]), T[at + WEIGHTS_AT], *tables


def entries(r: Row) -> list[list[int]]:
    """The entries of a row's phase table."""
    table = r.table(L.PHASE_TABLE, r[L.PHASES] * PHASE)
    return [[int(number) for number in entry] for entry in table.reshape(-1, PHASE)]


def products_of(r: Row) -> int:
    """Products per output channel."""
    return sum(entry[PHASE_TAPS] * entry[PIXELS] for entry in entries(r))


def pixels_of(r: Row) -> int:
    """Pixels per output channel."""
    return sum(entry[PIXELS] for entry in entries(r))


def vectors_read(r: Row) -> int:
    """Distinct vectors that a group reads."""
    return vectors_met(
        [
            (
                r.table_at(entry[READ_AT], entry[PIXELS]),
                r.table_at(entry[TAPS_AT], entry[PHASE_TAPS]),
            )
            for entry in entries(r)
        ]
    )


def vectors_met(sums: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """Distinct vectors at sums of pixel and tap offsets, without storing all sums at a time."""
    of_vectors = [(a // LANES, b // LANES) for a, b in sums if a.size and b.size]
    if not of_vectors:
        return 0
    low = min(int(pixels.min()) + int(taps.min()) for pixels, taps in of_vectors)
    high = max(int(pixels.max()) + int(taps.max()) for pixels, taps in of_vectors)
    seen = np.zeros(high - low + 1, np.bool_)
    for pixels, taps in of_vectors:
        for tap in taps.tolist():
            seen[pixels + (tap - low)] = True
    return int(np.count_nonzero(seen))


@dataclass(frozen=True)
class Phase:
    """A phase of a row, with the ranges of memory that it accesses."""

    r: Reach
    count: int
    taps_at: int
    weights_at: int
    pixels: int
    read_at: int
    written_at: int

    def taps(self) -> Range:
        """Offsets of its taps, relative to a pixel."""
        return self.r.entries_at(self.taps_at, self.count, "a phase's taps")

    def weights(self) -> Range:
        """Indices of its taps' weights, if a table has them."""
        return self.r.entries_at(self.weights_at, self.count, "a phase's weights")

    def read(self) -> Range:
        """Offsets of the pixels read, including those read after the last by a register tile."""
        return self.r.entries_at(self.read_at, self.pixels + MORE_POSITIONS, "a phase's pixels")

    def written(self, count: int) -> Range:
        """Offsets of some of the results."""
        return self.r.entries_at(self.written_at, count, "a phase's targets")


def phases(r: Reach) -> Iterator[Phase]:
    """The phases of a row."""
    table = r.table(L.PHASE_TABLE, PHASE * r.count(L.PHASES)).reshape(-1, PHASE)
    for entry in table.tolist():
        yield Phase(r, *entry)
