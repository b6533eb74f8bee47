"""Kernels that copy pixels to other places or mix them, each for one block of 16 samples.

A kernel does the ``part``-th of ``parts`` equal shares of its units. A is the arena, T the tables,
r the program row. What goes forward by one table goes backward by another.
"""

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row, distinct
from fastcnn.backends.lanes.kernels.division import share
from fastcnn.backends.lanes.kernels.record import Kernel, map_sizes, register
from fastcnn.codegen import linked, simd

LANES = simd.LANES


@linked
def move(A, T, r, block, slot, part, parts):
    """Copy runs of vectors from X to Y, or set them to zero.

    TAP_TABLE has for each of POSITIONS runs: where it begins in X, -1 for zeros; where in Y; and
    its vectors.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    runs, table = r[L.POSITIONS], T[r[L.TAP_TABLE] :]
    zero = simd.splat(np.float32(0))
    e, last = share(r[L.CHANNELS] * runs, part, parts)
    c, k = e // runs, e % runs
    while e < last:
        source, count = table[3 * k], table[3 * k + 2]
        x = x0 + c * r[L.X_CHANNEL] + source
        y = y0 + c * r[L.Y_CHANNEL] + table[3 * k + 1]
        if source < 0:
            for i in range(0, count * LANES, LANES):
                simd.store(A, y + i, zero)
        else:
            for i in range(0, count * LANES, LANES):
                simd.store(A, y + i, simd.load(A, x + i))
        e, k = e + 1, k + 1
        if k == runs:
            c, k = c + 1, 0


@linked
def weighted_sums(A, T, r, block, slot, part, parts):
    """Each of POSITIONS pixels of Y is a sum of pixels of X times weights.

    TAP_TABLE has the number of its summands for each pixel, X_TABLE where they stand, one pixel
    after the other, and SCALE is where in the arena their weights do.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    positions, counts = r[L.POSITIONS], T[r[L.TAP_TABLE] :]
    sources, places = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    first, last = share(r[L.CHANNELS], part, parts)
    for c in range(first, last):
        x, y, k = x0 + c * r[L.X_CHANNEL], y0 + c * r[L.Y_CHANNEL], 0
        for p in range(positions):
            total = simd.splat(np.float32(0))
            for _ in range(counts[p]):
                weight = simd.splat(A[r[L.SCALE] + k])
                total = simd.fma(simd.load(A, x + sources[k]), weight, total)
                k += 1
            simd.store(A, y + places[p], total)


def _move(r: Row) -> Cost:
    runs = r.table(L.TAP_TABLE, 3 * r[L.POSITIONS]).reshape(-1, 3)
    read = int(runs[runs[:, 0] >= 0, 2].sum())
    return r.cost(0, r[L.CHANNELS] * read, r[L.CHANNELS] * int(runs[:, 2].sum()))


def _weighted_sums(r: Row) -> Cost:
    summands = int(r.table(L.TAP_TABLE, r[L.POSITIONS]).sum())
    read = distinct(r.table(L.X_TABLE, summands))
    return r.cost(2 * r[L.CHANNELS] * summands, r[L.CHANNELS] * read, r.elements)


register(
    {
        L.K_MOVE: Kernel(move, "move", _move, map_sizes),
        L.K_WEIGHTED_SUMS: Kernel(weighted_sums, "weighted sums", _weighted_sums, map_sizes),
    }
)
