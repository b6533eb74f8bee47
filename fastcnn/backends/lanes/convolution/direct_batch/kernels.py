"""Kernels of direct convolutions of small maps: each pixel's sum has only the taps inside the map.

Weights are read from the parameters, once for some blocks. Threads divide a row's units; a unit's
result does not depend on the thread that computes it.
"""

import numpy as np

from fastcnn.backends.lanes.convolution.direct_batch.algorithm import ROWS
from fastcnn.backends.lanes.convolution.direct_batch.tiles import pixel_tile
from fastcnn.backends.lanes.convolution.winograd2d_batch.kernels import blocks_of_row
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import share
from fastcnn.backends.lanes.kernels.linear_tiles import outer_tile
from fastcnn.codegen import linked, simd
from fastcnn.codegen.transpose_tiles import transpose_tile

LANES = simd.LANES
PIXEL_TILE = pixel_tile.among((8, 3), (8, 2), (1, 2))
OUTER_TILE_8X2 = outer_tile.sized(8, 2, 0)
OUTER_TILE_8X1 = outer_tile.sized(8, 1, 0)
#: Fields of a STRIP_TABLE entry, for pixels with the same taps: their first position (positions are
#: ordered by block), how many there are in a block, their first tap, and the number of taps.
ENTRIES = 4


@linked
def positions_of_kind(A, rows, x, xpix, count, rest):
    """ROWS channels, or one, at some positions that have the same taps."""
    p = 0
    while p < count:
        # Four positions are two pairs: tiles of three would compute six.
        wide = 3 if rows == ROWS and (count - p > 4 or count - p == 3) else 2
        PIXEL_TILE(rows, wide, (A, x, xpix, p), *rest)
        p += wide


@linked
def direct_batch(A, T, P, r, blocks, part, parts):
    """Convolution forward, or its input gradient, of some blocks; a unit is 8 output channels.

    POSITIONS kinds of pixels; TAP_TABLE has the offset of each tap in X, M_TABLE that in the
    weights, which are OUT apart for adjacent output channels.
    """
    count = blocks_of_row(r, blocks)
    x, y = r[L.X], r[L.Y]
    kinds = T[r[L.STRIP_TABLE] :]
    first, last = share((r[L.CHANNELS] + ROWS - 1) // ROWS, part, parts)
    for unit in range(first, last):
        c, end = unit * ROWS, min(unit * ROWS + ROWS, r[L.CHANNELS])
        while c < end:
            rows = ROWS if end - c == ROWS else 1
            for kind in range(r[L.POSITIONS]):
                place, pixels = kinds[ENTRIES * kind], kinds[ENTRIES * kind + 1]
                tap, taps = kinds[ENTRIES * kind + 2], kinds[ENTRIES * kind + 3]
                of_taps = T[r[L.TAP_TABLE] + tap :], T[r[L.M_TABLE] + tap :], taps
                bias = r[L.BIAS] + c if r[L.BIAS] >= 0 else -1
                weights = P, r[L.W] + c * r[L.OUT], r[L.OUT], P, bias
                to = A, y + c * r[L.Y_CHANNEL], T[r[L.Y_TABLE] + place :], r[L.Y_CHANNEL]
                rest = of_taps, weights, to, r[L.RELU], r[L.MODE]
                positions_of_kind(A, rows, x, T[r[L.X_TABLE] + place :], count * pixels, rest)
            c += rows


@linked
def direct_batch_turn(A, T, r, blocks, part, parts):
    """Copy the inputs of the weight gradient to Z, contiguously, one row per sample.

    The output's gradients follow, ordered by pixel and then by block.
    """
    inputs, outputs, most = r[L.IN], r[L.CHANNELS], r[L.STRIP_ROWS]
    parts_of_row = inputs // LANES
    grads = r[L.Z] + r[L.POSITIONS] * most * LANES * inputs
    first, last = share(r[L.POSITIONS] * blocks * parts_of_row, part, parts)
    for unit in range(first, last):
        p, c = unit // (blocks * parts_of_row), unit % parts_of_row * LANES
        b = unit // parts_of_row % blocks
        x = r[L.X] + b * r[L.X_BLOCK] + c * r[L.X_CHANNEL] + T[r[L.X_TABLE] + p]
        row = r[L.Z] + (p * most + b) * LANES * inputs + c
        transpose_tile(A, x, r[L.X_CHANNEL], A, row, inputs)
    first, last = share(r[L.GROUPS] * blocks, part, parts)
    for unit in range(first, last):
        p, b = unit // blocks, unit % blocks
        y = r[L.Y] + b * r[L.Y_BLOCK] + T[r[L.Y_TABLE] + p]
        target = grads + (p * most + b) * outputs * LANES
        for o in range(outputs):
            simd.store(A, target + o * LANES, simd.load(A, y + o * r[L.Y_CHANNEL]))


@linked
def direct_batch_gradient(A, T, G, r, blocks, worker, part, parts):
    """The weight gradient of the whole batch; a unit is that of 8 output channels.

    M_TABLE has the first pair of pixels of each of TAPS weights, TAP_TABLE the pairs: the output's
    pixel and the input's. M is scratch for a unit's sums.
    """
    inputs, outputs, most, taps = r[L.IN], r[L.CHANNELS], r[L.STRIP_ROWS], r[L.TAPS]
    grads = r[L.Z] + r[L.POSITIONS] * most * LANES * inputs
    sums = r[L.M] + worker * r[L.M_SLOT]
    ends, pairs = T[r[L.M_TABLE] :], T[r[L.TAP_TABLE] :]
    zero = simd.splat(np.float32(0))
    first, last = share(outputs // ROWS, part, parts)
    for unit in range(first, last):
        o = unit * ROWS
        for k in range(taps):
            target = sums + k * ROWS * inputs
            if ends[k] == ends[k + 1]:
                for i in range(0, ROWS * inputs, LANES):
                    simd.store(A, target + i, zero)
            for c in range(0, inputs - LANES, 2 * LANES):
                for pair in range(ends[k], ends[k + 1]):
                    d = grads + (pairs[2 * pair] * most * outputs + o) * LANES
                    x = r[L.Z] + pairs[2 * pair + 1] * most * LANES * inputs + c
                    of_x, sums_of = (A, x, inputs), (A, target + c, inputs)
                    rest = of_x, sums_of, pair > ends[k], (A, A, 0, 0, 0)
                    OUTER_TILE_8X2((A, d, outputs * LANES), blocks, *rest)
            if inputs % (2 * LANES):
                c = inputs - LANES
                for pair in range(ends[k], ends[k + 1]):
                    d = grads + (pairs[2 * pair] * most * outputs + o) * LANES
                    x = r[L.Z] + pairs[2 * pair + 1] * most * LANES * inputs + c
                    of_x, sums_of = (A, x, inputs), (A, target + c, inputs)
                    rest = of_x, sums_of, pair > ends[k], (A, A, 0, 0, 0)
                    OUTER_TILE_8X1((A, d, outputs * LANES), blocks, *rest)
        for i in range(ROWS):
            target = r[L.W] + (o + i) * inputs * taps
            for c in range(inputs):
                for k in range(taps):
                    G[target + c * taps + k] = A[sums + (k * ROWS + i) * inputs + c]
