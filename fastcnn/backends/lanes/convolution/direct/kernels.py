"""Kernels of direct convolution and of packing weights, each for one block of 16 samples."""

import numpy as np

from fastcnn.backends.lanes.convolution.direct.tiles import conv_pool_tile, conv_tile, gather_tile
from fastcnn.backends.lanes.convolution.phases import phase_of
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, NOUGHT, base, share
from fastcnn.codegen import linked, simd
from fastcnn.codegen.target import tile_heights

LANES = simd.LANES
#: Positions computed together for all channels; their inputs come from the second-level cache.
CLUSTER, POOLED_CLUSTER = 12, 16
#: Whether the sums of eight or six channels fit in registers.
HIGH = 8 in tile_heights(pooled=False)
#: What products prefetch while they compute.
NOTHING, TARGETS, INPUTS = np.int64(0), np.int64(1), np.int64(2)
CONV_TILE = conv_tile.among((8, 3), (8, 2), (6, 4), (6, 2), (4, 4), (4, 2), (2, 8), (1, 8))
POOLED_TILE_4X4, POOLED_TILE = conv_pool_tile.sized(4, 4), conv_pool_tile.among((2, 8), (1, 8))
#: Fields of a tile whose weights are packed.
TILE = 4
#: Inputs whose weights are prefetched while those of others are packed.
AHEAD = 8


@linked
def pack(A, T, P, r, part, parts):
    """Copy weights in the order in which tiles read them: [group][tile][input][tap][channel].

    Each of GROUPS has IN inputs with TAPS weights for each channel, which begin at X in the
    parameters. STRIP_TABLE has the POSITIONS tiles of a group: first channel, number of channels, a
    table of the offsets of the weights of a few inputs, and the number of these inputs.
    """
    first, last = share(r[L.GROUPS] * r[L.POSITIONS], part, parts)
    for unit in range(first, last):
        group, tile = unit // r[L.POSITIONS], unit % r[L.POSITIONS]
        at = r[L.STRIP_TABLE] + tile * TILE
        c, rows, order, together = T[at], T[at + 1], T[at + 2], T[at + 3]
        source = r[L.X] + group * r[L.X_GROUP] + c * r[L.X_CHANNEL]
        target = r[L.W] + group * r[L.OUT] + c * r[L.IN] * r[L.TAPS]
        for i in range(0, r[L.IN], together):
            some = min(together, r[L.IN] - i)
            if r[L.X_CHANNEL] < r[L.X_ROW]:
                # The weights of the next inputs may be in other pages.
                for k in range(i + AHEAD, i + AHEAD + some):
                    for line in range(0, rows * r[L.X_CHANNEL], LANES):
                        simd.prefetch(P, source + k * r[L.X_ROW] + line)
            count, place = some * rows * r[L.TAPS], source + i * r[L.X_ROW]
            whole = count // LANES * LANES
            for k in range(0, whole, LANES):
                gather_tile(P, place, T, order + k, A, target + k)
            for k in range(whole, count):
                A[target + k] = P[place + T[order + k]]
            target += count


@linked
def ask_ahead(A, T, r, x, position, count, first, last):
    """Prefetch what some positions read for the first time, of some input channels.

    EXTRA is a table of each channel's furthest tap; IN is the number of channels worth prefetching.
    """
    for c in range(first, last):
        for p in range(position, position + count):
            simd.prefetch(A, x + T[r[L.X_TABLE] + p] + T[r[L.EXTRA] + c])


@linked
def channels_of_tile(left):
    """Channels of the next tile if ``left`` remain; geometry.py packs weights likewise."""
    if HIGH and left >= 6:
        return 8 if left >= 8 else 6
    if left >= 4:
        return 4
    return 2 if left >= 2 else 1


@linked
def positions_of_tile(rows, left):
    """Positions of the next tile of ROWS channels if ``left`` remain."""
    if rows == 8:
        # Four positions are two pairs: a tile of three would leave one.
        return 3 if left > 4 or left == 3 else 2
    if rows >= 4:
        return 4 if left > 2 else 2
    return 8


