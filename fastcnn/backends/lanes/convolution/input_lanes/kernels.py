"""The kernel of weight gradients whose vectors hold input channels; see convolution/direct.

A unit's result does not depend on how units are divided among threads.
"""

import numpy as np

from fastcnn.backends.lanes.convolution.direct.bias import strip_sum
from fastcnn.backends.lanes.convolution.input_lanes.algorithm import ROWS
from fastcnn.backends.lanes.convolution.input_lanes.tiles import input_lanes_tile
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.codegen import linked, simd
from fastcnn.codegen.transpose_tiles import transpose_tile

LANES = simd.LANES
ZERO = np.float32(0)
TILE = input_lanes_tile.among((ROWS, 3), (ROWS, 2), (ROWS, 1))
#: Floats of a pixel: 16 channels of 16 samples.
PIXEL = LANES * LANES
#: Floats of a channel prefetched ahead of the transpose.
AHEAD = 8 * LANES
#: Fields of a strip: first position, number of positions, first pixel, number of pixels.
ENTRIES = 4


@linked
def input_lanes_gradient(A, T, r, block, slot, worker, part, parts):
    """One block's gradient of a convolution's weights: [output][16 inputs][tap].

    X is the input with IN channels, Y the output's gradient with CHANNELS; TAPS taps per channel. A
    strip is a few rows of outputs; STRIP_TABLE has POSITIONS of them. The pixels of X that a strip
    reads are transposed, GROUPS times 16 channels at a time, to vectors of channels in Z. S_TABLE
    has the offsets of positions in Z, TAP_TABLE the taps of these channels; M_TABLE has the offsets
    of the taps' sums. The sums of the output's gradient go to M, unless that is negative. ADDS: the
    row of preceding strips has stored sums already.
    """
    x0, d0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    out = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    biases = r[L.M] + block * r[L.M_BLOCK]
    inputs, taps = r[L.IN], r[L.TAPS]
    pixels, strips = T[r[L.X_TABLE] :], T[r[L.STRIP_TABLE] :]
    room = r[L.Z] + worker * r[L.Z_SLOT]
    tiles, together = r[L.CHANNELS] // ROWS, r[L.GROUPS] * LANES
    first, last = share((inputs + together - 1) // together * tiles, part, parts)
    for strip in range(r[L.POSITIONS]):
        p0, count = strips[ENTRIES * strip], strips[ENTRIES * strip + 1]
        q0, size = strips[ENTRIES * strip + 2], strips[ENTRIES * strip + 3]
        more = strip > 0 or r[L.ADDS] > 0
        for piece in range(first // tiles, (last + tiles - 1) // tiles):
            c0 = piece * together
            channels = min(together, inputs - c0)
            for c in range(0, channels, LANES):
                # A channel's taps start at the offset of its first one.
                turned = room + T[r[L.TAP_TABLE] + c // LANES * taps]
                for q in range(size):
                    x = x0 + (c0 + c) * r[L.X_CHANNEL] + pixels[q0 + q]
                    for k in range(LANES):
                        simd.prefetch(A, x + k * r[L.X_CHANNEL] + AHEAD)
                    transpose_tile(A, x, r[L.X_CHANNEL], A, turned + q * PIXEL, LANES)
            begin, end = max(first - piece * tiles, 0), min(last - piece * tiles, tiles)
            for o in range(begin * ROWS, end * ROWS, ROWS):
                d, sums = d0 + o * r[L.Y_CHANNEL], out + (o * inputs + c0) * taps
                add_taps(A, T, r, d, p0, count, room, channels // LANES * taps, sums, more)
                if r[L.M] >= 0 and piece == 0:
                    add_gradients(A, T, r, d, p0, count, biases + o, more)


@linked
def add_gradients(A, T, r, d, p0, count, sums, more):
    """Sum the gradients of some output channels over a strip."""
    for k in range(ROWS):
        strip = strip_sum(A, d + k * r[L.Y_CHANNEL], T[r[L.Y_TABLE] :], p0, p0 + count)
        A[sums + k] = simd.lane_sum(strip) + (A[sums + k] if more else ZERO)


@linked
def add_taps(A, T, r, d, p0, count, room, taps, sums, more):
    """Products of some output channels with all taps in the scratch memory."""
    dpix, xpix = T[r[L.Y_TABLE] :], T[r[L.S_TABLE] :]
    places, targets = T[r[L.TAP_TABLE] :], T[r[L.M_TABLE] :]
    sources = (A, d, r[L.Y_CHANNEL], dpix, p0), (A, room, xpix, count)
    to = A, sums, r[L.IN] * r[L.TAPS]
    t = 0
    while t < taps:
        left = taps - t
        wide = 3 if left == 3 or left > 4 else min(left, 2)
        TILE(ROWS, wide, *sources, (places, targets, t), to, more)
        t += wide
