"""Kernels of convolutions of single channels, each for one block of 16 samples.

A kernel does the ``part``-th of ``parts`` equal shares of the input's channels; what a channel
gives does not depend on the division. A is the arena, T the tables, P the parameters, r the
program row.

There are few operations for each number that is read, so a channel takes as long as it takes to
bring it from memory: all that is made of it is made while it is in the cache, and meanwhile the
next one is asked for.
"""

import numpy as np

from fastcnn.backends.lanes.convolution.depthwise.tiles import (
    depthwise_tile,
    weight_gradient_tile,
)
from fastcnn.backends.lanes.convolution.direct.bias import channel_sum
from fastcnn.backends.lanes.convolution.direct.gradient_kernels import (
    CHUNK,
    SUM_ROW,
    write_sums,
)
from fastcnn.backends.lanes.convolution.phases import (
    PHASE,
    PHASE_TAPS,
    PIXELS,
    READ_AT,
    TAPS_AT,
    WEIGHTS_AT,
    WRITTEN_AT,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, NO, NOUGHT, ONE, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES
#: Positions of a tile.
POSITIONS_OF_TILE = 8
#: Taps of a weight gradient's tiles.
MANY_TAPS, FEW_TAPS = 9, 5
#: Floats of scratch: sums of a channel's taps, and a spare vector.
SCRATCH = SUM_ROW + LANES
TILE = depthwise_tile.sized(POSITIONS_OF_TILE)
GRADIENT_OF_MANY = weight_gradient_tile.sized(MANY_TAPS)
GRADIENT_OF_FEW = weight_gradient_tile.sized(FEW_TAPS)


@linked
def tiles_of(T, table, phases):
    """Tiles of a channel."""
    tiles = 0
    for k in range(phases):
        pixels = np.int64(T[table + k * PHASE + PIXELS])
        tiles += (pixels + POSITIONS_OF_TILE - 1) // POSITIONS_OF_TILE
    return tiles


@linked
def channel(A, T, P, table, phases, x, w, bias, y, relu, masked, next_x, next_y, lines_x, lines_y):
    """The sums of all pixels of a channel, one phase of the stride after the other.

    With each tile some lines of the next channels of X and Y are asked for.
    """
    for k in range(phases):
        entry = table + k * PHASE
        taps, positions = np.int64(T[entry + PHASE_TAPS]), np.int64(T[entry + PIXELS])
        tap_table, chosen = T[T[entry + TAPS_AT] :], T[T[entry + WEIGHTS_AT] :]
        xpix, ypix = T[T[entry + READ_AT] :], T[T[entry + WRITTEN_AT] :]
        for p in range(0, positions, POSITIONS_OF_TILE):
            for i in range(lines_x):
                simd.prefetch(A, next_x + i * LANES)
            for i in range(lines_y):
                simd.prefetch_write(A, next_y + i * LANES)
            next_x, next_y = next_x + lines_x * LANES, next_y + lines_y * LANES
            TILE(A, x, xpix, p, tap_table, taps, P, w, chosen, P, bias, A, y, ypix, relu, masked)


@linked
def depthwise(A, T, P, r, block, slot, part, parts):
    """Convolution forward, or its input gradient: tables tell which."""
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    y0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    outputs, masked = r[L.CHANNELS], r[L.MODE] == L.MASKED
    table, phases = r[L.PHASE_TABLE], r[L.PHASES]
    tiles = max(ONE, tiles_of(T, table, phases) * outputs)
    first, last = share(r[L.GROUPS], part, parts)
    for group in range(first, last):
        x = x0 + group * r[L.X_GROUP]
        next_x, lines_x, lines_y = x + r[L.X_GROUP], NOUGHT, NOUGHT
        if group + 1 < last:
            lines_x = (r[L.X_GROUP] // LANES + tiles - 1) // tiles
            lines_y = (outputs * r[L.Y_CHANNEL] // LANES + tiles - 1) // tiles
        for c in range(group * outputs, (group + 1) * outputs):
            y = y0 + c * r[L.Y_CHANNEL]
            bias = r[L.BIAS] + c if r[L.BIAS] >= 0 else MISSING
            sums = A, T, P, table, phases, x, r[L.W] + c * r[L.TAPS], bias, y, r[L.RELU], masked
            channel(*sums, next_x, y + outputs * r[L.Y_CHANNEL], lines_x, lines_y)
            next_x += r[L.X_GROUP] // outputs


@linked
def depthwise_gradient(A, T, P, r, block, slot, worker, part, parts):
    """All gradients of one block: biases and weights to its partial buffer, the input's to Z.

    X is the input, Y the output's gradient, M scratch; sums of the output's gradient go BIAS floats
    after the weights' gradient. Z may be X's place: a channel is read before it is overwritten.
    """
    x0 = r[L.X] + block * r[L.X_BLOCK] + slot * r[L.X_SLOT]
    d0 = r[L.Y] + block * r[L.Y_BLOCK] + slot * r[L.Y_SLOT]
    z0 = r[L.Z] + block * r[L.Z_BLOCK] + slot * r[L.Z_SLOT]
    sums, out = r[L.M] + worker * r[L.M_SLOT], r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    taps, outputs, positions = r[L.TAPS], r[L.CHANNELS], r[L.POSITIONS]
    masked = r[L.MODE] == L.MASKED
    tap_table, xpix, dpix = T[r[L.TAP_TABLE] :], T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :]
    chunks = outputs * ((positions + CHUNK - 1) // CHUNK)
    lines_x = (r[L.X_GROUP] // LANES + chunks - 1) // chunks
    lines_d = (outputs * r[L.Y_CHANNEL] // LANES + chunks - 1) // chunks
    first, last = share(r[L.GROUPS], part, parts)
    for group in range(first, last):
        x = x0 + group * r[L.X_GROUP]
        next_x, next_d = x + r[L.X_GROUP], d0 + (group + 1) * outputs * r[L.Y_CHANNEL]
        for c in range(group * outputs, (group + 1) * outputs):
            d = d0 + c * r[L.Y_CHANNEL]
            if r[L.BIAS] >= 0:
                total = channel_sum(A, d, dpix, positions)
                A[out + r[L.BIAS] + c] = simd.lane_sum(total)
            for p in range(0, positions, CHUNK):
                if group + 1 < last:
                    for i in range(lines_x):
                        simd.prefetch(A, next_x + i * LANES)
                    for i in range(lines_d):
                        simd.prefetch(A, next_d + i * LANES)
                    next_x, next_d = next_x + lines_x * LANES, next_d + lines_d * LANES
                end = min(p + CHUNK, positions)
                sources = A, d, dpix, A, x, xpix, p, end, tap_table
                t = NOUGHT
                while t < taps:
                    target = sums + t * LANES
                    if taps - t > FEW_TAPS:
                        GRADIENT_OF_MANY(*sources, t, A, target, p == 0)
                        t += MANY_TAPS
                    else:
                        GRADIENT_OF_FEW(*sources, t, A, target, p == 0)
                        t += FEW_TAPS
            write_sums(A, ONE, sums, NOUGHT, taps, out + c * taps, taps, sums + SUM_ROW, NO)
        d, w = d0 + group * outputs * r[L.Y_CHANNEL], r[L.W] + group * outputs * taps
        z, nothing = z0 + group * r[L.Z_CHANNEL], (NOUGHT, NOUGHT, NOUGHT, NOUGHT)
        phases = A, T, P, r[L.PHASE_TABLE], r[L.PHASES]
        channel(*phases, d, w, MISSING, z, NOUGHT, masked, *nothing)
