"""Kernels of max pooling, each for one block of 16 samples, and the gradient of fused pooling."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row, distinct
from fastcnn.backends.lanes.kernels.division import MISSING, STRIP, base, map_share, share
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.pool_tiles import window_tile, winners_tile
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered
from fastcnn.backends.lanes.kernels.windows import (
    adaptive,
    pool_offsets,
    window_columns,
    window_sizes,
)
from fastcnn.backends.lanes.planning.rows import element_columns
from fastcnn.backends.lanes.reach.ranges import Range, Reach, Touches
from fastcnn.codegen import linked, simd
from fastcnn.errors import ProgramError

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward
    from fastcnn.backends.lanes.planning.buffers import Buffer
    from fastcnn.backends.lanes.planning.grouping import Group
    from fastcnn.backends.lanes.planning.planner import Planner

LANES = simd.LANES
LARGEST, WINDOW = (window_tile.among((9, has), (4, has), (0, has)) for has in (0, 1))
#: Distance, in windows, at which pixels are prefetched.
AHEAD = 48
#: Floats of a block's map above which it does not stay in the last-level cache until it is read.
FITS_CACHE = 4 * 1024 * 1024


@linked
def max_pool(A, T, r, block, slot, part, parts):
    """Maximum over windows; M, unless it is negative, receives the argmax within the window.

    With RELU, X is the output of a rectifier: the argmax of a window of zeros is -1.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    m0 = base(r, L.M, block, slot) if r[L.M] >= 0 else MISSING
    size, windows, rectified = r[L.TAPS], T[r[L.TAP_TABLE] :], r[L.RELU]
    places = T[r[L.Y_TABLE] :]
    first, last, begin, end = map_share(r, part, parts)
    for c in range(first, last):
        x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.Y_CHANNEL]
        for p in range(begin, end):
            at, later, later_x = places[p], p + AHEAD, x
            if later >= end and c + 1 < last:
                later, later_x = later - end + begin, x + r[L.X_CHANNEL]
            ask = later_x, min(later, end - 1) * size
            to = (A, y + at), (A, m + at)
            rest = (A, x, windows), p * size, size, ask, *to, rectified
            if m0 < 0:
                LARGEST(size, 0, *rest)
            else:
                WINDOW(size, 1, *rest)


@linked
def max_pool_backward(A, T, r, block, slot, part, parts):
    """Each pixel gets the gradients of the windows of which it is the argmax.

    X is the input's gradient, Y the output's. M_TABLE has the windows of all pixels, TAP_TABLE the
    start of each pixel's windows, and the end of the last. The sums of the input's gradient go to
    EXTRA, unless it is negative.
    """
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    sums = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    starts, windows = T[r[L.TAP_TABLE] :], T[r[L.M_TABLE] :]
    positions, pixels = r[L.POSITIONS], T[r[L.X_TABLE] :]
    first, last = share(r[L.CHANNELS], part, parts)
    streams = r[L.CHANNELS] * r[L.X_CHANNEL] > FITS_CACHE
    for c in range(first, last):
        x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.Y_CHANNEL]
        total = simd.splat(np.float32(0))
        for p in range(0, positions, STRIP):
            tables = starts, windows, starts[positions]
            rest = p, min(p + STRIP, positions), A, x, pixels, streams
            total = simd.add(total, winners_tile(A, y, A, m, *tables, *rest))
        if r[L.EXTRA] >= 0:
            A[sums + c] = simd.lane_sum(total)
    if streams:
        simd.fence()