@linked
def products(A, T, P, r, ahead, inputs, kernel, outputs):
    """All channels of some positions.

    With ahead >= TARGETS, the parts of Y that the next tiles access are prefetched; with INPUTS
    also the inputs of the next positions. A channel has ``every`` packed weights, of which ``taps``
    from ``first`` on are used.
    """
    x, xpix, p0, end = inputs
    tap_table, taps, channels, w, first, every, bias = kernel
    y, ypix, stride, relu, met = outputs
    c = 0
    while c < channels:
        rows = channels_of_tile(channels - c)
        next_y, next_pix = MISSING, ypix
        if ahead != NOTHING and c + rows < channels:
            next_y = y + (c + rows) * stride
        elif ahead != NOTHING and end - p0 == CLUSTER:
            # The table is padded to the width of tiles.
            next_y, next_pix = y, ypix[CLUSTER:]
        if ahead == INPUTS:
            near, far = r[L.IN] * c // channels, r[L.IN] * (c + rows) // channels
            ask_ahead(A, T, r, x, p0 + CLUSTER, CLUSTER, near, far)
        wc = w + c * every + rows * first
        bc, yc = bias + c if bias >= 0 else -1, y + c * stride
        rest = (tap_table, taps, A, wc, P, bc), (A, yc, ypix, stride), relu, met, (next_y, next_pix)
        p = p0
        while p < end:
            columns = positions_of_tile(rows, end - p)
            CONV_TILE(rows, columns, (A, x, xpix, p), *rest)
            p += columns
        c += rows


@linked
def pooled_products(A, T, P, r, ahead, inputs, kernel, outputs):
    """The same with 2x2 max pooling.

    Pooled tiles write little: all channels of some positions are computed, whose input stays in the
    cache. Unpooled ones write more than they read: all positions of some channels are computed.
    """
    x, xpix, p0, end = inputs
    tap_table, taps, channels, w, _, _, bias = kernel
    y, ypix, stride, relu, m = outputs
    for p in range(p0, end, 4):
        if ahead == INPUTS:
            near, far = share(r[L.IN], (p - p0) // 4, (end - p0 + 3) // 4)
            ask_ahead(A, T, r, x, p0 + POOLED_CLUSTER, POOLED_CLUSTER, near, far)
        for c in range(0, channels - 3, 4):
            bc = bias + c if bias >= 0 else -1
            wc, yc, mc = w + c * taps, y + c * stride, m + c * stride
            rest = (tap_table, taps, A, wc, P, bc), (A, yc, ypix, stride), relu, A, mc
            POOLED_TILE_4X4((A, x, xpix, p), *rest)
    c = channels // 4 * 4
    while c < channels:
        rows = 2 if channels - c >= 2 else 1
        wc, bc = w + c * taps, bias + c if bias >= 0 else -1
        yc, mc = y + c * stride, m + c * stride
        rest = (tap_table, taps, A, wc, P, bc), (A, yc, ypix, stride), relu, A, mc
        for p in range(p0, end, 8):
            POOLED_TILE(rows, 8, (A, x, xpix, p), *rest)
        c += rows


@linked
def convolution(A, T, P, r, block, slot, part, parts):
    """Convolution forward, or its input gradient, depending on tables and packed weights."""
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    channels, stride, mode = r[L.CHANNELS], r[L.Y_CHANNEL], r[L.MODE]
    met = m0 - y0 if mode == L.ADDED else mode
    step = POOLED_CLUSTER if mode == L.POOLED else CLUSTER
    clusters = (r[L.POSITIONS] + step - 1) // step
    first, last = share(r[L.GROUPS] * clusters, part, parts)
    for unit in range(first, last):
        group, cluster = unit // clusters, unit % clusters
        c, p0 = group * channels, cluster * step
        x, y, m = x0 + group * r[L.X_GROUP], y0 + c * stride, m0 + c * stride
        bias = r[L.BIAS] + c if r[L.BIAS] >= 0 else MISSING
        for k in range(r[L.PHASES]):
            taps, positions, packed, tap_table, xpix, ypix = phase_of(T, r, k)
            end = min(p0 + step, positions)
            ahead = NOTHING
            if r[L.IN] > 0:
                # All phases read the same pixels: the first, which has most positions, prefetches
                # them.
                ahead = INPUTS if k == 0 and cluster + 1 < clusters else TARGETS
            w = r[L.W] + c * r[L.TAPS] + packed
            inputs, outputs = (x, xpix, p0, end), (y, ypix, stride, r[L.RELU])
            kernel = tap_table, taps, channels, w, NOUGHT, taps, bias
            if mode == L.POOLED:
                pooled_products(A, T, P, r, ahead, inputs, kernel, (*outputs, m))
            elif p0 < end:
                products(A, T, P, r, ahead, inputs, kernel, (*outputs, met))
