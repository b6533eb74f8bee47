"""The kernel that goes back through the 2x2 max pooling that is fused to a convolution."""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.kernels.division import STRIP, base, share
from fastcnn.backends.lanes.kernels.record import map_sizes, numbered
from fastcnn.backends.lanes.reach.ranges import Reach, Touches, arena, channels_of
from fastcnn.codegen import linked, simd

LANES = simd.LANES


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


def _cost(r: Row) -> Cost:
    return r.cost(4 * r.elements, 2 * r.elements, 4 * r.elements, partial=r[L.CHANNELS])


def _reach(r: Reach) -> Touches:
    positions = r.count(L.POSITIONS)
    pixels, outputs = r.entries(L.X_TABLE, 4 * positions), r.entries(L.Y_TABLE, positions)
    yield arena("X", channels_of(r, L.X, L.X_CHANNEL, pixels))
    yield arena("Y", channels_of(r, L.Y, L.Y_CHANNEL, outputs))
    yield arena("M", channels_of(r, L.M, L.Y_CHANNEL, outputs))
    sums = r.blocks(L.EXTRA, L.EXTRA_BLOCK) + r.along(r[L.CHANNELS], 1)
    yield arena("EXTRA", sums, 1)


K_UNPOOL = numbered(unpool, "unpool 2x2", _cost, map_sizes, touches=_reach)