@linked
def send_to_winners(A, y, m, places, first, last, x, targets):
    """Route gradients of some 2x2 windows to their argmax, 4 meaning none; returns their sum.

    ``targets`` has four pixels of X for each window.
    """
    zero, one = simd.splat(np.float32(0)), simd.splat(np.float32(1))
    two, three = simd.splat(np.float32(2)), simd.splat(np.float32(3))
    total = zero
    for p in range(first, last):
        at = places[p]
        grad, winner = simd.load(A, y + at), simd.load(A, m + at)
        g0, g1 = simd.keep_equal(winner, zero, grad), simd.keep_equal(winner, one, grad)
        g2, g3 = simd.keep_equal(winner, two, grad), simd.keep_equal(winner, three, grad)
        simd.store(A, x + targets[4 * p], g0)
        simd.store(A, x + targets[4 * p + 1], g1)
        simd.store(A, x + targets[4 * p + 2], g2)
        simd.store(A, x + targets[4 * p + 3], g3)
        total = simd.add(total, simd.add(simd.add(g0, g1), simd.add(g2, g3)))
    return total


@linked
def unpool(A, T, r, block, slot, part, parts):
    """Backward through 2x2 windows that tile the map; the argmax of a closed rectifier is 4.

    The sums of the routed gradients, which are the bias gradient, go to EXTRA.
    """
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    sums = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    positions, targets, places = r[L.POSITIONS], T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.Y_CHANNEL]
        total = simd.splat(np.float32(0))
        for start in range(0, positions, STRIP):
            end = min(start + STRIP, positions)
            strip = send_to_winners(A, y, m, places, start, end, x, targets)
            total = simd.add(total, strip)
        A[sums + c] = simd.lane_sum(total)


def _max_pool(r: Row) -> Cost:
    read = r[L.CHANNELS] * distinct(r.table(L.TAP_TABLE, r[L.POSITIONS] * r[L.TAPS]))
    written = r.elements * (1 if r[L.M] < 0 else 2)
    return r.cost(r.elements * (r[L.TAPS] - 1), read, written)


def _max_pool_backward(r: Row) -> Cost:
    visits = int(r.table(L.TAP_TABLE, r[L.POSITIONS] + 1)[-1])
    windows = distinct(r.table(L.M_TABLE, 2 * visits)[::2])
    sums = r[L.EXTRA] >= 0
    flops = r[L.CHANNELS] * visits + (r.elements if sums else 0)
    read = 2 * r[L.CHANNELS] * windows
    return r.cost(flops, read, r.elements, partial=r[L.CHANNELS] if sums else 0)


def _max_reach(r: Reach) -> Touches:
    positions = r.count(L.POSITIONS)
    windows = r.entries(L.TAP_TABLE, positions * r.count(L.TAPS, 1))
    yield r.pixels("X", windows)
    outputs = r.entries(L.Y_TABLE, positions)
    for name in "Y" if r[L.M] < 0 else "YM":
        yield r.pixels(name, outputs, steps="Y")


def _max_gradient_reach(r: Reach) -> Touches:
    pixels = r.count(L.POSITIONS)
    starts = r.table(L.TAP_TABLE, pixels + 1)
    visits = int(starts.max())
    if starts.min() < 0:
        raise ProgramError("TAP_TABLE has windows before the first")
    # A pixel without windows prefetches the window that would be next.
    windows = r.table(L.M_TABLE, 2 * visits + 1)[:-1:2]
    if r.count(L.CHANNELS) * r[L.X_CHANNEL] > FITS_CACHE:
        steps = (r[column] for column in (L.X, L.X_BLOCK, L.X_SLOT, L.X_CHANNEL))
        if any(step % LANES for step in (*steps, *r.table(L.X_TABLE, pixels).tolist())):
            raise ProgramError("X is written past the cache, but not in whole cache lines")
    yield r.pixels("X", pixels)
    for name in "YM":
        yield r.pixels(name, Range.of(windows), steps="Y")
    if r[L.EXTRA] >= 0:
        yield r.sums(r.along(r.count(L.CHANNELS), 1))


def _unpool_cost(r: Row) -> Cost:
    return r.cost(4 * r.elements, 2 * r.elements, 4 * r.elements, partial=r[L.CHANNELS])


def _unpool_reach(r: Reach) -> Touches:
    positions = r.count(L.POSITIONS)
    yield r.pixels("X", 4 * positions)
    for name in "YM":
        yield r.pixels(name, r.entries(L.Y_TABLE, positions), steps="Y")
    yield r.sums(r.along(r[L.CHANNELS], 1))


