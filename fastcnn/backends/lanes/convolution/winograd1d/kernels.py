"""Kernels of convolutions by Winograd's F(4, r) along rows; see geometry.py.

TAPS is the width of a piece of the kernel, MORE_TILES the number of pieces minus one, GROUPS the
tiles of a row of outputs. STRIP_TABLE has strips of rows: the first row, the number of rows, and
the first and last + 1 kernel row that reads any input for them. A strip's transforms stay in the
second-level cache.
"""

import numpy as np

from fastcnn.backends.lanes.convolution.direct.gradient_kernels import (
    SUM_ROW,
    TAP_BLOCK,
    add_grid,
    channels_of_gradient,
    height_of_gradient,
    tiles_of_gradient,
    width_of_gradient,
    write_sums,
)
from fastcnn.backends.lanes.convolution.direct.kernels import NOTHING, products
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd1d.geometry import PASS_CHANNELS, Strip
from fastcnn.backends.lanes.convolution.winograd1d.tiles import (
    input_gradient_row,
    outputs_row,
    points_of_weights,
    points_row,
    pooled_outputs_row,
    weight_gradient_of_points,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, NO, NOUGHT, ONE, YES, base, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES
#: Tiles after a strip's last that a register tile may read.
OVERSHOOT = 8
#: Fields of a strip in the table.
STRIP_WIDTH = len(Strip._fields)


@linked
def winograd1d_weights(A, T, P, r, part, parts):
    """Transformed weights of IN pieces of kernels, in the order of TAP_TABLE; points OUT apart."""
    first, last = share((r[L.IN] + LANES - 1) // LANES, part, parts)
    places = T[r[L.TAP_TABLE] :]
    for unit in range(first, last):
        i = unit * LANES
        points_of_weights(r[L.TAPS], P, places, i, A, r[L.W] + i, r[L.OUT])


@linked
def to_points(
    A, r, spacing, x, channel, row, height, along, channels, first, count, v, each, step, tiles,
    gradient,
):  # fmt: skip
    """Transform some rows of maps to points, STEP apart; rows outside the map are zero.

    A channel's points take EACH floats. ALONG consecutive channels interleave the columns of one
    map. Adjacent pixels of a tile are ALONG times SPACING floats apart.
    """
    zero = simd.splat(np.float32(0))
    for c in range(channels):
        of_channel = x + c // along * channel + c % along * LANES
        for i in range(count):
            source, target = of_channel + (first + i) * row, v + c * each + i * tiles * LANES
            if 0 <= first + i < height:
                pixel = along * spacing
                points_row(r[L.TAPS], gradient, A, source, pixel, A, target, step, tiles)
                continue
            for k in range(points_of_tile(r)):
                for t in range(tiles):
                    simd.store(A, target + k * step + t * LANES, zero)


@linked
def points_of_tile(r):
    """Products of a tile."""
    return r[L.TAPS] + OUTPUTS - 1


@linked
def from_points(A, P, r, spacing, sums, each, step, y, m, c0, channels, first, count, spare):
    """Outputs of some rows and channels from their sums, with bias and the fused operations."""
    row = r[L.GROUPS] * LANES
    pooled = r[L.MODE] == L.POOLED
    for c in range(channels):
        bias = r[L.BIAS] + c0 + c if r[L.BIAS] >= 0 else -1
        s, inside = sums + c * each, (c0 + c) * r[L.Y_CHANNEL]
        if pooled:
            for i in range(count // 2):
                at = inside + (first // 2 + i) * r[L.Y_ROW]
                sources = r[L.TAPS], A, s + 2 * i * row, row, step, P, bias
                ends = r[L.Y_WIDTH], spare, r[L.RELU]
                pooled_outputs_row(*sources, A, y + at, A, m + at, *ends)
        else:
            for i in range(count):
                sources = r[L.TAPS], A, s + i * row, step, r[L.GROUPS], P, bias
                to = y + inside + (first + i) * r[L.Y_ROW]
                width = r[L.Y_WIDTH] if first + i < r[L.Y_ROWS] else r[L.Y_LAST]
                outputs_row(*sources, A, to, spacing, width, spare, r[L.RELU], r[L.MODE])


@linked
def input_from_points(A, r, sums, each, step, y, c0, channels, first, count, spare):
    """The input gradient of some rows and channels from their sums."""
    for c in range(channels):
        for i in range(count):
            source = sums + c * each + i * r[L.GROUPS] * LANES
            to = y + (c0 + c) * r[L.Y_CHANNEL] + (first + i) * r[L.Y_ROW]
            ends = r[L.LEFT], r[L.Y_WIDTH], spare, r[L.MODE]
            input_gradient_row(r[L.TAPS], A, source, step, r[L.GROUPS], A, to, *ends)


@linked
def source_end(T, r, unit, last):
    """The end of the rows that a unit reads, or that units of its window before LAST read."""
    strip = r[L.STRIP_TABLE] + STRIP_WIDTH * unit
    window, end = T[strip + 4], r[L.DOWN] * T[strip] + T[strip + 2] - r[L.TOP]
    while unit < last and T[strip + 4] == window:
        below = r[L.DOWN] * (T[strip] + T[strip + 1] - 1) + T[strip + 3]
        end = max(end, below - r[L.TOP])
        unit, strip = unit + 1, strip + STRIP_WIDTH
    return end


@linked
def winograd1d(A, T, P, r, block, slot, worker, part, parts, back, dilated):
    """Convolution forward, or its input gradient; a unit is a strip of rows of Y.

    X is the source, with IN channels of X_ROWS rows and TOP rows of padding; Y the target.
    TAP_TABLE has the pieces of the kernel: row by row, all channels of each. V_TABLE has the
    offsets of a strip's tiles in X's transforms, M_TABLE in the products. If DILATED, a row's
    pixels are SPACING apart.
    """
    spacing = r[L.SPACING] if dilated else LANES
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    inputs, tiles, x_tiles = r[L.IN], r[L.GROUPS], r[L.GROUPS] + r[L.MORE_TILES]
    pieces = inputs * (r[L.MORE_TILES] + 1)
    taps = pieces * r[L.KERNEL_ROWS]
    points = points_of_tile(r)
    from_each = (r[L.DOWN] * (r[L.STRIP_ROWS] - 1) + r[L.KERNEL_ROWS]) * x_tiles * LANES
    to_each = (r[L.PASS_ROWS] * tiles + OVERSHOOT) * LANES
    from_step, to_step = inputs * from_each + STAGGER, PASS_CHANNELS * to_each + STAGGER
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    sums = transformed + points * from_step
    spare = sums + points * to_step
    places, pixels = T[r[L.V_TABLE] :], T[r[L.M_TABLE] :]
    first, last = share(r[L.POSITIONS], part, parts)
    known = MISSING
    for unit in range(first, last):
        strip = r[L.STRIP_TABLE] + STRIP_WIDTH * unit
        row, count, low, high = T[strip], T[strip + 1], T[strip + 2], T[strip + 3]
        if T[strip + 4] != known:
            known = T[strip + 4]
            source, end = r[L.DOWN] * row + low - r[L.TOP], source_end(T, r, unit, last)
            maps = A, r, spacing, x0, r[L.X_CHANNEL], r[L.X_ROW], r[L.X_ROWS], r[L.ALONG], inputs
            room = transformed, from_each, from_step, x_tiles
            to_points(*maps, source, end - source, *room, back)
        x = transformed + (r[L.DOWN] * row + low - r[L.TOP] - source) * x_tiles * LANES
        for top in range(0, count, r[L.PASS_ROWS]):
            rows = min(r[L.PASS_ROWS], count - top)
            for c in range(0, r[L.CHANNELS], PASS_CHANNELS):
                channels = min(PASS_CHANNELS, r[L.CHANNELS] - c)
                for i in range(points):
                    v = x + i * from_step + r[L.DOWN] * top * x_tiles * LANES
                    inside = v, places, NOUGHT, rows * tiles
                    w, tap_table = r[L.W] + i * r[L.OUT] + c * taps, T[r[L.TAP_TABLE] :]
                    of_taps = tap_table, (high - low) * pieces, channels
                    kernel = *of_taps, w, low * pieces, taps, MISSING
                    to = sums + i * to_step, pixels, to_each, NOUGHT, NOUGHT
                    products(A, T, P, r, NOTHING, inside, kernel, to)
                at = sums, to_each, to_step, y0
                if back:
                    input_from_points(A, r, *at, c, channels, row + top, rows, spare)
                else:
                    from_points(A, P, r, spacing, *at, m0, c, channels, row + top, rows, spare)


@linked
def winograd1d_gradient(A, T, r, block, slot, worker, part, parts, dilated):
    """One block's gradient of the transformed weights; a unit is a share of the strips, or a point.

    X is the input with IN channels, Y the output's gradient with CHANNELS. There are SHARES shares
    of the strips, each with separate sums; if there is one, threads divide the points. With ADDS,
    sums are added to those of another row. Those of adjacent output channels are OUT apart. If
    DILATED, a row's pixels are SPACING apart.
    """
    spacing = r[L.SPACING] if dilated else LANES
    x0, d0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    inputs, channels, tiles = r[L.IN], r[L.CHANNELS], r[L.GROUPS]
    x_tiles = tiles + r[L.MORE_TILES]
    taps = inputs * r[L.KERNEL_ROWS] * (r[L.MORE_TILES] + 1)
    points = points_of_tile(r)
    x_each = (r[L.DOWN] * (r[L.STRIP_ROWS] - 1) + r[L.KERNEL_ROWS]) * x_tiles * LANES
    d_each = r[L.STRIP_ROWS] * tiles * LANES
    x_step, d_step = inputs * x_each + STAGGER, PASS_CHANNELS * d_each + STAGGER
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    grads = transformed + points * x_step
    sums = grads + points * d_step
    spare = sums + 4 * SUM_ROW
    wide, tap_table = width_of_gradient(taps, ONE), T[r[L.TAP_TABLE] :]
    high, each = height_of_gradient(wide), TAP_BLOCK // wide * wide
    shares, strips = r[L.SHARES], r[L.POSITIONS]
    first, last = share(points, part, parts) if shares == 1 else (0, points)
    begin, end = share(shares, part, parts) if shares > 1 else (0, 1)
    for unit in range(strips * begin // shares, strips * end // shares):
        strip = r[L.STRIP_TABLE] + STRIP_WIDTH * unit
        row, count = np.int64(T[strip]), np.int64(T[strip + 1])
        # The last share that begins at this strip or before.
        own = (shares * (unit + 1) - 1) // strips
        out = r[L.EXTRA] + (block * shares + own) * r[L.EXTRA_BLOCK]
        maps = A, r, spacing, x0, r[L.X_CHANNEL], r[L.X_ROW], r[L.X_ROWS], r[L.ALONG], inputs
        top, height = r[L.DOWN] * row - r[L.TOP], r[L.DOWN] * (count - 1) + r[L.KERNEL_ROWS]
        to_points(*maps, top, height, transformed, x_each, x_step, x_tiles, NO)
        adds = unit > strips * own // shares or r[L.ADDS] > 0
        for c0 in range(0, channels, PASS_CHANNELS):
            made = min(PASS_CHANNELS, channels - c0)
            of_pass = d0 + c0 * r[L.Y_CHANNEL]
            maps = A, r, spacing, of_pass, r[L.Y_CHANNEL], r[L.Y_ROW], row + count, ONE, made
            to_points(*maps, row, count, grads, d_each, d_step, tiles, YES)
            asked = NOUGHT
            for i in range(first, last):
                x = transformed + i * x_step
                inside = A, x, r[L.DOWN] * x_tiles * LANES, LANES, count, tiles
                for k in range(tiles_of_gradient(made, high)):
                    c, rows = channels_of_gradient(made, high, k)
                    d = A, grads + i * d_step + c * d_each, d_each, tiles * LANES
                    into = out + (i * channels + c0 + c) * r[L.OUT]
                    for tap in range(0, taps, each):
                        tap_end = min(tap + each, taps)
                        later, lrow = MISSING, NOUGHT
                        if tap == 0:
                            later, lrow = following(r, x0, d0, row, count, c0, asked)
                            asked += 1
                        rest = (tap_table, tap, tap_end), A, sums, NOUGHT, (later, lrow)
                        add_grid(rows, wide, ONE, d, inside, *rest)
                        write_sums(A, rows, sums, tap, tap_end, into, r[L.OUT], spare, adds)


@linked
def following(r, x0, d0, row, count, c0, number):
    """What some products prefetch: a channel to be transformed next, and the stride of its rows.

    The channels of the next pass come first, then rows of X of the next strip.
    """
    channel = c0 + PASS_CHANNELS + number
    if number < PASS_CHANNELS:
        if c0 + PASS_CHANNELS < r[L.CHANNELS]:
            return d0 + channel * r[L.Y_CHANNEL] + row * r[L.Y_ROW], np.int64(r[L.Y_ROW])
        return d0 + number * r[L.Y_CHANNEL] + (row + count) * r[L.Y_ROW], np.int64(r[L.Y_ROW])
    lines = r[L.IN] // r[L.ALONG] * r[L.DOWN]
    number += c0 // PASS_CHANNELS * 4 - PASS_CHANNELS
    if number >= lines:
        return MISSING, NOUGHT
    below = r[L.DOWN] * (row + count - 1) + r[L.KERNEL_ROWS] + number % r[L.DOWN] - r[L.TOP]
    return x0 + number // r[L.DOWN] * r[L.X_CHANNEL] + below * r[L.X_ROW], r[L.DOWN] * r[L.X_ROW]


@linked
def winograd1d_reduce(A, G, r, blocks, worker, part, parts):
    """Gradients of IN pieces of kernels: their points' gradients, summed over blocks in order.

    A kernel row has OUT weights; every ALONG-th of these belong to one phase, which is divided into
    pieces. All pieces but the last have as many weights as a tile has outputs.
    """
    first, last = share((r[L.IN] + LANES - 1) // LANES, part, parts)
    spare = r[L.Z] + worker * r[L.Z_SLOT]
    width, pieces, along, sums = r[L.TAPS], r[L.MORE_TILES] + 1, r[L.ALONG], blocks * r[L.SHARES]
    for unit in range(first, last):
        i = unit * LANES
        e = r[L.EXTRA] + i
        weight_gradient_of_points(width, A, e, r[L.IN], sums, r[L.EXTRA_BLOCK], A, spare)
        piece, row = i % pieces, i // pieces
        phase, row = row % along, row // along
        for lane in range(min(LANES, r[L.IN] - i)):
            k, column = 0, phase + along * piece * OUTPUTS
            end = r[L.OUT] if piece + 1 == pieces else column + along * OUTPUTS
            while column < end:
                G[r[L.W] + row * r[L.OUT] + column] = A[spare + k * LANES + lane]
                k, column = k + 1, column + along
            # Divisions for each lane would take longer than the sums.
            piece += 1
            if piece == pieces:
                piece, phase = 0, phase + 1
                if phase == along:
                    phase, row = 0, row + 1
