"""Convolution kernels, each for one block of 16 samples.

A kernel does the ``part``-th of ``parts`` equal shares of its units; a unit's result does not
depend on the division, so neither do results on the number of threads. A is the arena, T the
tables, P the parameters, G their gradient, r the program row.
"""

import numpy as np

from fastcnn.backends.lanes.convolution.direct.bias import channel_sum
from fastcnn.backends.lanes.convolution.direct.tiles import (
    conv_pool_tile,
    conv_tile,
    weight_gradient_tile,
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
from fastcnn.backends.lanes.kernels.division import MISSING, NO, NOUGHT, share
from fastcnn.backends.lanes.kernels.layout import (
    ADDED,
    BIAS,
    CHANNELS,
    EXTRA,
    EXTRA_BLOCK,
    GROUPS,
    IN,
    M_BLOCK,
    M_SLOT,
    M_TABLE,
    MODE,
    PHASE_TABLE,
    PHASES,
    POOLED,
    POSITIONS,
    RELU,
    TAP_TABLE,
    TAPS,
    X_BLOCK,
    X_GROUP,
    X_SLOT,
    X_TABLE,
    Y_BLOCK,
    Y_CHANNEL,
    Y_SLOT,
    Y_TABLE,
    Z_BLOCK,
    Z_SLOT,
    M,
    W,
    X,
    Y,
    Z,
)
from fastcnn.backends.lanes.kernels.pool import send_to_winners
from fastcnn.codegen import linked, simd
from fastcnn.codegen.target import tile_heights
from fastcnn.codegen.transpose_tiles import lane_sums

LANES = simd.LANES
#: Positions that are done together by all channels; their inputs come from the second-level cache.
CLUSTER, POOLED_CLUSTER = 12, 16
ZERO = np.float32(0)
#: Whether the sums of eight or six channels fit the registers.
HIGH = 8 in tile_heights(pooled=False)
#: What products ask for while they compute.
NOTHING, TARGETS, INPUTS = np.int64(0), np.int64(1), np.int64(2)
#: Positions whose products are summed in registers before the sums go back to memory.
CHUNK = 64
#: Taps whose sums are kept in the first-level cache until all positions have passed.
TAP_BLOCK = 160
#: Floats of a row of sums; a tile may overshoot its taps by 16.
SUM_ROW = (TAP_BLOCK + 16) * LANES
#: Floats of scratch: a tile row's sums, a spare vector, a chunk of gradients, their sums.
SCRATCH = 4 * SUM_ROW + LANES + 4 * CHUNK * LANES + 4 * LANES
CONV_TILE_8X3 = conv_tile.sized(8, 3)
CONV_TILE_8X2 = conv_tile.sized(8, 2)
CONV_TILE_6X2 = conv_tile.sized(6, 2)
CONV_TILE_6X4 = conv_tile.sized(6, 4)
CONV_TILE_4X2 = conv_tile.sized(4, 2)
CONV_TILE_4X4 = conv_tile.sized(4, 4)
CONV_TILE_2X8 = conv_tile.sized(2, 8)
CONV_TILE_1X8 = conv_tile.sized(1, 8)
CONV_POOL_TILE_4X4 = conv_pool_tile.sized(4, 4)
CONV_POOL_TILE_2X8 = conv_pool_tile.sized(2, 8)
CONV_POOL_TILE_1X8 = conv_pool_tile.sized(1, 8)
WEIGHT_GRADIENT_TILE_4X5 = weight_gradient_tile.sized(4, 5)
WEIGHT_GRADIENT_TILE_2X5 = weight_gradient_tile.sized(2, 5)
WEIGHT_GRADIENT_TILE_1X8 = weight_gradient_tile.sized(1, 8)


@linked
def pack(A, T, P, r, part, parts):
    """Gather weights into the order in which tiles read them; index -1 is a zero."""
    first, last = share(r[TAPS], part, parts)
    target, table = r[W], r[TAP_TABLE]
    for i in range(first, last):
        source = T[table + i]
        A[target + i] = P[source] if source >= 0 else np.float32(0)


@linked
def ask_ahead(A, T, r, x, position, count, first, last):
    """Prefetch what some positions read for the first time, of some input channels.

    EXTRA is a table of the furthest tap of each channel; IN channels are worth it.
    """
    for c in range(first, last):
        for p in range(position, position + count):
            simd.prefetch(A, x + T[r[X_TABLE] + p] + T[r[EXTRA] + c])


@linked
def channels_of_tile(left):
    """Channels of the next tile where some are left; conv_geometry.py packs weights alike."""
    if HIGH and left >= 6:
        return 8 if left >= 8 else 6
    if left >= 4:
        return 4
    return 2 if left >= 2 else 1


@linked
def products(
    A,
    T,
    P,
    r,
    ahead,
    x,
    xpix,
    p0,
    end,
    tap_table,
    taps,
    channels,
    w,
    first,
    every,
    bias,
    y,
    ypix,
    stride,
    relu,
    met,
):
    """All channels of some positions.

    With TARGETS ahead, what the next tiles touch of Y is asked for meanwhile, and with INPUTS also
    what the next positions read. A channel has ``every`` packed weights, of which ``taps`` from
    ``first`` on are meant.
    """
    c = 0
    while c < channels:
        rows = channels_of_tile(channels - c)
        next_y, next_pix = MISSING, ypix
        if ahead != NOTHING and c + rows < channels:
            next_y = y + (c + rows) * stride
        elif ahead != NOTHING and end - p0 == CLUSTER:
            # The table is as long as tiles reach.
            next_y, next_pix = y, ypix[CLUSTER:]
        if ahead == INPUTS:
            near, far = r[IN] * c // channels, r[IN] * (c + rows) // channels
            ask_ahead(A, T, r, x, p0 + CLUSTER, CLUSTER, near, far)
        wc = w + c * every + rows * first
        bc, yc = bias + c if bias >= 0 else -1, y + c * stride
        rest = tap_table, taps, A, wc, P, bc, A, yc, ypix, stride, relu, met, next_y, next_pix
        if rows == 8:
            p = p0
            while end - p > 4 or end - p == 3:
                CONV_TILE_8X3(A, x, xpix, p, *rest)
                p += 3
            # Four go as two and two: three would leave one.
            while p < end:
                CONV_TILE_8X2(A, x, xpix, p, *rest)
                p += 2
        elif rows == 6:
            p = p0
            while end - p > 2:
                CONV_TILE_6X4(A, x, xpix, p, *rest)
                p += 4
            if p < end:
                CONV_TILE_6X2(A, x, xpix, p, *rest)
        elif rows == 4:
            p = p0
            while end - p > 2:
                CONV_TILE_4X4(A, x, xpix, p, *rest)
                p += 4
            if p < end:
                CONV_TILE_4X2(A, x, xpix, p, *rest)
        elif rows == 2:
            for p in range(p0, end, 8):
                CONV_TILE_2X8(A, x, xpix, p, *rest)
        else:
            for p in range(p0, end, 8):
                CONV_TILE_1X8(A, x, xpix, p, *rest)
        c += rows


@linked
def pooled_products(
    A,
    T,
    P,
    r,
    ahead,
    x,
    xpix,
    p0,
    end,
    tap_table,
    taps,
    channels,
    w,
    bias,
    y,
    ypix,
    stride,
    relu,
    m,
):
    """The same with 2x2 max-pooling.

    Pooled tiles write little: all channels of some positions, whose input stays in cache. Others
    write more than they read: all positions of some channels.
    """
    for p in range(p0, end, 4):
        if ahead == INPUTS:
            near, far = share(r[IN], (p - p0) // 4, (end - p0 + 3) // 4)
            ask_ahead(A, T, r, x, p0 + POOLED_CLUSTER, POOLED_CLUSTER, near, far)
        for c in range(0, channels - 3, 4):
            bc = bias + c if bias >= 0 else -1
            wc, yc, mc = w + c * taps, y + c * stride, m + c * stride
            rest = tap_table, taps, A, wc, P, bc, A, yc, ypix, stride, relu, A, mc
            CONV_POOL_TILE_4X4(A, x, xpix, p, *rest)
    c = channels // 4 * 4
    while c < channels:
        wc, bc = w + c * taps, bias + c if bias >= 0 else -1
        yc, mc = y + c * stride, m + c * stride
        rest = tap_table, taps, A, wc, P, bc, A, yc, ypix, stride, relu, A, mc
        if channels - c >= 2:
            for p in range(p0, end, 8):
                CONV_POOL_TILE_2X8(A, x, xpix, p, *rest)
            c += 2
        else:
            for p in range(p0, end, 8):
                CONV_POOL_TILE_1X8(A, x, xpix, p, *rest)
            c += 1


@linked
def convolution(A, T, P, r, block, slot, part, parts):
    """Convolution forward, or its input gradient: tables and packed weights tell which."""
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    y0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    m0 = r[M] + block * r[M_BLOCK] + slot * r[M_SLOT]
    channels, stride, mode = r[CHANNELS], r[Y_CHANNEL], r[MODE]
    met = m0 - y0 if mode == ADDED else mode
    step = POOLED_CLUSTER if mode == POOLED else CLUSTER
    clusters = (r[POSITIONS] + step - 1) // step
    first, last = share(r[GROUPS] * clusters, part, parts)
    for unit in range(first, last):
        group, cluster = unit // clusters, unit % clusters
        c, p0 = group * channels, cluster * step
        x, y, m = x0 + group * r[X_GROUP], y0 + c * stride, m0 + c * stride
        bias = r[BIAS] + c if r[BIAS] >= 0 else MISSING
        for k in range(r[PHASES]):
            entry = r[PHASE_TABLE] + k * PHASE
            taps, positions = np.int64(T[entry + PHASE_TAPS]), np.int64(T[entry + PIXELS])
            end = min(p0 + step, positions)
            ahead = NOTHING
            if r[IN] > 0:
                # All phases read the same pixels: the first, which has most, asks for them.
                ahead = INPUTS if k == 0 and cluster + 1 < clusters else TARGETS
            w = r[W] + c * r[TAPS] + T[entry + WEIGHTS_AT]
            tap_table = T[T[entry + TAPS_AT] :]
            xpix, ypix = T[T[entry + READ_AT] :], T[T[entry + WRITTEN_AT] :]
            inputs = A, T, P, r, ahead, x, xpix, p0, end, tap_table, taps, channels, w
            outputs = bias, y, ypix, stride, r[RELU]
            if mode == POOLED:
                pooled_products(*inputs, *outputs, m)
            elif p0 < end:
                products(*inputs, NOUGHT, taps, *outputs, met)


@linked
def weight_gradient(A, T, r, block, slot, worker, part, parts):
    """One block's share of a convolution's weight gradient, written to its partial buffer.

    X is the input, Y the output gradient, M scratch for the sums of one tile row. The sums of the
    output gradient go BIAS floats after the weights' gradient, unless BIAS is negative.

    POOLED: Y is the gradient of what 2x2 max-pooling made of the output, Z has the winners. The
    output's gradient is made in scratch, a chunk at a time, where M_TABLE has its positions.
    """
    x0 = r[X] + block * r[X_BLOCK] + slot * r[X_SLOT]
    d0 = r[Y] + block * r[Y_BLOCK] + slot * r[Y_SLOT]
    sums = r[M] + worker * r[M_SLOT]
    out = r[EXTRA] + block * r[EXTRA_BLOCK]
    taps, channels, positions = r[TAPS], r[CHANNELS], r[POSITIONS]
    pooled = r[MODE] == POOLED
    tap_table, xpix, places = T[r[TAP_TABLE] :], T[r[X_TABLE] :], T[r[Y_TABLE] :]
    dpix, stride = (T[r[M_TABLE] :], CHUNK * LANES) if pooled else (places, r[Y_CHANNEL])
    winners = r[Z] + block * r[Z_BLOCK] + slot * r[Z_SLOT]
    spare = sums + 4 * SUM_ROW
    chunk = spare + LANES
    totals = chunk + 4 * CHUNK * LANES
    tiles = tiles_of_gradient(channels)
    first, last = share(r[GROUPS] * tiles, part, parts)
    for unit in range(first, last):
        group, tile = unit // tiles, unit % tiles
        c, rows = channels_of_gradient(channels, tile)
        xg = x0 + group * r[X_GROUP]
        at = group * channels + c
        d = chunk if pooled else d0 + at * stride
        for tap in range(0, taps, TAP_BLOCK):
            tap_end = min(tap + TAP_BLOCK, taps)
            for p in range(0, positions, CHUNK):
                end = min(p + CHUNK, positions)
                if pooled:
                    y, m = d0 + at * r[Y_CHANNEL], winners + at * r[Y_CHANNEL]
                    unpool_chunk(
                        A, y, m, r[Y_CHANNEL], places, p // 4, end // 4, rows, chunk, dpix, totals
                    )
                add_products(
                    A,
                    rows,
                    d,
                    dpix,
                    stride,
                    xg,
                    xpix,
                    p,
                    end,
                    tap_table,
                    tap,
                    tap_end,
                    sums,
                    p == 0,
                )
            write_sums(A, rows, sums, tap, tap_end, out + at * taps, taps, spare, NO)
        if r[BIAS] >= 0:
            for k in range(rows):
                if pooled:
                    total = simd.load(A, totals + k * LANES)
                else:
                    total = channel_sum(A, d + k * stride, dpix, positions)
                A[out + r[BIAS] + at + k] = simd.lane_sum(total)


@linked
def add_products(A, rows, d, dpix, stride, x, xpix, p, end, tap_table, tap, tap_end, sums, fresh):
    """Add products over some positions to the sums of some taps and ROWS channels, 1, 2 or 4."""
    sources = A, d, dpix, stride, A, x, xpix, p, end, tap_table
    if rows == 4:
        for t in range(tap, tap_end, 5):
            target = sums + (t - tap) * LANES
            WEIGHT_GRADIENT_TILE_4X5(*sources, t, A, target, SUM_ROW, fresh)
    elif rows == 2:
        for t in range(tap, tap_end, 5):
            target = sums + (t - tap) * LANES
            WEIGHT_GRADIENT_TILE_2X5(*sources, t, A, target, SUM_ROW, fresh)
    else:
        for t in range(tap, tap_end, 8):
            target = sums + (t - tap) * LANES
            WEIGHT_GRADIENT_TILE_1X8(*sources, t, A, target, SUM_ROW, fresh)


@linked
def write_sums(A, rows, sums, tap, tap_end, out, taps, spare, add):
    """Write the sums over lanes of some taps and ROWS channels, or add them to what is there."""
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
def tiles_of_gradient(channels):
    """Tiles of a weight gradient that cover some channels."""
    return channels // 4 + (channels % 4) // 2 + channels % 2


@linked
def channels_of_gradient(channels, tile):
    """First channel and channels of a weight gradient's tile: fours, then what is left."""
    fours = channels // 4
    if tile < fours:
        return tile * 4, 4
    if tile == fours and channels % 4 >= 2:
        return fours * 4, 2
    return channels - 1, 1


@linked
def unpool_chunk(A, y, m, stride, places, first, last, rows, chunk, targets, totals):
    """The gradient before 2x2 max-pooling of some windows of ROWS channels, and its sums."""
    for k in range(rows):
        x, total = chunk + k * CHUNK * LANES, totals + k * LANES
        sent = send_to_winners(A, y + k * stride, m + k * stride, places, first, last, x, targets)
        simd.store(A, total, sent if first == 0 else simd.add(simd.load(A, total), sent))