K_MAX_POOL = numbered(max_pool, "max pool", _max_pool, window_sizes, touches=_max_reach)
K_MAX_POOL_BACKWARD = numbered(
    max_pool_backward,
    "max pool gradient",
    _max_pool_backward,
    map_sizes,
    touches=_max_gradient_reach,
)
K_UNPOOL = numbered(unpool, "unpool 2x2", _unpool_cost, map_sizes, touches=_unpool_reach)


def winner_row(
    planner: "Planner", x: "Buffer", y: "Buffer", winner: "Buffer | None", offsets: np.ndarray
) -> np.ndarray:
    """The row of a maximum over windows, and of its argmax, if required."""
    places = {"m": -1} if winner is None else winner.columns("m")
    return row(
        K_MAX_POOL,
        **window_columns(planner, x, y),
        **places,
        taps=offsets.shape[1],
        tap_table=planner.table(offsets),
    )


def _winner_gradient(
    planner: "Planner", grad_x: "Buffer", grad: "Buffer", winner: "Buffer", offsets: np.ndarray
) -> np.ndarray:
    """The row that adds to each pixel the gradients of the windows of which it is the argmax."""
    order = np.argsort(offsets, axis=None, kind="stable")
    window, place = np.divmod(order, offsets.shape[1])
    bits = place.astype(np.float32).view(np.int32)
    ends = np.searchsorted(offsets.ravel()[order], grad_x.pixels(), side="right")
    return row(
        K_MAX_POOL_BACKWARD,
        **element_columns(planner, x=grad_x),
        **grad.columns("y"),
        **winner.columns("m"),
        y_channel=grad.channel,
        extra=-1,
        tap_table=planner.table(np.concatenate([[0], ends])),
        m_table=planner.table(np.stack([grad.pixels()[window], bits], axis=1)),
    )


def _max_forward(walk: "Forward", group: "Group") -> None:
    planner, x, y = walk.planner, walk.values[group.source], walk.output(group)
    winners = None
    if planner.backward:
        winners = planner.like(y, passing=planner.winners_pass(group))
        walk.winners[group.target] = winners
    windows, _ = pool_offsets(group, x, y)
    values = winner_row(planner, x, y, winners, windows)
    values[L.RELU] = walk.is_rectified(group.source)
    planner.emit(f"{group.node.name}: {adaptive(group)}max pooling", values)


def _max_backward(walk: "Backward", group: "Group", grad: "Buffer") -> None:
    """Route each window's gradient to its argmax; a window closed by a ReLU has none.

    If the result is a convolution's whole gradient, its bias gradient is summed in the same pass.
    """
    planner, takes_place = walk.planner, walk.takes_place(group)
    grad_x = walk.wanted(group)
    if grad_x is None:
        return
    walk.mask(group)
    windows, _ = pool_offsets(group, grad_x, grad)
    values = _winner_gradient(planner, grad_x, grad, walk.winners[group.target], windows)
    what = adaptive(group) or "max "
    planner.emit(f"{group.node.name}: gradient of {what}pooling", values)
    maker = planner.makers.get(group.source)
    if takes_place and maker is not None and walk.sums_biases(maker):
        _, bias = walk.partial(maker, 0, grad_x.channels)
        values[L.EXTRA], values[L.EXTRA_BLOCK] = bias["extra"], bias["extra_block"]
        walk.bias_sums[group.source] = bias


def _max_channels(walk: "ChannelForward", group: "Group") -> None:
    x, y = walk.values[group.source], walk.output(group)
    windows, _ = pool_offsets(group, x, y)
    values = winner_row(walk.planner, x, y, None, windows)
    walk.planner.emit(f"{group.node.name}: {adaptive(group)}max pooling", values)


lowered(
    "max_pool2d",
    "adaptive_max_pool2d",
    forward=_max_forward,
    backward=_max_backward,
    channels=_max_channels,
    keeps_lanes=True,
)
