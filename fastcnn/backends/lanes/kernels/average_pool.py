"""Kernels of average pooling, each for one block of 16 samples."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row, distinct
from fastcnn.backends.lanes.kernels.division import STRIP, base, map_share
from fastcnn.backends.lanes.kernels.elements import nothing
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.pool_tiles import entry, spread_tile, sum_tile
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered
from fastcnn.backends.lanes.kernels.windows import (
    adaptive,
    average_columns,
    spread_columns,
    window_sizes,
)
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches, arena
from fastcnn.codegen import linked, simd
from fastcnn.errors import ProgramError

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.shared_forward import SharedForward
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group

SUM_OF_FOUR, SUM_OF_NINE = sum_tile.sized(4), sum_tile.sized(9)


@linked
def avg_pool(A, T, r, block, slot, part, parts):
    """Mean over windows.

    TAP_TABLE has, for each window, its number of pixels inside the map and their offsets; SCALE is
    the offset of the reciprocal divisors in the arena.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    size, windows, outputs = r[L.TAPS], T[r[L.TAP_TABLE] :], T[r[L.Y_TABLE] :]
    first, last, begin, end = map_share(r, part, parts)
    for c in range(first, last):
        x, y = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL]
        for p in range(begin, end):
            window = p * (size + 1)
            pixels = entry(windows, window)
            if pixels == 4:
                total = SUM_OF_FOUR(A, x, windows, window + 1)
            elif pixels == 9:
                total = SUM_OF_NINE(A, x, windows, window + 1)
            else:
                total = simd.splat(np.float32(0))
                for start in range(0, pixels, STRIP):
                    strip = simd.splat(np.float32(0))
                    for k in range(start + 1, min(start + STRIP, pixels) + 1):
                        strip = simd.add(strip, simd.load(A, x + entry(windows, window + k)))
                    total = simd.add(total, strip)
            scale = simd.splat(A[r[L.SCALE] + p])
            simd.store(A, y + entry(outputs, p), simd.mul(total, scale))


def spread_kernel(each: Any, given: Any = nothing, third: bool = False) -> Any:
    """A kernel of the gradient of average pooling, and of a function before it.

    For each pixel, Y_TABLE has the windows around it, TAP_TABLE the start of its windows and the
    end of the last, and Z the reciprocal divisors of all windows in Y_TABLE.

    Parameters
    ----------
    each : Linked
        ``each(A, x, grad, m, arguments)`` stores at offset ``x`` what becomes of the gradient of
        the pooling's input.
    given : Linked
        See ``element_kernel``.
    third : bool
        Whether there is a third map, M.
    """

    @linked
    def spread(A, T, P, r, block, slot, part, parts):
        x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
        m0 = base(r, L.M, block, slot)
        starts, windows, z = T[r[L.TAP_TABLE] :], T[r[L.Y_TABLE] :], r[L.Z]
        pixels, places = T[r[L.X_TABLE] :], T[r[L.M_TABLE] :]
        first, last, begin, end = map_share(r, part, parts)
        for c in range(first, last):
            arguments = given(A, P, r, m0, c)
            x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.M_CHANNEL]
            for p in range(begin, end):
                grad = spread_tile((A, y, z), starts, windows, p)
                at = m + entry(places, p) if third else m
                each(A, x + entry(pixels, p), grad, at, arguments)

    return spread


@linked
def _stored(A, x, grad, m, arguments):
    simd.store(A, x, grad)


def _inside(r: Row) -> int:
    """Vectors of a channel inside any window."""
    rows = r.table(L.TAP_TABLE, r[L.POSITIONS] * (r[L.TAPS] + 1)).reshape(-1, r[L.TAPS] + 1)
    return distinct(rows[:, 1:][np.arange(r[L.TAPS]) < rows[:, :1]])


def _cost(r: Row) -> Cost:
    return r.cost(r.elements * r[L.TAPS], r[L.CHANNELS] * _inside(r), r.elements)


def spread_cost(more: int) -> Callable[[Row], Cost]:
    """Work of such a gradient, with FLOPs and vectors read for each pixel in addition."""

    def cost(r: Row) -> Cost:
        visits = int(r.table(L.TAP_TABLE, r[L.POSITIONS] + 1)[-1])
        averages = r[L.CHANNELS] * distinct(r.table(L.Y_TABLE, visits))
        extra = more * r.elements
        return r.cost(r[L.CHANNELS] * visits + extra, averages + extra, r.elements)

    return cost


def _reach(r: Reach) -> Touches:
    positions, width = r.count(L.POSITIONS), r.count(L.TAPS) + 1
    windows = r.table(L.TAP_TABLE, positions * width).reshape(-1, width)
    if not windows.size:
        return
    if windows[:, 0].max() >= width:
        raise ProgramError("TAP_TABLE has a window of more pixels than TAPS")
    inside = windows[:, 1:][np.arange(1, width) <= windows[:, :1]]
    yield r.pixels("X", Range.of(inside))
    yield r.pixels("Y", positions)
    yield arena("SCALE", r.along(positions, 1) + r[L.SCALE], 1)


def spread_reach(*names: str, numbers: int = 0) -> Callable[[Reach], Touches]:
    """Memory of such a gradient: maps besides Y, and some floats at SCALE."""

    def touches(r: Reach) -> Touches:
        positions = r.count(L.POSITIONS)
        starts = r.table(L.TAP_TABLE, positions + 1)
        if starts.min() < 0:
            raise ProgramError("TAP_TABLE has windows before the first")
        visits = int(starts.max())
        for name in names:
            yield r.pixels(name, positions)
        yield r.pixels("Y", visits)
        yield arena("Z", r.along(visits, 1) + r[L.Z], 1)
        yield r.floats("SCALE", numbers)

    return touches


K_AVG_POOL = numbered(avg_pool, "average pool", _cost, window_sizes, touches=_reach)
K_AVG_POOL_BACKWARD = numbered(
    spread_kernel(_stored),
    "average pool gradient",
    spread_cost(0),
    map_sizes,
    symbol="avg_pool_backward",
    touches=spread_reach("X"),
)


def _forward(walk: "SharedForward", group: "Group") -> None:
    x, y = walk.values[group.source], walk.output(group)
    columns = average_columns(walk.planner, group, x, y)
    walk.planner.emit(
        f"{group.node.name}: {adaptive(group)}average pooling", row(K_AVG_POOL, **columns)
    )


def _backward(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    """Spread each gradient over its window, unless the row of the function before does that."""
    if walk.spreads(group):
        walk.contributions[group.source] = [grad]
        walk.averaged[group.source] = group
        return
    grad_x = walk.wanted(group)
    if grad_x is not None:
        columns = spread_columns(walk.planner, group, grad, x=grad_x)
        name = f"{group.node.name}: gradient of {adaptive(group) or 'average '}pooling"
        walk.planner.emit(name, row(K_AVG_POOL_BACKWARD, **columns))


lowered(
    "avg_pool2d",
    "adaptive_avg_pool2d",
    forward=_forward,
    backward=_backward,
    channels=_forward,
    keeps_lanes=True,
)
