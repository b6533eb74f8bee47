"""Kernels of depthwise convolutions, each for one block of 16 samples.

Arithmetic intensity is low, so a channel takes as long as its transfer from memory: everything
computed from it is computed while it is in the cache, and the next channel is prefetched meanwhile.
"""

from itertools import product

import numpy as np

from fastcnn.backends.lanes.convolution.depthwise.tiles import (
    depthwise_tile,
    gradients_tile,
    products_tile,
    row_tile,
)
from fastcnn.backends.lanes.convolution.direct.bias import channel_sum
from fastcnn.backends.lanes.convolution.direct.gradient_kernels import write_sums
from fastcnn.backends.lanes.convolution.phases import phase_of
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, NO, NOUGHT, ONE, base, share
from fastcnn.codegen import linked, simd
from fastcnn.codegen.target import blocking

LANES = simd.LANES
#: Positions of a tile.
POSITIONS_OF_TILE = 8
#: Positions of tiles of a row, and kernel widths and strides for which there are such tiles. The
#: weights of narrower kernels stay in registers for a whole channel.
LONG_ROW, SHORT_ROW = 8, 4
ROW_WIDTHS, ROW_STRIDES = (5, 7), (1, 2)
#: Input pixels to which all taps are applied before the next pixels are loaded.
CHUNK = 64
#: Maximum taps whose weights, and gradient sums, fit in registers.
MOST_TAPS = min(9, blocking().gradients[1])
TILE = depthwise_tile.sized(POSITIONS_OF_TILE)
PRODUCTS_OF_9 = products_tile.sized(9)
ROW_TILE = row_tile.among(*product(ROW_WIDTHS, ROW_STRIDES, (LONG_ROW, SHORT_ROW)))
GRADIENTS_TILE = gradients_tile.among(
    *((taps,) for taps in ((9, 6, 4, 2, 1) if MOST_TAPS == 9 else range(MOST_TAPS, 0, -1)))
)


def scratch(taps: int) -> int:
    """Floats of scratch for gradients: a chunk, a vector, and the sums of taps + 15."""
    return (CHUNK + 1 + taps + LANES - 1) * LANES


