"""The kernel of the weight gradient as direct sums over pixels."""

import numpy as np

from fastcnn.backends.lanes.convolution.direct.bias import channel_sum
from fastcnn.backends.lanes.convolution.direct.gradient_tiles import (
    grid_gradient_tile,
    pooled_gradient_tile,
    window_gradient_tile,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, NO, base, share
from fastcnn.codegen import linked, simd
from fastcnn.codegen.transpose_tiles import lane_sums

LANES = simd.LANES
ZERO = np.float32(0)
#: Positions whose products are summed in registers before the sums are stored.
CHUNK = 64
#: Taps whose sums stay in the first-level cache until all positions are processed.
TAP_BLOCK = 160
#: Floats of a row of sums; a tile may write up to 16 taps more.
SUM_ROW = (TAP_BLOCK + 16) * LANES
#: Floats of scratch: a tile row's sums, a spare vector, two sets of sums of gradients.
SCRATCH = 4 * SUM_ROW + LANES + 8 * LANES
#: Runs of adjacent taps, i.e. kernel widths, for which there are tiles; 1 covers all others.
RUNS = (3, 5, 7)
#: Taps of tiles with one or two channels.
MANY = 9
OF_FEW, OF_MANY = ((2, 9, 3), (2, 9, 1), (1, 9, 1)), ((4, 6, 1), (4, 5, 1), (4, 5, 5), (3, 7, 7))
GRID_TILE = grid_gradient_tile.among(
    *((*size, 0) for size in OF_FEW), *((*size, 1) for size in OF_MANY)
)
WINDOW_TILE = window_gradient_tile.among((3, 3), (3, 5), (2, 5))
POOLED_TILE = pooled_gradient_tile.among((2, 6), (1, 6))


@linked
def weight_gradient(A, T, r, block, slot, worker, part, parts):
    """One block's contribution to a convolution's weight gradient, stored in its partial buffer.

    X is the input, Y the output's gradient, Y_ROWS rows of Y_WIDTH pixels, M scratch for the sums
    of one row of tiles. Runs of IN taps are adjacent in memory. The sums of the output's gradient
    are stored BIAS floats after the weight gradient, unless BIAS is negative.

    POOLED: Y is the gradient after 2x2 max pooling of the output, Z has the argmax of each window.
    With KERNEL_ROWS, rows of taps have the stride of rows of X, and tiles select pixels by the
    argmax.
    """
    x0, d0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    sums = r[L.M] + worker * r[L.M_SLOT]
    out = r[L.EXTRA] + block * r[L.EXTRA_BLOCK]
    winners = base(r, L.Z, block, slot)
    taps, channels, run, tap_table = r[L.TAPS], r[L.CHANNELS], r[L.IN], T[r[L.TAP_TABLE] :]
    pooled, stride = r[L.MODE] == L.POOLED, r[L.Y_CHANNEL]
    spare = sums + 4 * SUM_ROW
    totals = spare + LANES
    wide, area = width_of_gradient(taps, run), run * r[L.KERNEL_ROWS]
    high = 2 if pooled else height_of_gradient(wide)
    if area > 0:
        high, wide = 1, area
    each = TAP_BLOCK // wide * wide
    tiles = tiles_of_gradient(channels, high)
    first, last = share(r[L.GROUPS] * tiles, part, parts)
    for unit in range(first, last):
        group, tile = unit // tiles, unit % tiles
        c, rows = channels_of_gradient(channels, high, tile)
        at = group * channels + c
        d, x = d0 + at * stride, x0 + group * r[L.X_GROUP]
        inputs = A, x, r[L.X_ROW], r[L.ALONG] * LANES, r[L.Y_ROWS], r[L.Y_WIDTH]
        for tap in range(0, taps, each):
            tap_end = min(tap + each, taps)
            some = tap_table, tap, tap_end
            if area > 0:
                outputs = A, d, r[L.Y_ROW], A, winners + at * stride
                grid = A, x, r[L.X_ROW], r[L.Y_ROWS], r[L.Y_WIDTH]
                choose_pixels(area, run, outputs, grid, some, A, sums, totals)
            elif pooled:
                outputs = A, d, stride, r[L.Y_ROW], A, winners + at * stride
                add_windows(rows, outputs, inputs, some, A, sums, totals)
            else:
                outputs, later = (A, d, stride, r[L.Y_ROW]), (MISSING, r[L.Y_ROW])
                add_grid(rows, wide, run, outputs, inputs, some, A, sums, totals, later)
            write_sums(A, rows, sums, tap, tap_end, out + at * taps, taps, spare, NO)
        if r[L.BIAS] >= 0:
            for k in range(rows):
                if pooled or (run > 1 and rows == high):
                    total = simd.load(A, totals + k * LANES)
                else:
                    total = channel_sum(A, d + k * stride, T[r[L.Y_TABLE] :], r[L.POSITIONS])
                A[out + r[L.BIAS] + at + k] = simd.lane_sum(total)


@linked
def width_of_gradient(taps, run):
    """Taps of tiles with three or four channels: the choice with the least padding."""
    if run == 3:
        return 9
    if run > 1:
        return run
    return 6 if -(-taps // 6) * 6 <= -(-taps // 5) * 5 else 5


@linked
def height_of_gradient(wide):
    """Channels of a tile by its taps: as many as leave registers for the inputs."""
    if wide == MANY:
        return 2
    return 3 if wide > 6 else 4


@linked
def add_windows(channels, outputs, inputs, taps, S, sums, totals):
    """Sums of products with the gradient routed through pooling windows."""
    tap_table, tap, tap_end = taps
    for t in range(tap, tap_end, 6):
        rest = (tap_table, t), (S, sums + (t - tap) * LANES, SUM_ROW, totals)
        POOLED_TILE(channels, 6, outputs, inputs, *rest)


@linked
def choose_pixels(area, run, outputs, inputs, taps, S, sums, totals):
    """The same for one channel, with AREA taps per input, in runs of RUN adjacent ones."""
    (X, x, xrow, rows, columns), (tap_table, tap, tap_end) = inputs, taps
    for t in range(tap, tap_end, area):
        place, target, left = x + tap_table[t], sums + (t - tap) * LANES, area // run
        while left > 0:
            high = 3 if left == 3 or left > 4 else 2
            rest = X, place, xrow, rows, columns, S, target, totals
            WINDOW_TILE(high, run, *outputs, *rest)
            place, target, left = place + high * xrow, target + high * run * LANES, left - high


@linked
def add_grid(channels, wide, run, outputs, inputs, taps, S, sums, totals, asked):
    """Sums of products over a grid of pixels, of some taps and channels.

    The grid is divided into parts that stay in the first-level cache for all taps. Each tile of
    taps prefetches a grid of vectors of what is needed LATER, LROW floats from row to row, or of D
    if LATER is negative; the next tile prefetches the grid to the right, or that of the next
    channel of D. Tiles of runs also compute the sums of D.
    """
    (D, d, stride, drow), (X, x, xrow, xstep, rows, columns) = outputs, inputs
    (tap_table, tap, tap_end), (later, lrow) = taps, asked
    few = channels <= 2
    together = 1 if few and (channels == 1 or run != 3) else run
    wide = MANY if few else wide
    across, down = columns, rows
    if tap_end - tap > MANY:
        across = min(columns, CHUNK)
        down = max(CHUNK // across, 1)
    for h in range(0, rows, down):
        for w in range(0, columns, across):
            dp, xp = d + h * drow + w * LANES, x + h * xrow + w * xstep
            nearby, count = dp + across * LANES, 0
            if w + across >= columns:
                nearby = d + (h + down) * drow
            place = later + h * lrow + w * LANES if later >= 0 else nearby
            high, long = min(down, rows - h), min(across, columns - w)
            sources = (D, dp, stride, drow), (X, xp, xrow, xstep, high, long)
            t = tap
            while t < tap_end:
                target = sums + (t - tap) * LANES
                # The first tile sums each of D's pixels once; later tiles repeat the sums
                # elsewhere.
                total = totals if t == 0 else totals + 4 * LANES
                into, first = (S, target, SUM_ROW, total), h == 0 and w == 0
                rest = (tap_table, t), into, first, (place, lrow)
                GRID_TILE(channels, wide, together, not few, *sources, *rest)
                t, count = t + wide, count + 1
                if later >= 0:
                    place += columns * LANES
                else:
                    place = nearby + count * stride if count < channels else xp


@linked
def write_sums(A, rows, sums, tap, tap_end, out, taps, spare, add):
    """Store the horizontal sums of some taps and ROWS channels, or add them to the stored ones."""
    for k in range(rows):
        target = out + k * taps
        for t in range(tap, tap_end, LANES):
            whole = tap_end - t >= LANES
            row = sums + k * SUM_ROW + (t - tap) * LANES
            lane_sums(A, row, A, target + t if whole and not add else spare)
            if whole and add:
                total = simd.add(simd.load(A, target + t), simd.load(A, spare))
                simd.store(A, target + t, total)
            elif not whole:
                for i in range(tap_end - t):
                    A[target + t + i] = A[spare + i] + (A[target + t + i] if add else ZERO)


@linked
def tiles_of_gradient(channels, high):
    """Number of weight-gradient tiles that cover some channels."""
    left = channels % high
    return channels // high + left // 2 + left % 2


@linked
def channels_of_gradient(channels, high, tile):
    """First channel and height of a weight-gradient tile: HIGH ones, then the remainder."""
    whole = channels // high
    if tile < whole:
        return tile * high, high
    if tile == whole and channels - whole * high >= 2:
        return whole * high, 2
    return channels - 1, 1
