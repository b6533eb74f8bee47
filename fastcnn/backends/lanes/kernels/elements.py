"""Kernels of element-wise maps, each for one block of 16 samples."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import base, filled_lanes, map_share
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered, per_element
from fastcnn.backends.lanes.planning.rows import element_columns
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches
from fastcnn.codegen import linked, simd

if TYPE_CHECKING:
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.planner import Planner

LANES = simd.LANES


@linked
def following(T, table, positions):
    """Number of leading positions in a table that are contiguous in memory: a row's, or all."""
    first = T[table]
    if T[table + positions - 1] - first == (positions - 1) * LANES:
        return positions
    count = 1
    while T[table + count] - first == count * LANES:
        count += 1
    return count


@linked
def run_length(T, r, third):
    """Elements that are contiguous in X and Y, and with ``third`` in M: a row's, or more.

    Runs begin at multiples of their length.
    """
    positions = r[L.POSITIONS]
    size = positions * LANES
    length = min(following(T, r[L.X_TABLE], positions), following(T, r[L.Y_TABLE], positions))
    joined = r[L.X_CHANNEL] == size and r[L.Y_CHANNEL] == size
    if third:
        length = min(length, following(T, r[L.M_TABLE], positions))
        joined = joined and r[L.M_CHANNEL] == size
    return length * r[L.CHANNELS] if joined and length == positions else length


@linked
def nothing(A, P, r, m, c):
    """The extra arguments of a formula that has none."""
    return ()


def element_kernel(each: Any, given: Any = nothing, third: bool = False, whole: bool = True) -> Any:
    """A kernel that applies a function to each vector of two maps, or with ``third`` of three.

    Parameters
    ----------
    each : Linked
        ``each(A, x, y, m, arguments)``, given the vectors' offsets.
    given : Linked
        ``given(A, P, r, m, c)``: the arguments of channel ``c``, a tuple; M begins at ``m``.
    third : bool
    whole : bool
        Whether contiguous channels may be merged: their arguments are equal.
    """

    @linked
    def elements(A, T, P, r, block, slot, part, parts):
        x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
        m0 = base(r, L.M, block, slot)
        positions, run = r[L.POSITIONS], run_length(T, r, third)
        first, last, begin, end = map_share(r, part, parts)
        if not whole or end - begin < positions:
            run = min(run, positions)
        c, p = first, begin
        while c < last:
            count = (last - c) * positions if run > positions else min(run - p % run, end - p)
            arguments = given(A, P, r, m0, c)
            x = x0 + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p]
            y = y0 + c * r[L.Y_CHANNEL] + T[r[L.Y_TABLE] + p]
            m = m0 + c * r[L.M_CHANNEL] + T[r[L.M_TABLE] + p] if third else m0
            for i in range(0, count * LANES, LANES):
                each(A, x + i, y + i, m + i, arguments)
            p += count
            if p >= end:
                c, p = c + max(count // positions, 1), begin

    return elements


def numbered_element(
    each: Any, name: str, cost: Any, touches: Callable[[Reach], Touches], **kinds: Any
) -> int:
    """The number of a new kernel of this kind."""
    function, symbol = element_kernel(each, **kinds), name.replace(" ", "_")
    return numbered(function, name, cost, map_sizes, symbol=symbol, touches=touches)


@linked
def _copied(A, x, y, m, arguments):
    simd.store(A, y, simd.load(A, x))


@linked
def _negated(A, x, y, m, arguments):
    simd.store(A, y, simd.sub(simd.splat(np.float32(0)), simd.load(A, x)))


def elements_reach(*names: str, numbers: int = 0) -> Callable[[Reach], Touches]:
    """Vectors of some buffers at the same elements, in runs that are contiguous in memory."""

    def touches(r: Reach) -> Touches:
        positions = r.count(L.POSITIONS, 1)
        places = {name: r.table(getattr(L, f"{name}_TABLE"), positions) for name in names}
        run = min(_run(table) for table in places.values())
        left = np.arange(positions) % run
        for name, table in places.items():
            # From any element to the end of its run.
            ends = table + (run - 1 - left) * LANES
            yield r.pixels(name, Range.of(table, ends))
        if numbers:
            yield r.floats("SCALE", numbers)

    return touches


def _run(table: np.ndarray) -> int:
    """Leading entries of a table that are one vector apart, counted as the kernels do."""
    breaks = np.flatnonzero(np.diff(table) != LANES)
    if table[-1] - table[0] == (len(table) - 1) * LANES or not breaks.size:
        return len(table)
    return int(breaks[0]) + 1


@linked
def _repeat_last(A, T, r, block, slot, count, part, parts):
    """Copy the last lane of X that is not idle to those that are."""
    x0, last = base(r, L.X, block, slot), filled_lanes(r, count) - block * LANES - 1
    first, end, begin, stop = map_share(r, part, parts)
    for c in range(first, end if last < LANES - 1 else first):
        for p in range(begin, stop):
            x = x0 + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p]
            for lane in range(last + 1, LANES):
                A[x + lane] = A[x + last]


_BOTH = elements_reach("X", "Y")
K_COPY = numbered_element(_copied, "copy", per_element(0, 1, 1), _BOTH)
K_REPEAT_LAST = numbered(
    _repeat_last,
    "fill idle lanes",
    per_element(0, 1, 1),
    map_sizes,
    touches=elements_reach("X"),
)
K_NEGATE = numbered_element(_negated, "negate", per_element(1, 1, 1), _BOTH)


def copy(planner: "Planner", name: str, x: "Buffer", y: "Buffer") -> None:
    """Add a row that copies between buffers of one shape and different halos."""
    planner.emit(f"{name}: copy", row(K_COPY, **element_columns(planner, x=x, y=y)))
