"""Kernels with a channel in each lane, for inference on a few samples; a block is one sample.

A map of C channels is C / 16 maps of vectors; lanes after the last channel are undefined and
unused. Pooling and element-wise functions use the kernels of 16 samples. P holds packed weights.
"""

import numpy as np

from fastcnn.backends.lanes.convolution.channel_direct.tiles import (
    channel_product_tile,
    channel_tile,
    depth_tile,
    dot_tile,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, NOUGHT, ONE, base, share
from fastcnn.codegen import linked, simd
from fastcnn.codegen.transpose_tiles import channels_tile, normalised_tile

LANES = simd.LANES
#: Maximum channel blocks of a tile.
TILE_BLOCKS = 4
#: Maximum positions of a unit of a depthwise convolution, and minimum positions of other units.
CLUSTER, LEAST = 32, 8
#: Time of reading what another core has written, in that of reading weights.
OF_OTHERS = 4
#: Positions of a tile by its number of channel blocks.
WIDTHS = {4: 6, 3: 6, 2: 8, 1: 8}
CHANNEL_TILE = channel_tile.among((4, 6), (4, 4), (3, 6), (3, 4), (2, 8), (1, 8))
ONE_POSITION = channel_tile.among((4, 1), (3, 1), (2, 1), (1, 1))
DEPTH_TILE = depth_tile.sized(8)
DOT_TILE = dot_tile.among((4, 4), (2, 8), (1, 16))
PRODUCT_TILE = channel_product_tile.among(
    (4, 6), (4, 4), (3, 6), (3, 4), (2, 8), (2, 4), (1, 16), (1, 8), (1, 4)
)
#: Values of one channel, or of a channel each.
ROW_TILE, VALUES_TILE = normalised_tile.sized(0), normalised_tile.sized(1)
#: Strips are padded to a multiple of this many tiles.
WHOLE = 4


@linked
def blocks_of_tile(left):
    """Channel blocks of the next tile if ``left`` remain; weights are packed in the same order.

    Five are three and two: one block by itself loads a scalar for each product.
    """
    if left == 5:
        return 3
    return min(left, TILE_BLOCKS)


@linked
def first_block(tile, blocks):
    """The first channel block of a tile as ``blocks_of_tile`` divides them, or their end."""
    first = min(tile * TILE_BLOCKS, blocks)
    return first - 1 if first > 0 and first == blocks - 1 else first


@linked
def channels_of_dot(left):
    """Output channels of the next tile of dot products if ``left`` remain."""
    if left >= 4:
        return 4
    return 2 if left >= 2 else 1


@linked
def positions_of_tile(rows, left):
    """Positions of the next tile of ROWS channel blocks if ``left`` remain."""
    if rows < 3:
        return 8
    # Tiles of six end with the last positions if possible.
    return 6 if left > 8 or left == 5 or left == 6 else 4


@linked
def products_of_tile(rows, left):
    """The same for products of a strip, of which there are a multiple of four."""
    if rows == 1 and left > 12:
        return 16
    return 4 if rows < 3 and left <= 4 else positions_of_tile(rows, left)


@linked
def weights_ahead(ahead, rows, taps, done):
    """Where the weights to prefetch begin: a share of those from AHEAD on for each tile.

    A tile prefetches one vector per tap, and the next blocks need ``rows`` of these. Weights that
    do not fit the cache come from memory; prefetching hides this latency.
    """
    return ahead + min(done, rows - 1) * taps * LANES


@linked
def rounded_up(count, multiple):
    """Round up to a multiple."""
    return (count + multiple - 1) // multiple * multiple


@linked
def channel_products(A, P, inputs, kernel, rows, outputs, relu, summands):
    """A tile's channel blocks at some positions; a tile may repeat the last position."""
    (x, xpix, p, end), (tap_table, taps, w, bias) = inputs, kernel
    (y, ypix, stride), (m, mpix, mstep) = outputs, summands
    rest = (tap_table, taps, P, w, P, bias), (A, y, ypix, stride), relu, (A, m, mpix, mstep)
    ahead = w + rows * taps * LANES
    if end - p == 1:
        ONE_POSITION(rows, 1, (A, x, xpix, p), *rest, ahead)
        return
    done = NOUGHT
    while p < end:
        wide, next_ = positions_of_tile(rows, end - p), weights_ahead(ahead, rows, taps, done)
        CHANNEL_TILE(rows, wide, (A, x, xpix, p), *rest, next_)
        p, done = p + wide, done + 1


@linked
def strip_products(A, P, x, count, tap_table, taps, w, ahead, rows, y, stride):
    """A tile's channel blocks of a matrix product of a Winograd strip of ``count`` tiles.

    The next product's weights begin at ``ahead``.
    """
    rest, p, done = (tap_table, taps, P, w), 0, NOUGHT
    while p < count:
        wide, next_ = products_of_tile(rows, count - p), weights_ahead(ahead, rows, taps, done)
        at, to = x + p * LANES, y + p * LANES
        PRODUCT_TILE(rows, wide, A, at, *rest, A, to, stride, next_)
        p, done = p + wide, done + 1


@linked
def channel_input(A, T, r, order, start, bytes_, floats, block, slot, part, parts):
    """Normalise a sample's values, row by row; with MODE n they are n floats apart.

    IN values, of which OUT channels have their own scale and offset; POSITIONS rows, whose offsets
    are in X_TABLE. An input that is not a map is one row, with a channel for each value.
    """
    y0, source = base(r, L.Y, block, slot), order[start + block] * r[L.IN]
    if bytes_.size > 0:
        normalise(A, T, r, bytes_, source, y0, part, parts)
    else:
        normalise(A, T, r, floats, source, y0, part, parts)


@linked
def normalise(A, T, r, samples, source, y0, part, parts):
    """Normalise a sample's bytes or floats; each thread has a part of the rows, or of one."""
    rows, step, places = r[L.POSITIONS], r[L.MODE], T[r[L.X_TABLE] :]
    width, each, of_values = r[L.IN] // rows, rows // r[L.OUT], r[L.OUT] > rows
    vectors = (width + LANES - 1) // LANES
    if step == LANES and width >= LANES:
        rows = (r[L.OUT] + LANES - 1) // LANES * each
    pieces = ONE if rows % parts == 0 else parts
    first, last = share(rows * pieces, part, parts)
    for unit in range(first, last):
        i, begin, end = unit, NOUGHT, vectors
        if pieces > 1:
            i, (begin, end) = unit // pieces, share(vectors, unit % pieces, pieces)
        if step == LANES and width >= LANES:
            c = i // each * LANES
            i = c * each + i % each
            for j in range(begin, end):
                # The last vectors overlap those before them, here and below.
                k = min(j * LANES, width - LANES)
                values = samples, source + i * width + k, each * width, min(LANES, r[L.OUT] - c)
                factors = A, r[L.SCALE] + c, r[L.SCALE] + r[L.OUT] + c
                channels_tile(*values, *factors, A, y0 + places[i] + k * LANES)
            continue
        c = NOUGHT if of_values else i // each
        x, y = source + i * width, y0 + places[i]
        scale, shift = r[L.SCALE] + c, r[L.SCALE] + r[L.OUT] + c
        if step > 1 or width < LANES:
            for k in range(begin * LANES, min(end * LANES, width)):
                n = k if of_values else NOUGHT
                A[y + k * step] = np.float32(samples[x + k]) * A[scale + n] + A[shift + n]
        elif of_values:
            for j in range(begin, end):
                k = min(j * LANES, width - LANES)
                VALUES_TILE(samples, x + k, A, scale + k, shift + k, A, y + k)
        else:
            for j in range(begin, end):
                k = min(j * LANES, width - LANES)
                ROW_TILE(samples, x + k, A, scale, shift, A, y + k)


@linked
def channel_output(A, T, r, block, start, outputs, part, parts):
    """Copy the IN values of a sample to its row of ``outputs``."""
    first, last = share(r[L.IN], part, parts)
    x0, y0, places = r[L.X] + block * r[L.X_BLOCK], (start + block) * r[L.IN], T[r[L.X_TABLE] :]
    for i in range(first, last):
        outputs[y0 + i] = A[x0 + places[i]]


@linked
def positions_of(r, block, blocks):
    """First and last + 1 position in a row's tables: MODE per block, or all if MODE is 0."""
    if r[L.MODE] > 0:
        return block * r[L.MODE], (block + blocks) * r[L.MODE]
    return NOUGHT, r[L.POSITIONS]


@linked
def channel_convolution(A, T, P, r, block, blocks, slot, part, parts):
    """Convolution of GROUPS groups with CHANNELS blocks each, plus M if that is not negative.

    One sample, or several, with MODE positions each; tables then hold the positions of all samples.
    A fully connected layer has one position.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    m0 = base(r, L.M, block, slot) if r[L.M] >= 0 else MISSING
    xpix, ypix, mpix = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    taps, channels, tap_table = r[L.TAPS], r[L.CHANNELS], T[r[L.TAP_TABLE] :]
    stride, mstep = r[L.Y_CHANNEL], r[L.M_CHANNEL]
    begin, stop = positions_of(r, block, blocks)
    across = (channels + TILE_BLOCKS - 1) // TILE_BLOCKS
    tiles, granules = r[L.GROUPS] * across, (stop - begin + LEAST - 1) // LEAST
    # Each thread reads its part of the map and all weights, or its weights and all of the map,
    # which takes longer where another core has written it.
    divides_map = (stop - begin) * OF_OTHERS >= taps
    pieces = min(granules, parts) if divides_map or tiles % parts else ONE
    first, last = share(tiles * pieces, part, parts)
    for unit in range(first, last):
        # All positions use a tile's weights before the next ones are loaded.
        piece, each = unit % pieces, unit // pieces
        if divides_map:
            piece, each = unit // tiles, unit % tiles
        from_granule, to_granule = share(granules, piece, pieces)
        p0 = begin + from_granule * LEAST
        group, tile = each // across, each % across
        c = first_block(tile, channels)
        at = group * channels + c
        inputs = x0 + group * r[L.X_GROUP], xpix, p0, min(begin + to_granule * LEAST, stop)
        kernel = tap_table, taps, r[L.W] + at * taps * LANES, r[L.BIAS] + at * LANES
        outputs = y0 + at * stride, ypix, stride
        summands = m0 + at * mstep if m0 >= 0 else MISSING, mpix, mstep
        rows = first_block(tile + 1, channels) - c
        channel_products(A, P, inputs, kernel, rows, outputs, r[L.RELU], summands)


@linked
def channel_dot(A, T, P, r, block, blocks, slot, part, parts):
    """Convolution with OUT channels, too few to fill lanes, which hold input channels instead.

    TAPS vectors of the input; in those from EXTRA on, only the first IN lanes are channels.
    """
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    m0 = base(r, L.M, block, slot) if r[L.M] >= 0 else MISSING
    xpix, ypix, mpix = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    begin, stop = positions_of(r, block, blocks)
    first, last = share((stop - begin + LANES - 1) // LANES, part, parts)
    for unit in range(first, last):
        p0 = begin + unit * LANES
        end, c = min(p0 + LANES, stop), 0
        while c < r[L.OUT]:
            rows = channels_of_dot(r[L.OUT] - c)
            weights = P, r[L.W] + c * r[L.TAPS] * LANES, P, r[L.BIAS] + c
            taps = T[r[L.TAP_TABLE] :], r[L.EXTRA], r[L.TAPS], r[L.IN]
            summands = A, m0 + c if m0 >= 0 else MISSING, mpix
            rest = (*taps, *weights), (A, y0 + c, ypix), r[L.RELU], summands
            wide = LANES // rows
            for p in range(p0, end, wide):
                DOT_TILE(rows, wide, (A, x0, xpix, p), *rest)
            c += rows


@linked
def channel_depthwise(A, T, P, r, block, slot, part, parts):
    """Depthwise convolution."""
    x0, y0 = base(r, L.X, block, slot), base(r, L.Y, block, slot)
    m0 = base(r, L.M, block, slot) if r[L.M] >= 0 else MISSING
    xpix, ypix, mpix = T[r[L.X_TABLE] :], T[r[L.Y_TABLE] :], T[r[L.M_TABLE] :]
    taps, tap_table = r[L.TAPS], T[r[L.TAP_TABLE] :]
    clusters = (r[L.POSITIONS] + CLUSTER - 1) // CLUSTER
    first, last = share(r[L.CHANNELS] * clusters, part, parts)
    for unit in range(first, last):
        c, p0 = unit // clusters, unit % clusters * CLUSTER
        x, w, bias = x0 + c * r[L.X_CHANNEL], r[L.W] + c * taps * LANES, r[L.BIAS] + c * LANES
        y, m = y0 + c * r[L.Y_CHANNEL], m0 + c * r[L.M_CHANNEL] if m0 >= 0 else MISSING
        for p in range(p0, min(p0 + CLUSTER, r[L.POSITIONS]), 8):
            DEPTH_TILE(
                A, x, xpix, p, tap_table, taps, P, w, P, bias, A, y, ypix, r[L.RELU], A, m, mpix
            )
