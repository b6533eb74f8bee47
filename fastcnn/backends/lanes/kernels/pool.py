"""Kernels of pooling, each for one block of 16 samples.

A kernel does the ``part``-th of ``parts`` equal shares of its units; a unit's result does not
depend on the division, so neither do results on the number of threads. A is the arena, T the
tables, P the parameters, G their gradient, r the program row.
"""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row, distinct
from fastcnn.backends.lanes.kernels.division import MISSING, STRIP, share
from fastcnn.backends.lanes.kernels.pool_tiles import window_tile, winners_tile
from fastcnn.backends.lanes.kernels.record import Kernel, map_sizes, register
from fastcnn.codegen import linked, simd

LANES = simd.LANES
WINDOW_OF_NINE, WINDOW_OF_FOUR = window_tile.sized(9, 1), window_tile.sized(4, 1)
WINDOW = window_tile.sized(0, 1)
LARGEST_OF_NINE, LARGEST_OF_FOUR = window_tile.sized(9, 0), window_tile.sized(4, 0)
LARGEST = window_tile.sized(0, 0)
#: Windows by which their pixels are asked for beforehand.
AHEAD = 48
#: Floats of a block's map above which the last-level cache does not keep it for its reader.
FITS_CACHE = 4 * 1024 * 1024


@linked
def max_pool(A, T, r, block, slot, part, parts):
    """Maximum over windows; M, unless it is negative, receives the winner's place in its window.

    With RELU, X is what a rectifier made: a window of zeros has no winner, -1.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    m0 = r[L.M] + block * r[L.M_BLOCK] + slot * r[L.M_SLOT] if r[L.M] >= 0 else MISSING
    size, windows, rectified = r[L.TAPS], T[r[L.TAP_TABLE] :], r[L.RELU]
    positions, places = r[L.POSITIONS], T[r[L.Y_TABLE] :]
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        x, y, m = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.Y_CHANNEL]
        for p in range(positions):
            at, later, later_x = places[p], p + AHEAD, x
            if later >= positions and c + 1 < last:
                later, later_x = later - positions, x + r[L.X_CHANNEL]
            ask = later_x, min(later, positions - 1) * size
            rest = A, x, windows, p * size, size, *ask, A, y + at, A, m + at, rectified
            if m0 < 0:
                if size == 9:
                    LARGEST_OF_NINE(*rest)
                elif size == 4:
                    LARGEST_OF_FOUR(*rest)
                else:
                    LARGEST(*rest)
            elif size == 9:
                WINDOW_OF_NINE(*rest)
            elif size == 4:
                WINDOW_OF_FOUR(*rest)
            else:
                WINDOW(*rest)


@linked
def max_pool_backward(A, T, r, block, slot, part, parts):
    """Each pixel gets the gradients of the windows that it won.

    X is the input's gradient, Y the output's. M_TABLE has the windows of all pixels, TAP_TABLE
    where those of each begin, and at last where they end. The sums of the input's gradient go to
    EXTRA, unless it is negative.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    m0 = r[L.M] + block * r[L.M_BLOCK] + slot * r[L.M_SLOT]
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
    """Gradients of some 2x2 windows to their winners, 4 meaning none; returns their sum.

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
    """The same for 2x2 windows that tile the map and carry winner 4 for a closed rectifier.

    The sums of what is sent, which are the bias gradient, go to EXTRA.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    m0 = r[L.M] + block * r[L.M_BLOCK] + slot * r[L.M_SLOT]
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


@linked
def avg_pool(A, T, r, block, slot, part, parts, backward):
    """Mean over windows, or its gradient spread over them.

    TAP_TABLE has, for each window, its number of pixels inside and their offsets; SCALE is where
    in the arena the reciprocal divisors stand.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    size = r[L.TAPS]
    first, last = share(r[L.CHANNELS], part, parts)
    zero = simd.splat(np.float32(0))
    for c in range(first, last):
        x, y = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL]
        if backward:
            for i in range(r[L.IN]):
                simd.store(A, x + T[r[L.X_TABLE] + i], zero)
        for p in range(r[L.POSITIONS]):
            window = r[L.TAP_TABLE] + p * (size + 1)
            at = y + T[r[L.Y_TABLE] + p]
            scale = simd.splat(A[r[L.SCALE] + p])
            if backward:
                grad = simd.mul(simd.load(A, at), scale)
                for k in range(1, T[window] + 1):
                    target = x + T[window + k]
                    simd.store(A, target, simd.add(simd.load(A, target), grad))
            else:
                total, pixels = zero, T[window]
                for start in range(0, pixels, STRIP):
                    strip = zero
                    for k in range(start + 1, min(start + STRIP, pixels) + 1):
                        strip = simd.add(strip, simd.load(A, x + T[window + k]))
                    total = simd.add(total, strip)
                simd.store(A, at, simd.mul(total, scale))


def _windows(r: Row) -> int:
    """Vectors of a channel that lie in some window of an average pooling."""
    rows = r.table(L.TAP_TABLE, r[L.POSITIONS] * (r[L.TAPS] + 1)).reshape(-1, r[L.TAPS] + 1)
    inside = np.arange(r[L.TAPS]) < rows[:, :1]
    return distinct(rows[:, 1:][inside])


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


def _avg_pool(r: Row) -> Cost:
    return r.cost(r.elements * r[L.TAPS], r[L.CHANNELS] * _windows(r), r.elements)


def _avg_pool_backward(r: Row) -> Cost:
    return r.cost(r.elements * r[L.TAPS], r.elements, r[L.CHANNELS] * r[L.IN])


def _unpool(r: Row) -> Cost:
    return r.cost(4 * r.elements, 2 * r.elements, 4 * r.elements, partial=r[L.CHANNELS])


def _window_sizes(r: Row) -> str:
    return f"{map_sizes(r)}, {r[L.TAPS]} taps"


register(
    {
        L.K_MAX_POOL: Kernel(max_pool, "max pool", _max_pool, _window_sizes),
        L.K_MAX_POOL_BACKWARD: Kernel(
            max_pool_backward, "max pool gradient", _max_pool_backward, map_sizes
        ),
        L.K_AVG_POOL: Kernel(
            avg_pool, "average pool", _avg_pool, _window_sizes, fixed={"backward": False}
        ),
        L.K_AVG_POOL_BACKWARD: Kernel(
            avg_pool,
            "average pool gradient",
            _avg_pool_backward,
            _window_sizes,
            fixed={"backward": True},
        ),
        L.K_UNPOOL: Kernel(unpool, "unpool 2x2", _unpool, map_sizes),
    }
)
