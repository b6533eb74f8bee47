"""Ranges of the memory that a program's rows access, and the check that they are in bounds.

Kernels check nothing: an address is a sum of a row's columns and of table entries. Here each kernel
declares these sums as ranges; a program is checked once, before its first run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.codegen.simd import LANES
from fastcnn.errors import ProgramError

#: Positions after a row's last that a register tile may access, and taps that it may look up.
MORE_POSITIONS, MORE_TAPS = 7, 15
#: How a convolution may combine its results with what is stored.
MODES = (L.PLAIN, L.MASKED, L.POOLED, L.ADDED)
#: Limit of a row's numbers: larger ones would overflow the kernels' integer arithmetic.
LARGEST = 2**46
#: Possible bands of a sample.
BANDS = tuple(range(LANES + 1))


@dataclass(frozen=True)
class Range:
    """Offsets from ``low`` to ``high``, both included; empty if ``low`` is above ``high``."""

    low: int
    high: int

    def __add__(self, other: "Range | int") -> "Range":
        if isinstance(other, int):
            return Range(self.low + other, self.high + other)
        if self.is_empty or other.is_empty:
            return NOTHING
        return Range(self.low + other.low, self.high + other.high)

    @classmethod
    def of(cls, *offsets: np.ndarray) -> "Range":
        """The range from the smallest to the largest of some offsets; empty if there are none."""
        some = [values for values in offsets if values.size]
        if not some:
            return NOTHING
        return cls(min(int(each.min()) for each in some), max(int(each.max()) for each in some))

    @property
    def is_empty(self) -> bool:
        """Whether the range is empty."""
        return self.low > self.high


NOTHING = Range(0, -1)


@dataclass(frozen=True)
class Touch:
    """Offsets at which a kernel accesses ``floats`` floats of an array."""

    array: str
    what: str
    offsets: Range
    floats: int = LANES


class Reach:
    """A program row, and the ranges spanned by its columns.

    Its methods raise ProgramError if a table has fewer entries than required, or a count is
    negative.
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
        """A column that is a count."""
        if not least <= self[column] <= LARGEST:
            raise ProgramError(f"column {NAMES[column]} is {self[column]}")
        return self[column]

    def among(self, column: int, known: tuple[int, ...]) -> int:
        """A column with one of several known values."""
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
        return self.table_at(self[column], count, NAMES[column])

    def entries_at(self, first: int, count: int, what: str) -> Range:
        """The smallest and the largest of the first entries of a table at an offset."""
        return Range.of(self.table_at(first, count, what))

    def table_at(self, first: int, count: int, what: str) -> np.ndarray:
        """The first entries of a table at an offset."""
        if count < 0 or (count and not 0 <= first <= len(self._tables) - count):
            raise ProgramError(
                f"{count} entries of {what} from {first} on are not in tables of "
                f"{len(self._tables)}"
            )
        return self._tables[first : first + count]

    def blocks(self, place: int, step: int, shares: int = 1) -> Range:
        """An offset for each block, or for each of its shares."""
        return self.along(self._blocks * shares, self[step]) + self[place]

    def workers(self, place: int, step: int) -> Range:
        """An offset for each thread."""
        return self.along(self._workers, self[step]) + self[place]

    def buffer(self, place: int) -> Range:
        """The offsets of X, Y, M or Z, whose block and slot strides follow in the row."""
        return self.blocks(place, place + 1) + self.along(self._workers, self[place + 2])

    def pixels(
        self, name: str, places: "Range | int", floats: int = LANES, steps: str = ""
    ) -> Touch:
        """Some pixels of each channel of X, Y, M or Z, or a number of entries of its table.

        Channels are as far apart as those of the buffer ``steps``, by default its own.
        """
        if isinstance(places, int):
            places = self.entries(getattr(L, f"{name}_TABLE"), places)
        step = self[getattr(L, f"{steps or name}_CHANNEL")]
        channels = self.along(self.count(L.CHANNELS), step)
        return arena(name, self.buffer(getattr(L, name)) + channels + places, floats)

    def floats(self, name: str, count: int) -> Touch:
        """Some floats at the offset in a column."""
        first = self[getattr(L, name)]
        return arena(name, Range(first, first), count)

    def sums(self, offsets: "Range | int", floats: int = 1) -> Touch:
        """What EXTRA has for each block."""
        return arena("EXTRA", self.blocks(L.EXTRA, L.EXTRA_BLOCK) + offsets, floats)

    def optional(self, column: int, count: int) -> Range:
        """Values at an offset, or none if it is negative."""
        return self.along(count, 1) + self[column] if self[column] >= 0 else NOTHING

    def bias(self, count: int) -> Touch:
        """Biases; tiles without biases read the first parameter, and discard it."""
        first = self.optional(L.BIAS, count) if self[L.BIAS] >= 0 else Range(0, 0)
        return parameters("BIAS", first)

    def within(self, what: str, offsets: Range, size: int, floats: int = LANES) -> None:
        """Refuse offsets outside their part of a thread's scratch."""
        if not offsets.is_empty and not 0 <= offsets.low <= offsets.high <= size - floats:
            raise ProgramError(
                f"{what} reaches from {offsets.low} to {offsets.high + floats} of {size} floats of "
                "scratch"
            )


Touches = Iterator[Touch]


def arena(what: str, offsets: Range, floats: int = LANES) -> Touch:
    return Touch("arena", what, offsets, floats)


def parameters(what: str, offsets: Range, floats: int = 1) -> Touch:
    return Touch("parameters", what, offsets, floats)


def gradient(what: str, offsets: Range, floats: int = 1) -> Touch:
    return Touch("gradient", what, offsets, floats)


NAMES = {
    value: name
    # The columns come first in the module; modes and sizes reuse some of their numbers.
    for name, value in reversed(vars(L).items())
    if name.isupper() and isinstance(value, int) and not name.startswith("K_")
}


def check_row(reach: Reach, touches: Callable[[Reach], Touches], sizes: dict[str, int]) -> None:
    """Raise ProgramError for a row that accesses anything outside arrays of the given sizes."""
    reach.among(L.BANDS, BANDS)
    for touch in touches(reach):
        first, last = touch.offsets.low, touch.offsets.high + touch.floats
        if touch.offsets.is_empty or not touch.floats:
            continue
        if first < 0 or last > sizes[touch.array]:
            raise ProgramError(
                f"{touch.what} reaches from {first} to {last} of {touch.array} of "
                f"{sizes[touch.array]} floats"
            )
