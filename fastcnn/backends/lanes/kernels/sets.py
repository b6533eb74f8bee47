"""Sets of a sample's elements over which normalisations and the softmax reduce.

GROUPS sets of POSITIONS members each: a member's address is the sum of its set's entry and the
entry of its index in the set; each table has the entries of the sets first, then those of the
members.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.reach.ranges import NOTHING, Range, Reach, Touches, arena, parameters
from fastcnn.backends.sample_sets import Sets, sets_of
from fastcnn.codegen.simd import LANES

if TYPE_CHECKING:
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner


def group_sets(group: "Group") -> Sets:
    """The sets of a group's operation."""
    node = group.node
    return sets_of(group.operation, node.arguments, node.input_shapes[0])


def set_columns(
    planner: "Planner", sets: Sets, axes: tuple[int, ...], **buffers: "Buffer"
) -> dict[str, int]:
    """Columns of a row that iterates over buffers by sets, or by weights: along some axes."""
    columns: dict[str, int] = {}
    for name, buffer in buffers.items():
        outer, inner = sets.number(buffer.places(), axes)
        columns |= buffer.columns(name)
        columns[f"{name}_table"] = planner.table(np.concatenate([outer, inner]))
        columns |= {"groups": len(outer), "positions": len(inner)}
    return columns


def set_elements(flops: int, read: int) -> Callable[[Row], Cost]:
    """Work per member of each set, each of which is written once."""

    def cost(r: Row) -> Cost:
        n = r[L.GROUPS] * r[L.POSITIONS]
        return r.cost(flops * n, read * n + 2 * r[L.GROUPS], n)

    return cost


def set_sizes(r: Row) -> str:
    return f"{r[L.GROUPS]} sets of {r[L.POSITIONS]}"


def sums_of_two(r: Reach, column: int, first: int, others: int) -> Range:
    """All sums of one of a table's first entries and one of those that follow."""
    table = r.table(column, first + others)
    if not first or not others:
        return NOTHING
    outer, inner = table[:first], table[first:]
    low, high = outer.min() + inner.min(), outer.max() + inner.max()
    return Range(int(low), int(high))


def sets_reach(*names: str, weighted: bool = False) -> Callable[[Reach], Touches]:
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
            yield r.floats("SCALE", 1)

    return touches
