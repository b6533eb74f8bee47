"""How far rows of normalisation within samples and of the softmax reach; see ranges.py."""

from collections.abc import Callable

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.reach.ranges import (
    NOTHING,
    Range,
    Reach,
    Touches,
    arena,
    gradient,
    optional,
    parameters,
)
from fastcnn.codegen.simd import LANES


def sums_of_two(r: Reach, column: int, first: int, others: int) -> Range:
    """A table's first entries, each with each of those that follow."""
    table = r.table(column, first + others)
    if not first or not others:
        return NOTHING
    outer, inner = table[:first], table[first:]
    low, high = outer.min() + inner.min(), outer.max() + inner.max()
    return Range(int(low), int(high))


def sets(*names: str, weighted: bool = False) -> Callable[[Reach], Touches]:
    """Vectors of some buffers at the members of sets."""

    def touches(r: Reach) -> Touches:
        sets, members = r.count(L.GROUPS, 1), r.count(L.POSITIONS, 1)
        for name in names:
            places = sums_of_two(r, getattr(L, f"{name}_TABLE"), sets, members)
            yield arena(name, r.buffer(getattr(L, name)) + places)
        if not weighted:
            r.among(L.MODE, (L.PROBABILITY, L.LOGARITHM))
            return
        r.among(L.MODE, (L.CENTRED, L.AROUND_ZERO))
        if r[L.EXTRA] >= 0 or "Z" in names:
            each = r.along(2 * sets, LANES)
            yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + each)
        weights = sums_of_two(r, L.M_TABLE, sets, members)
        for place in ("W", "BIAS"):
            if r[getattr(L, place)] >= 0:
                yield parameters(place, weights + r[getattr(L, place)])
        if "Z" not in names:
            yield arena("SCALE", Range(r[L.SCALE], r[L.SCALE]), 1)

    return touches


def set_parameters(r: Reach) -> Touches:
    weights, members = r.count(L.OUT, 1), r.count(L.POSITIONS, 1)
    for name in ("X", "Y"):
        places = sums_of_two(r, getattr(L, f"{name}_TABLE"), weights, members)
        yield arena(name, r.buffer(getattr(L, name)) + places)
    numbers = sums_of_two(r, L.M_TABLE, weights, members)
    statistics = Range(2 * LANES * numbers.low, 2 * LANES * numbers.high)
    yield arena("EXTRA", r.blocks(L.EXTRA, L.EXTRA_BLOCK) + statistics, 2 * LANES)
    kinds = (r[L.W] >= 0) + (r[L.BIAS] >= 0)
    yield arena("M", r.blocks(L.M, L.M_BLOCK) + r.along(kinds * weights, 1), 1)
    yield gradient("W", optional(r, L.W, weights))
    yield gradient("BIAS", optional(r, L.BIAS, weights))


def local_response(*names: str, shares: bool = True) -> Callable[[Reach], Touches]:
    """Vectors of some buffers at the same elements, and what is kept in the layout of M."""

    def touches(r: Reach) -> Touches:
        r.count(L.TAPS, 1)
        for name in names:
            places = r.entries(getattr(L, f"{name}_TABLE"), r.count(L.POSITIONS, 1))
            each = r.along(r.count(L.CHANNELS), r[getattr(L, f"{name}_CHANNEL")])
            yield arena(name, r.buffer(getattr(L, name)) + each + places)
        yield arena("SCALE", Range(r[L.SCALE], r[L.SCALE]), 3)
        if shares:
            kept = r.along(r.count(L.CHANNELS), r[L.M_CHANNEL])
            places = kept + r.entries(L.M_TABLE, r[L.POSITIONS])
            yield arena("EXTRA", r.workers(L.EXTRA, L.EXTRA_BLOCK) + places)

    return touches
