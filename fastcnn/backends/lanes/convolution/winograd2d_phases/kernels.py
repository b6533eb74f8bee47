"""Kernels of convolutions with stride 2 as phases; see phases.py and winograd2d/kernels.py."""

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.kernels import (
    CHUNK,
    HIGH,
    SUMS,
    SUMS_STEP,
    ask_for_outputs,
    moments_of_channel,
    products,
)
from fastcnn.backends.lanes.convolution.winograd2d_phases.tiles import (
    phase_input_tile,
    phase_output_tile,
    phase_weight_tile,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import base, filled_lanes, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES
#: By the width of half a kernel.
HALVES = (2,), (3,)
INPUTS_TILE, OUTPUTS_TILE = phase_input_tile.among(*HALVES), phase_output_tile.among(*HALVES)
#: The same, and by whether the kernels are flipped.
WEIGHTS_TILE = phase_weight_tile.among((2, 1), (2, 0), (3, 1), (3, 0))


@linked
def winograd2d_phases_weights(A, T, P, r, part, parts, narrow):
    """Transformed weights of IN phases of kernels in the order in which tiles read them, OUT apart.

    X is the offset of the first one's weights, X_ROW the width of a kernel.
    """
    first, last = share((r[L.IN] + LANES - 1) // LANES, part, parts)
    places = T[r[L.TAP_TABLE] :]
    for unit in range(first, last):
        i = unit * LANES
        rest = P[r[L.X] :], places, i, r[L.X_ROW], A, r[L.W] + i, r[L.OUT]
        WEIGHTS_TILE(2 if narrow else 3, r[L.MODE] == L.FLIPPED, *rest)


@linked
def winograd2d_phases(A, T, P, r, block, slot, worker, count, part, parts, narrow):
    """Convolution forward, or a phase of its transpose; a unit is GROUPS strips of TAPS tiles.

    X is the input with IN channels, whose offsets TAP_TABLE has, Y the output; POSITIONS tiles, for
    which STRIP_TABLE has the number of rows and columns inside the map. Pixels of a tile are
    SPACING apart, those of Y Y_SPACING. PHASE_TABLE has the first channel and the number of
    channels of each product, S_TABLE the offset of its weights; PHASES of the input are read
    channel by channel. Z is scratch for transforms, of some output channels at a time. With
    MOMENTS, those of each unit go to EXTRA. NARROW are kernels whose halves are two pixels wide.
    """
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    inputs, outputs, strip, tiles = r[L.IN], r[L.CHANNELS], r[L.TAPS], r[L.POSITIONS]
    xpix, ypix, sizes = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.STRIP_TABLE] :]
    channels, some = T[r[L.TAP_TABLE] :], T[r[L.PHASE_TABLE] :]
    spacing = r[L.Y_SPACING]
    each = strip * LANES
    from_step = inputs * each + STAGGER
    half = 2 if narrow else 3
    factors = (half + OUTPUTS - 1) * (half + OUTPUTS - 1)
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    sums = transformed + factors * from_step
    spare = sums + factors * SUMS_STEP
    moments, valid = spare + LANES, min(LANES, filled_lanes(r, count) - block * LANES)
    of_unit = r[L.GROUPS] * strip
    first, last = share((tiles + of_unit - 1) // of_unit, part, parts)
    end = min(last * of_unit, tiles)
    for p0 in range(first * of_unit, end, strip):
        taken = min(strip, tiles - p0)
        for c in range(inputs):
            own = c % r[L.PHASES] * (inputs // r[L.PHASES]) + c // r[L.PHASES]
            for t in range(taken):
                x, v = x0 + channels[own] + xpix[p0 + t], transformed + own * each + t * LANES
                rest = A, x, r[L.X_ROW], r[L.SPACING], r[L.X_CHANNEL], A, v, from_step
                INPUTS_TILE(half, *rest)
        for c0 in range(0, outputs, CHUNK):
            made = min(CHUNK, outputs - c0)
            for k in range(factors):
                if k < made:
                    channel = (c0 + k) * r[L.Y_CHANNEL]
                    ask_for_outputs(A, T, r, spacing, y0 + channel, m0 + channel, p0, taken)
                low, summed = some[2 * k], some[2 * k + 1]
                v, s = transformed + k * from_step + low * each, sums + k * SUMS_STEP
                c = 0
                while c < made:
                    rows = 8 if HIGH and made - c >= 8 else 4 if made - c >= 4 else 1
                    w = r[L.W] + T[r[L.S_TABLE] + k] + (c0 + c) * inputs + low * rows
                    products(A, v, taken, summed, each, w, rows, s + c * SUMS, SUMS)
                    c += rows
            for c in range(c0, c0 + made):
                bias = P, r[L.BIAS] + c if r[L.BIAS] >= 0 else -1
                for t in range(taken):
                    s, place = sums + (c - c0) * SUMS + t * LANES, c * r[L.Y_CHANNEL] + ypix[p0 + t]
                    y, m = y0 + place, m0 + place
                    met = m - y if r[L.MODE] == L.ADDED else r[L.MODE]
                    inside = sizes[2 * (p0 + t)], sizes[2 * (p0 + t) + 1], spare
                    to = A, y, r[L.Y_ROW], spacing
                    rest = (A, s, SUMS_STEP), bias, to, inside, r[L.RELU], met
                    OUTPUTS_TILE(half, *rest)
                if r[L.MOMENTS]:
                    moments_of_channel(A, T, r, spacing, block, c, y0, p0, taken, valid, moments)
