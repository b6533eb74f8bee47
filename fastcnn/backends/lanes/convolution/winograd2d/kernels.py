"""Kernels of 3x3 convolutions by Winograd's F(4x4, 3x3); see tiles.py.

A kernel computes the ``part``-th of ``parts`` equal shares of its units; a unit's result does not
depend on the division, so neither do results on the number of threads. A is the arena, T the
tables, P the parameters, G their gradient, r the program row. Tiles are processed in strips whose
transforms stay in the second-level cache.
"""

from itertools import product

import numpy as np

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.edge_tiles import (
    FEW,
    FIRST_WITHOUT,
    edge_input_tile,
    edge_output_tile,
    edge_pooled_output_tile,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided import STRIDED_PRODUCTS
from fastcnn.backends.lanes.convolution.winograd2d.strided_tiles import (
    strided_input_tile,
    strided_output_tile,
    strided_pooled_tile,
    strided_weight_tile,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    HEIGHTS,
    PRODUCTS,
    SIDE,
    WIDTH,
    input_tile,
    moment_tile,
    output_tile,
    pooled_output_tile,
    product_tile,
    weight_tile,
)
from fastcnn.backends.lanes.convolution.winograd_tiles import ask_tile
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import base, filled_lanes, share
from fastcnn.backends.lanes.kernels.norm import squared_deviations
from fastcnn.codegen import linked, simd

LANES = simd.LANES
HIGH = HEIGHTS[0] == 8
PRODUCT_TILE = product_tile.among(*product(HEIGHTS, (WIDTH, 2, 1)))
WEIGHT_TILE = weight_tile.among((1,), (0,))
MOMENTS_OF_TILE, MOMENTS_OF_WINDOWS = moment_tile.sized(OUTPUTS), moment_tile.sized(OUTPUTS // 2)
#: Tiles with few columns, with few rows, and with few of both: whether rows and columns are few.
EDGES = (0, 1), (1, 0), (1, 1)
INPUTS_AT_EDGE, OUTPUTS_AT_EDGE = edge_input_tile.among(*EDGES), edge_output_tile.among(*EDGES)
WINDOWS_AT_EDGE = edge_pooled_output_tile.among(*EDGES)
#: Flags of a tile with few columns or few rows.
COLUMNS, ROWS = 1, 2
ASK_TILE, ASK_TILE_OF_2 = ask_tile.sized(OUTPUTS, 0), ask_tile.sized(2 * OUTPUTS, 0)
ASK_OUTPUTS = ask_tile.sized(OUTPUTS, 1)
ASK_WINDOWS = ask_tile.sized(OUTPUTS // 2, 1)
#: Output channels whose products are computed at a time, and the maximum number of tiles:
#: transforms leave most of the second-level cache to weights and to prefetched data.
CHUNK, MOST_TILES = 16, 2
#: Floats from a channel's products to the next one's, and from one product to the next:
#: compile-time constants need no registers.
SUMS, SUMS_STEP = MOST_TILES * LANES, CHUNK * MOST_TILES * LANES + STAGGER
#: Products of a strip before the next one's pixels are prefetched: outputs' addresses come first.
LATER = 12
#: Minimum floats of a block's map for prefetching: smaller ones are in the second-level cache.
FAR = 128 * 1024


def strip_room(inputs: int, strip: int, factors: int) -> int:
    """Floats of a strip's transforms, with ``factors`` products a tile, and of a spare vector."""
    return factors * (inputs * strip * LANES + STAGGER + SUMS_STEP) + LANES


def moment_room(outputs: int) -> int:
    """Floats of the shifts and sums of a product's moments."""
    return 3 * outputs * LANES


@linked
def winograd2d_weights(A, T, P, r, part, parts):
    """Transformed weights of IN kernels in the order in which tiles read them, OUT apart."""
    first, last = share((r[L.IN] + LANES - 1) // LANES, part, parts)
    places = T[r[L.TAP_TABLE] :]
    for unit in range(first, last):
        i = unit * LANES
        if r[L.DOWN] == 2:
            strided_weight_tile(P, places, i, A, r[L.W] + i, r[L.OUT])
        else:
            WEIGHT_TILE(r[L.MODE] == L.FLIPPED, P, places, i, A, r[L.W] + i, r[L.OUT])


@linked
def edge_of(sizes, tile, few):
    """Flags of a tile whose rows or columns are at most FEW."""
    rows = ROWS if sizes[2 * tile] <= few else 0
    return rows + (COLUMNS if sizes[2 * tile + 1] <= few else 0)


@linked
def tiles_with_product(sizes, p0, count, few, k):
    """The first of some tiles that have product k, and the one after the last."""
    rows = ROWS if FIRST_WITHOUT <= k // SIDE < SIDE - 1 else 0
    without = rows + (COLUMNS if FIRST_WITHOUT <= k % SIDE < SIDE - 1 else 0)
    first, last = count, 0
    for t in range(count):
        if edge_of(sizes, p0 + t, few) & without == 0:
            first, last = min(first, t), t + 1
    return first, last


@linked
def edge_inputs(A, r, spacing, edge, x, v, step):
    """Transform the pixels of an edge tile of a channel."""
    rest = A, x, r[L.X_ROW], spacing, r[L.X_CHANNEL], A, v, step
    if edge == 0:
        input_tile(*rest)
    else:
        INPUTS_AT_EDGE(edge // ROWS, edge % ROWS, *rest)


@linked
def outputs_of_channel(A, T, P, r, spacing, c, y0, m0, p0, count, sums, step, spare, edge):
    """The outputs of some tiles of a channel from their products, which are ``step`` apart.

    With EDGE, the stride is 1, and some tiles have few rows or columns.
    """
    ypix, sizes = T[r[L.Y_TABLE] :], T[r[L.STRIP_TABLE] :]
    few = FEW // 2 if r[L.MODE] == L.POOLED else FEW
    strided = r[L.DOWN] == 2 and not edge
    bias = r[L.BIAS] + c if r[L.BIAS] >= 0 else -1
    for t in range(count):
        s, place = sums + t * LANES, c * r[L.Y_CHANNEL] + ypix[p0 + t]
        rows, columns = sizes[2 * (p0 + t)], sizes[2 * (p0 + t) + 1]
        y, m, bits = y0 + place, m0 + place, edge_of(sizes, p0 + t, few) if edge else 0
        sources, inside = ((A, s, step), (P, bias)), (rows, columns, spare)
        met = m - y if r[L.MODE] == L.ADDED else r[L.MODE]
        if r[L.MODE] == L.POOLED:
            windows = *sources, (A, y, A, m, r[L.Y_ROW]), inside, r[L.RELU]
            if strided:
                strided_pooled_tile(*windows)
            elif bits == 0:
                pooled_output_tile(*windows)
            else:
                WINDOWS_AT_EDGE(bits // ROWS, bits % ROWS, *windows)
        elif strided:
            strided_output_tile(*sources, (A, y, r[L.Y_ROW], LANES), inside, r[L.RELU], met)
        else:
            rest = *sources, (A, y, r[L.Y_ROW], spacing), inside, r[L.RELU], met
            if bits == 0:
                output_tile(*rest)
            else:
                OUTPUTS_AT_EDGE(bits // ROWS, bits % ROWS, *rest)


@linked
def products(A, v, tiles, inputs, each, w, outputs, s, apart):
    """One of the products of some tiles, summed over input channels, for some output channels.

    Inputs are EACH floats apart, outputs APART.
    """
    c = 0
    while c < outputs:
        left = outputs - c
        rows = 8 if HIGH and left >= 8 else 4 if left >= 4 else 1
        t = 0
        while t < tiles:
            columns = WIDTH if tiles - t >= WIDTH else 2 if tiles - t >= 2 else 1
            sources, weights = (A, v + t * LANES, inputs, each), (A, w + c * inputs)
            rest = *sources, *weights, A, s + c * apart + t * LANES, apart
            PRODUCT_TILE(rows, columns, *rest)
            t += columns
        c += rows


@linked
def ask_for_outputs(A, T, r, spacing, y, m, p0, count):
    """Prefetch the outputs of a channel's tiles, and what is added to them."""
    for t in range(count):
        place = y + T[r[L.Y_TABLE] + p0 + t]
        if r[L.MODE] == L.POOLED:
            ASK_WINDOWS(A, place, r[L.Y_ROW], LANES)
        else:
            ASK_OUTPUTS(A, place, r[L.Y_ROW], spacing)
        if r[L.MODE] == L.ADDED:
            ASK_TILE(A, place + m - y, r[L.Y_ROW], spacing)


@linked
def ask_for_inputs(A, T, r, spacing, x0, p0, count, first, last):
    """Prefetch what some tiles read of some channels, except what the preceding tiles read."""
    shared = 1 if r[L.DOWN] == 2 else SIDE - OUTPUTS
    for c in range(first, last):
        corner = x0 + c * r[L.X_CHANNEL] + shared * (r[L.X_ROW] + spacing)
        for t in range(p0, p0 + count):
            place = corner + T[r[L.X_TABLE] + t]
            if r[L.DOWN] == 2:
                ASK_TILE_OF_2(A, place, r[L.X_ROW], LANES)
            else:
                ASK_TILE(A, place, r[L.X_ROW], spacing)


@linked
def begin_moments(A, pixel, valid, m, apart):
    """Start a channel's moments: a shift, from its first pixel, and two sums; see moment_tile.

    These are three vectors per channel, APART.
    """
    first = simd.first_lanes(valid, simd.load(A, pixel))
    simd.store(A, m, simd.splat(simd.lane_sum(first) / np.float32(valid)))
    simd.store(A, m + apart, simd.splat(np.float32(0)))
    simd.store(A, m + 2 * apart, simd.splat(np.float32(0)))


@linked
def add_moments(A, T, r, spacing, y, p0, tiles, m, apart):
    """Add a channel's outputs of some tiles, just written, to its moments."""
    ypix, sizes = T[r[L.Y_TABLE] :], T[r[L.STRIP_TABLE] :]
    for t in range(p0, p0 + tiles):
        rows, columns = sizes[2 * t], sizes[2 * t + 1]
        if r[L.MODE] == L.POOLED:
            MOMENTS_OF_WINDOWS(A, y + ypix[t], r[L.Y_ROW], LANES, rows, columns, A, m, apart)
        else:
            of_tile = r[L.Y_ROW], spacing, rows, columns
            MOMENTS_OF_TILE(A, y + ypix[t], *of_tile, A, m, apart)


@linked
def end_moments(A, T, r, c, p0, tiles, valid, m, apart, out):
    """Mean and squared deviations of a channel's outputs of some tiles; see kernels/norm.py."""
    sizes, pixels = T[r[L.STRIP_TABLE] :], 0
    side = OUTPUTS // 2 if r[L.MODE] == L.POOLED else OUTPUTS
    for t in range(p0, p0 + tiles):
        pixels += min(side, sizes[2 * t]) * min(side, sizes[2 * t + 1])
    size = np.float32(valid * pixels)
    total = simd.lane_sum(simd.first_lanes(valid, simd.load(A, m + apart)))
    squares = simd.lane_sum(simd.first_lanes(valid, simd.load(A, m + 2 * apart)))
    mean = A[m] + total / size
    A[out + c] = mean
    A[out + r[L.CHANNELS] + c] = squared_deviations(squares, total, size, mean)


@linked
def moments_of_channel(A, T, r, spacing, block, c, y0, p0, taken, valid, moments):
    """Begin, continue or end a unit's moments with a channel's outputs of a strip, just written."""
    unit = p0 // (r[L.GROUPS] * r[L.TAPS])
    first = unit * r[L.GROUPS] * r[L.TAPS]
    end = min(first + r[L.GROUPS] * r[L.TAPS], r[L.POSITIONS])
    y, m = y0 + c * r[L.Y_CHANNEL], moments + c * 3 * LANES
    if p0 == first:
        begin_moments(A, y + T[r[L.Y_TABLE] + p0], valid, m, LANES)
    add_moments(A, T, r, spacing, y, p0, taken, m, LANES)
    if p0 + taken == end:
        out = r[L.EXTRA] + block * r[L.EXTRA_BLOCK] + unit * 2 * r[L.CHANNELS]
        end_moments(A, T, r, c, first, end - first, valid, m, LANES, out)


@linked
def winograd2d(A, T, P, r, block, slot, worker, count, part, parts, edge, dilated):
    """Convolution forward; a unit is GROUPS strips of TAPS tiles.

    X is the input with IN channels, Y the output; POSITIONS tiles, for which STRIP_TABLE has the
    number of rows and columns inside the map. Z is scratch for transforms, of some output channels
    at a time. DOWN is the stride; S_TABLE has the offset of each product's weights. With MOMENTS,
    those of each unit go to EXTRA. With EDGE, tiles with few rows or columns have fewer products.
    If DILATED, a tile's pixels are SPACING apart.
    """
    spacing = r[L.SPACING] if dilated else LANES
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    inputs, outputs, strip, tiles = r[L.IN], r[L.CHANNELS], r[L.TAPS], r[L.POSITIONS]
    xpix, sizes = T[r[L.X_TABLE] :], T[r[L.STRIP_TABLE] :]
    few = FEW // 2 if r[L.MODE] == L.POOLED else FEW
    each = strip * LANES
    from_step = inputs * each + STAGGER
    strided = r[L.DOWN] == 2 and not edge
    factors = STRIDED_PRODUCTS if strided else PRODUCTS
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    sums = transformed + factors * from_step
    spare = sums + factors * SUMS_STEP
    moments, valid = spare + LANES, min(LANES, filled_lanes(r, count) - block * LANES)
    of_unit = r[L.GROUPS] * strip
    first, last = share((tiles + of_unit - 1) // of_unit, part, parts)
    end = min(last * of_unit, tiles)
    turns = (outputs + CHUNK - 1) // CHUNK * (factors - LATER)
    far = inputs * r[L.X_CHANNEL] >= FAR
    for p0 in range(first * of_unit, end, strip):
        taken = min(strip, tiles - p0)
        for c in range(inputs):
            for t in range(taken):
                x = x0 + c * r[L.X_CHANNEL] + xpix[p0 + t]
                v = transformed + c * each + t * LANES
                if edge:
                    edge_inputs(A, r, spacing, edge_of(sizes, p0 + t, few), x, v, from_step)
                elif strided:
                    strided_input_tile(A, x, r[L.X_ROW], r[L.X_CHANNEL], A, v, from_step)
                else:
                    input_tile(A, x, r[L.X_ROW], spacing, r[L.X_CHANNEL], A, v, from_step)
        coming = min(strip, end - p0 - taken) if far else 0
        for c0 in range(0, outputs, CHUNK):
            made = min(CHUNK, outputs - c0)
            for k in range(factors):
                if coming > 0 and k >= LATER:
                    turn = c0 // CHUNK * (factors - LATER) + k - LATER
                    first_c, last_c = share(inputs, turn, turns)
                    ask_for_inputs(A, T, r, spacing, x0, p0 + strip, coming, first_c, last_c)
                if k < made:
                    channel = (c0 + k) * r[L.Y_CHANNEL]
                    ask_for_outputs(A, T, r, spacing, y0 + channel, m0 + channel, p0, taken)
                v, w = transformed + k * from_step, r[L.W] + T[r[L.S_TABLE] + k] + c0 * inputs
                s = sums + k * SUMS_STEP
                t0, t1 = tiles_with_product(sizes, p0, taken, few, k) if edge else (0, taken)
                v, s = v + t0 * LANES, s + t0 * LANES
                products(A, v, t1 - t0, inputs, each, w, made, s, SUMS)
            for c in range(c0, c0 + made):
                s = sums + (c - c0) * SUMS
                rest = p0, taken, s, SUMS_STEP, spare, edge
                outputs_of_channel(A, T, P, r, spacing, c, y0, m0, *rest)
                if r[L.MOMENTS]:
                    moments_of_channel(A, T, r, spacing, block, c, y0, p0, taken, valid, moments)
