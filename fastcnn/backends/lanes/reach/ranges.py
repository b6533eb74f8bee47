"""How far each kernel's rows reach, and the check that a program stays inside its arrays.

Kernels check nothing: an address is a sum of a row's columns and entries of tables. Here each
kernel says which sums it makes, as ranges; a program is checked once, before its first run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError

#: Positions after a row's last that a register tile may touch, and taps that it may look up.
MORE_POSITIONS, MORE_TAPS = 7, 15
#: What a convolution may do with what it stores.
MODES = (L.PLAIN, L.MASKED, L.POOLED, L.ADDED)
#: A block's rows run before another's: numbers above would overflow the kernels' arithmetic.
LARGEST = 2**46


@dataclass(frozen=True)
class Range:
    """Offsets from ``low`` to ``high``, both included; none if ``low`` is above ``high``."""

    low: int
    high: int

    def __add__(self, other: "Range | int") -> "Range":
        if isinstance(other, int):
            return Range(self.low + other, self.high + other)
        if self.is_empty or other.is_empty:
            return NOTHING
        return Range(self.low + other.low, self.high + other.high)

    @property
    def is_empty(self) -> bool:
        """Whether there is no offset."""
        return self.low > self.high


NOTHING = Range(0, -1)


@dataclass(frozen=True)
class Touch:
    """Offsets at which a kernel touches ``floats`` floats of an array."""

    array: str
    what: str
    offsets: Range
    floats: int = LANES


class Reach:
    """A program row, and the ranges that its columns make.

    Raises ProgramError by its methods, if a table does not have the entries that are asked for, or
    a number of things is negative.
    """

    def __init__(self, row: np.ndarray, tables: np.ndarray, blocks: int, workers: int) -> None:
        self._row = row.tolist()
        self._tables = tables
        self.samples = blocks
        self._blocks = blocks
        self._workers = workers

    def __getitem__(self, column: int) -> int:
        return self._row[column]

    def count(self, column: int, least: int = 0) -> int:
        """A number of things."""
        if not least <= self[column] <= LARGEST:
            raise ProgramError(f"column {NAMES[column]} is {self[column]}")
        return self[column]

    def among(self, column: int, known: tuple[int, ...]) -> int:
        """One of some numbers."""
        if self[column] not in known:
            raise ProgramError(f"column {NAMES[column]} is {self[column]}, not one of {known}")
        return self[column]

    def along(self, count: int, step: int) -> Range:
        """``step * i`` for ``count`` values of i."""
        if count <= 0:
            return NOTHING
        last = (count - 1) * step
        return Range(min(0, last), max(0, last))

    def entries(self, column: int, count: int) -> Range:
        """The smallest and the largest of a table's first entries."""
        return self.entries_at(self[column], count, NAMES[column])

    def table(self, column: int, count: int) -> np.ndarray:
        """A table's first entries."""
        return self._table_at(self[column], count, NAMES[column])

    def entries_at(self, first: int, count: int, what: str) -> Range:
        """The smallest and the largest of the first entries of a table at a place."""
        found = self._table_at(first, count, what)
        return Range(int(found.min()), int(found.max())) if found.size else NOTHING

    def _table_at(self, first: int, count: int, what: str) -> np.ndarray:
        if count < 0 or (count and not 0 <= first <= len(self._tables) - count):
            raise ProgramError(
                f"{count} entries of {what} from {first} on are not in tables of "
                f"{len(self._tables)}"
            )
        return self._tables[first : first + count]

    def blocks(self, place: int, step: int, shares: int = 1) -> Range:
        """A place of each block, or of each of its shares."""
        return self.along(self._blocks * shares, self[step]) + self[place]

    def workers(self, place: int, step: int) -> Range:
        """A place of each thread."""
        return self.along(self._workers, self[step]) + self[place]

    def buffer(self, place: int) -> Range:
        """A place of X, Y, M or Z, whose block and slot strides follow it."""
        return self.blocks(place, place + 1) + self.along(self._workers, self[place + 2])


Touches = Iterator[Touch]


def arena(what: str, offsets: Range, floats: int = LANES) -> Touch:
    return Touch("arena", what, offsets, floats)


def parameters(what: str, offsets: Range, floats: int = 1) -> Touch:
    return Touch("parameters", what, offsets, floats)


def gradient(what: str, offsets: Range, floats: int = 1) -> Touch:
    return Touch("gradient", what, offsets, floats)


def optional(r: Reach, column: int, count: int) -> Range:
    """Numbers at a place, or none where it is negative."""
    return r.along(count, 1) + r[column] if r[column] >= 0 else NOTHING


def bias(r: Reach, count: int) -> Touches:
    """Biases; tiles without read the first parameter, and forget it."""
    yield parameters("BIAS", optional(r, L.BIAS, count) if r[L.BIAS] >= 0 else Range(0, 0))


def channels_of(r: Reach, place: int, step: int, entries: Range) -> Range:
    """Some places of each channel of a buffer."""
    return r.buffer(place) + r.along(r.count(L.CHANNELS), r[step]) + entries


def within(what: str, offsets: Range, size: int, floats: int = LANES) -> None:
    """Refuse offsets that leave their part of a thread's scratch."""
    if not offsets.is_empty and not 0 <= offsets.low <= offsets.high <= size - floats:
        raise ProgramError(
            f"{what} reaches from {offsets.low} to {offsets.high + floats} of {size} floats of "
            "scratch"
        )


NAMES = {
    value: name
    # The columns come first; modes and sizes have some of their numbers.
    for name, value in reversed(vars(L).items())
    if name.isupper() and isinstance(value, int) and not name.startswith("K_")
}


def check_row(reach: Reach, touches: Callable[[Reach], Touches], sizes: dict[str, int]) -> None:
    """Refuse a row that touches anything outside of arrays of some sizes: ProgramError."""
    for touch in touches(reach):
        first, last = touch.offsets.low, touch.offsets.high + touch.floats
        if touch.offsets.is_empty or not touch.floats:
            continue
        if first < 0 or last > sizes[touch.array]:
            raise ProgramError(
                f"{touch.what} reaches from {first} to {last} of {touch.array} of "
                f"{sizes[touch.array]} floats"
            )