@linked
def depthwise(A, T, P, r, block, slot, part, parts):
    """Convolution forward, or its input gradient, depending on the tables.

    While a channel is computed, the next one of X and of Y is prefetched.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    outputs, masked = r[L.CHANNELS], r[L.MODE] == L.MASKED
    first, last = share(r[L.GROUPS], part, parts)
    for group in range(first, last):
        x, next_x, next_y = x0 + group * r[L.X_GROUP], r[L.X_GROUP], outputs * r[L.Y_CHANNEL]
        if group + 1 == last:
            next_x, next_y = NOUGHT, NOUGHT
        for c in range(group * outputs, (group + 1) * outputs):
            y, w = y0 + c * r[L.Y_CHANNEL], r[L.W] + c * r[L.TAPS]
            bias = r[L.BIAS] + c if r[L.BIAS] >= 0 else MISSING
            if r[L.Y_WIDTH] > 0:
                rows_of_channel(A, T, r, x, y, (P, w, P, bias), (next_x, next_y))
                continue
            for k in range(r[L.PHASES]):
                taps, positions, weights, tap_table, xpix, ypix = phase_of(T, r, k)
                to, later = (A, y, ypix), (next_x, next_y)
                rest = (P, w, T[weights:], P, bias), to, r[L.RELU], masked, later
                if MOST_TAPS == 9 and taps == 9:
                    PRODUCTS_OF_9((A, x, xpix, NOUGHT), positions, tap_table, *rest)
                else:
                    for p in range(0, positions, POSITIONS_OF_TILE):
                        TILE((A, x, xpix, p), (tap_table, taps), *rest)


@linked
def rows_of_channel(A, T, r, x, y, kernel, later):
    """A channel of Y row by row, if it has Y_WIDTH; the end of a row may be computed twice.

    A kernel has KERNEL_ROWS rows of IN weights, X_ROW floats apart in X. Pixels of X from one
    position to the next are ALONG.
    """
    _, positions, _, _, xpix, ypix = phase_of(T, r, NOUGHT)
    width, run, step, rows = r[L.Y_WIDTH], r[L.IN], r[L.ALONG], r[L.KERNEL_ROWS]
    wide = LONG_ROW if width >= LONG_ROW else SHORT_ROW
    for p in range(0, positions, width):
        for start in range(0, width, wide):
            c = min(start, width - wide)
            inputs = A, x + xpix[p] + c * step * LANES, r[L.X_ROW], rows
            rest = inputs, kernel, (A, y + ypix[p] + c * LANES), r[L.RELU], later
            ROW_TILE(run, step, wide, *rest)


@linked
def depthwise_gradient(A, T, P, r, block, slot, worker, part, parts):
    """All gradients of one block: bias and weight to its partial buffer, input to Z.

    X is the input, Y the output's gradient, M scratch; sums of the output's gradient are stored
    BIAS floats after the weight gradient. X_TABLE has the input's pixels phase by phase. Z may
    equal X, because a pixel is read before it is overwritten, or be missing.
    """
    x0, d0, z0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.Z, block, slot)
    between, out = r[L.M] + worker * r[L.M_SLOT], r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    # A spare vector precedes them.
    sums = between + (CHUNK + 1) * LANES
    taps, outputs, positions = r[L.TAPS], r[L.CHANNELS], r[L.POSITIONS]
    first, last = share(r[L.GROUPS], part, parts)
    for group in range(first, last):
        x, d = x0 + group * r[L.X_GROUP], d0 + group * outputs * r[L.Y_CHANNEL]
        for c in range(outputs * (r[L.BIAS] >= 0)):
            total = channel_sum(A, d + c * r[L.Y_CHANNEL], T[r[L.Y_TABLE] :], positions)
            A[out + r[L.BIAS] + group * outputs + c] = simd.lane_sum(total)
        for t in range(outputs * taps):
            simd.store(A, sums + t * LANES, simd.splat(np.float32(0)))
        z = z0 + group * r[L.Z_CHANNEL] if r[L.Z] >= 0 else MISSING
        all_phases(A, T, P, r, d, x, z, group * outputs * taps, between, sums, group + 1 < last)
        target = out + group * outputs * taps
        write_sums(A, ONE, sums, NOUGHT, outputs * taps, target, NOUGHT, sums - LANES, NO)


@linked
def all_phases(A, T, P, r, d, x, z, weight, between, sums, more):
    """All pixels of a channel of the input, one phase of the stride after the other.

    Between tiles of taps, the input's gradients are kept in BETWEEN; the weights' are in SUMS
    throughout. If MORE channels follow, what the next one reads is prefetched.
    """
    masked = r[L.MODE] == L.MASKED
    next_d, next_x = r[L.CHANNELS] * r[L.Y_CHANNEL], r[L.X_GROUP]
    if not more:
        next_d, next_x = NOUGHT, NOUGHT
    xpix = T[r[L.X_TABLE] :]
    for k in range(r[L.PHASES]):
        taps, pixels, weights, tap_table, dpix, zpix = phase_of(T, r, k)
        if taps == 0 and z >= 0:
            for p in range(pixels):
                simd.store(A, z + zpix[p], simd.splat(np.float32(0)))
        for p in range(0, pixels, CHUNK):
            maps, some = ((A, d, dpix), (A, x, xpix), (A, z, zpix)), (p, min(p + CHUNK, pixels))
            t = NOUGHT
            while t < taps:
                wide = taps_of_tile(taps - t)
                ends = t + wide == taps and z >= 0
                kernel = (tap_table, T[weights:], t), (P, r[L.W] + weight)
                targets = (A, sums), (A, between), t == 0, ends, masked, (next_d, next_x)
                rest = maps, some, *kernel, *targets
                GRADIENTS_TILE(wide, *rest)
                t += wide
        xpix = xpix[pixels:]


@linked
def taps_of_tile(left):
    """Taps of the next tile if ``left`` remain."""
    if MOST_TAPS == 9 and left >= 6:
        return 9 if left >= 9 else 6
    if MOST_TAPS == 9 and left >= 4:
        return 4
    if MOST_TAPS == 3 and left >= 3:
        return 3
    return 2 if left >= 2 else 1
