"""Operations that process a block's maps in strips, of some rows or some channels, in turns.

Maps of early layers do not fit in the second-level cache. Where consecutive operations access the
same maps, each therefore processes a strip as soon as the one before it has, in any order that
gives the same results.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes.planning.buffers import LANES, Buffer

#: Floats of a block's maps that a strip accesses, which stay in the second-level cache.
STRIP = 128 * 1024
#: Fewest positions of a strip of all channels, which fill two clusters of register tiles.
LEAST = 24
#: End of the names of rows that process a strip.
IN_STRIPS = ", strip by strip"


def strip_count(most: int, *maps: Buffer) -> int:
    """Number of strips, a power of two, of an operation that accesses some maps."""
    size, count = sum(buffer.size for buffer in maps), 1
    while size > count * STRIP and most >= 2 * count:
        count *= 2
    return count


def strip_of(values: np.ndarray, index: int, count: int) -> np.ndarray:
    """One of ``count`` consecutive parts, as equal as possible."""
    return values[len(values) * index // count : len(values) * (index + 1) // count]


@dataclass(frozen=True)
class Access:
    """A range of floats of each of some channels of a map."""

    buffer: Buffer
    low: int
    high: int
    writes: bool
    first: int = 0
    last: int = 1 << 62

    @classmethod
    def of(
        cls, buffer: Buffer, pixels: np.ndarray, taps: Sequence[int] = (0,), writes: bool = False
    ) -> "Access":
        """What taps reach from some pixels, all given by their offsets."""
        low, high = int(pixels.min()) + min(taps), int(pixels.max()) + max(taps)
        return cls(buffer, low, high + LANES, writes)

    def meets(self, other: "Access", blocks: int, workers: int) -> bool:
        """Whether the order of both may matter, in a program for some blocks and threads."""
        if not (self.writes or other.writes):
            return False
        if self.buffer == other.buffer:
            meets = self.low < other.high and other.low < self.high
            return meets and self.first < other.last and other.first < self.last
        first, second = sorted((self.buffer, other.buffer), key=lambda buffer: buffer.offset)
        span = first.size + (blocks - 1) * first.block + (workers - 1) * first.slot
        return second.offset < first.offset + span


@dataclass
class Strips:
    """An operation that may run in strips; see :meth:`Collector.emit_strips`."""

    name: str
    accesses: list[list[Access]]
    row: Callable[[int, int], np.ndarray]
    by_channel: bool = False


def _joined(accesses: list[Access]) -> list[Access]:
    """One range of each map that is read, and of each that is written."""
    found: list[Access] = []
    for one in accesses:
        for index, other in enumerate(found):
            if (one.buffer, one.writes) == (other.buffer, other.writes):
                low, first = min(one.low, other.low), min(one.first, other.first)
                high, last = max(one.high, other.high), max(one.last, other.last)
                found[index] = Access(one.buffer, low, high, one.writes, first, last)
                break
        else:
            found.append(one)
    return found


def in_turns(operations: list[Strips], blocks: int, workers: int) -> list[tuple[str, np.ndarray]]:
    """Names and rows of consecutive operations: of each strip, if there are several operations."""
    if len(operations) == 1:
        return [(one.name, one.row(0, len(one.accesses))) for one in operations]
    done, found = [0] * len(operations), []
    # By operation and number of strips that are done: what the other strips access. Pairs of strips
    # would be too many: a large map has hundreds.
    rest: list[list[list[Access]]] = []
    for one in operations:
        after: list[list[Access]] = [[]]
        for accesses in reversed(one.accesses):
            after.append(_joined([*accesses, *after[-1]]))
        rest.append(after[::-1])
    # By operation: one for which it waits, and how many strips of that were done.
    waits = [(-1, 0)] * len(operations)

    def may_run(index: int) -> bool:
        before, count = waits[index]
        if before >= 0 and done[before] == count:
            return False
        mine = operations[index].accesses[done[index]]
        for before in range(index - 1, -1, -1):
            others = rest[before][done[before]]
            if any(access.meets(other, blocks, workers) for other in others for access in mine):
                waits[index] = before, done[before]
                return False
        return True

    left = list(range(len(operations)))
    while left:
        # The last operation that can: what the one before it accessed is still in the cache.
        index = next(index for index in reversed(left) if may_run(index))
        one, strip = operations[index], done[index]
        found.append((one.name + IN_STRIPS, one.row(strip, strip + 1)))
        done[index] += 1
        if done[index] == len(one.accesses):
            left.remove(index)
    return found
