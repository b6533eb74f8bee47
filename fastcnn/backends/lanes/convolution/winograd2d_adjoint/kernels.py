"""The transpose of Winograd's F(4x4, 3x3), step by step: a convolution's input gradient.

The gradients of a tile's 4x4 outputs are transformed to ``A d A^T``, multiplied with the
transformed weights of the forward pass and summed over output channels; ``B p B^T`` then is the
gradient of the tile's 6x6 input pixels. Adjacent tiles share two rows and columns of these. A tile
stores the 4x4 pixels that are complete, and carries its contributions to the others: two columns to
the tile on the right, two rows to the tiles below. So each pixel is written once, after a sum in a
fixed order.
"""

import numpy as np

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.edge_tiles import FEW
from fastcnn.backends.lanes.convolution.winograd2d.kernels import (
    ASK_OUTPUTS,
    ASK_TILE,
    CHUNK,
    EDGES,
    FAR,
    LATER,
    ROWS,
    SUMS,
    SUMS_STEP,
    edge_of,
    products,
    tiles_with_product,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import HEIGHTS, PRODUCTS, SIDE
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.tiles import (
    SHARED,
    adjoint_edge_tile,
    adjoint_input_tile,
    adjoint_output_tile,
    adjoint_windows_tile,
    carried_tile,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.codegen import linked, simd

LANES = simd.LANES
#: Transforms of tiles at the edge, and of these and whole ones.
INPUTS_AT_EDGE, KINDS = adjoint_edge_tile.among(*EDGES), ((0, 0), *EDGES)
WINDOWS, PIXELS = adjoint_windows_tile.among(*KINDS), adjoint_output_tile.among(*KINDS)
#: Floats of the columns carried to the next tile.
CARRIED_COLUMNS = SIDE * SHARED * LANES
#: Channels of a unit, which fill a register tile.
UNIT = HEIGHTS[0]
#: Minimum floats of carried sums for which prefetching them pays.
FAR_CARRIED = 64 * 1024


@linked
def carried_floats(across):
    """Floats carried per channel: columns, and rows of a map ``across`` tiles wide."""
    return CARRIED_COLUMNS + SHARED * (OUTPUTS * across + SHARED) * LANES


@linked
def clear(A, first, floats):
    """Zero some vectors."""
    zero = simd.splat(np.float32(0))
    for i in range(first, first + floats, LANES):
        simd.store(A, i, zero)


@linked
def adjoint_inputs(A, T, r, x0, p0, count, v, step, edge):
    """Transform the gradients of some tiles of a channel; products are ``step`` apart.

    With EDGE, some tiles have few rows or columns.
    """
    for t in range(count):
        down, along = (p0 + t) // r[L.ACROSS], (p0 + t) % r[L.ACROSS]
        x = x0 + OUTPUTS * (down * r[L.X_ROW] + along * LANES)
        rest = A, x, r[L.X_ROW], r[L.X_CHANNEL], A, v + t * LANES, step
        bits = edge_of(T[r[L.STRIP_TABLE] :], p0 + t, FEW) if edge else 0
        if bits == 0:
            adjoint_input_tile(*rest)
        else:
            INPUTS_AT_EDGE(bits // ROWS, bits % ROWS, *rest)


@linked
def adjoint_windows(A, T, r, x0, m0, p0, count, v, step, edge):
    """The same for gradients of 2x2 windows, routed to their argmax M."""
    sizes = T[r[L.STRIP_TABLE] :]
    for t in range(count):
        down, along = (p0 + t) // r[L.ACROSS], (p0 + t) % r[L.ACROSS]
        rows, columns = sizes[2 * (p0 + t)], sizes[2 * (p0 + t) + 1]
        place = OUTPUTS // 2 * (down * r[L.X_ROW] + along * LANES)
        if rows <= 0 or columns <= 0:
            place = 0
        sources = (A, x0 + place), (A, m0 + place), r[L.X_ROW], (rows, columns), r[L.X_CHANNEL]
        bits = edge_of(sizes, p0 + t, FEW // 2) if edge else 0
        WINDOWS(bits // ROWS, bits % ROWS, *sources, A, v + t * LANES, step)


@linked
def ask_for_gradients(A, r, x0, p0, count, first, last):
    """Prefetch what some tiles read of some channels."""
    for c in range(first, last):
        for t in range(p0, p0 + count):
            down, along = t // r[L.ACROSS], t % r[L.ACROSS]
            x = x0 + c * r[L.X_CHANNEL] + OUTPUTS * (down * r[L.X_ROW] + along * LANES)
            ASK_TILE(A, x, r[L.X_ROW], LANES)


@linked
def put_carried(A, P, r, bias, source, row, rows, columns, h, w, y0):
    """Store carried pixels inside the map; the first one is at row ``h``, column ``w``."""
    for i in range(max(0, -h), min(rows, r[L.Y_ROWS] - h)):
        for j in range(max(0, -w), min(columns, r[L.Y_WIDTH] - w)):
            y = y0 + (h + i) * r[L.Y_ROW] + (w + j) * LANES
            carried_tile(A, source + i * row + j * LANES, P, bias, A, y, r[L.RELU], r[L.MODE])


@linked
def adjoint_of_channel(A, T, P, r, c, y0, p0, count, sums, step, carried, spare, few):
    """Gradients of a channel's pixels in some tiles, from its products, ``step`` apart.

    Unless FEW is negative, some tiles have at most FEW rows or columns.
    """
    across = r[L.ACROSS]
    row = (OUTPUTS * across + SHARED) * LANES
    rows = carried + CARRIED_COLUMNS
    bias = r[L.BIAS] + c if r[L.BIAS] >= 0 else -1
    if p0 == 0:
        clear(A, rows, SHARED * row)
    for t in range(count):
        down, along = (p0 + t) // across, (p0 + t) % across
        h, w = OUTPUTS * down - r[L.TOP], OUTPUTS * along - r[L.LEFT]
        if along == 0:
            clear(A, carried, CARRIED_COLUMNS)
        sources = A, sums + t * LANES, step
        carries = A, rows + OUTPUTS * along * LANES, row, A, carried
        to = A, y0 + h * r[L.Y_ROW] + w * LANES, r[L.Y_ROW]
        limits = -h, r[L.Y_ROWS] - h, -w, r[L.Y_WIDTH] - w, spare
        rest = sources, carries, (P, bias), to, limits, r[L.RELU], r[L.MODE]
        edge = edge_of(T[r[L.STRIP_TABLE] :], p0 + t, few) if few >= 0 else 0
        PIXELS(edge // ROWS, edge % ROWS, *rest)
        if along == across - 1:
            end = rows + OUTPUTS * across * LANES
            for j in range(SHARED):
                for i in range(SHARED):
                    kept, left = end + i * row + j * LANES, carried + (SHARED * i + j) * LANES
                    simd.store(A, left, simd.add(simd.load(A, left), simd.load(A, kept)))
                    simd.store(A, kept, simd.load(A, left + OUTPUTS * SHARED * LANES))
            put_carried(A, P, r, bias, carried, SHARED * LANES, OUTPUTS, SHARED, h, w + OUTPUTS, y0)
    if p0 + count == r[L.POSITIONS]:
        h = OUTPUTS * (r[L.POSITIONS] // across) - r[L.TOP]
        put_carried(A, P, r, bias, rows, row, SHARED, row // LANES, h, -r[L.LEFT], y0)


@linked
def ask_for_pixels(A, r, y0, carried, p0, count, far):
    """Prefetch the addresses of the pixels of some tiles of a channel, and the carried sums."""
    across = r[L.ACROSS]
    row = (OUTPUTS * across + SHARED) * LANES
    for t in range(p0, p0 + count):
        down, along = t // across, OUTPUTS * (t % across)
        h, w = OUTPUTS * down - r[L.TOP], along - r[L.LEFT]
        ASK_OUTPUTS(A, y0 + h * r[L.Y_ROW] + w * LANES, r[L.Y_ROW], LANES)
        for j in range(OUTPUTS if far else 0):
            for i in range(SHARED):
                simd.prefetch_write(A, carried + CARRIED_COLUMNS + i * row + (along + j) * LANES)


@linked
def winograd2d_adjoint(A, T, P, r, block, slot, worker, part, parts, pooled, edge):
    """The transpose of a convolution; a unit is some channels of Y.

    X is the output's gradient with IN channels, Y the input's. POSITIONS tiles, ACROSS per row, are
    processed TAPS at a time. If POOLED, X is the gradient after 2x2 max pooling of the output, M
    has the argmax, and STRIP_TABLE the number of windows from each tile's first on. With EDGE and
    no pooling it has the number of outputs instead, and tiles with few rows or columns have fewer
    products. Z is scratch for transforms, of some channels of Y at a time, and for the carried sums
    of each channel of Y.
    """
    x0, y0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    inputs, outputs, strip, tiles = r[L.IN], r[L.CHANNELS], r[L.TAPS], r[L.POSITIONS]
    each = strip * LANES
    from_step = inputs * each + STAGGER
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    sums = transformed + PRODUCTS * from_step
    spare = sums + PRODUCTS * SUMS_STEP
    carried, carried_step = spare + LANES, carried_floats(r[L.ACROSS])
    first, last = share((outputs + UNIT - 1) // UNIT, part, parts)
    end = min(last * UNIT, outputs)
    if first == last:
        return
    sizes, few = T[r[L.STRIP_TABLE] :], FEW // 2 if pooled else FEW
    # The carried sums of many channels do not stay in the inner caches.
    far_carried = outputs * carried_step > FAR_CARRIED
    for p0 in range(0, tiles, strip):
        taken = min(strip, tiles - p0)
        for c in range(inputs):
            x, v = x0 + c * r[L.X_CHANNEL], transformed + c * each
            if pooled:
                m = m0 + c * r[L.X_CHANNEL]
                adjoint_windows(A, T, r, x, m, p0, taken, v, from_step, edge)
            else:
                adjoint_inputs(A, T, r, x, p0, taken, v, from_step, edge)
        far = inputs * r[L.X_CHANNEL] >= FAR and not pooled
        coming = min(strip, tiles - p0 - taken) if far else 0
        turns = PRODUCTS - LATER
        all_turns = (end - first * UNIT + CHUNK - 1) // CHUNK * turns
        for c0 in range(first * UNIT, end, CHUNK):
            made = min(CHUNK, end - c0)
            for k in range(PRODUCTS):
                if coming > 0 and k >= LATER:
                    turn = (c0 - first * UNIT) // CHUNK * turns + k - LATER
                    first_c, last_c = share(inputs, turn, all_turns)
                    ask_for_gradients(A, r, x0, p0 + strip, coming, first_c, last_c)
                if k < made:
                    y, kept = y0 + (c0 + k) * r[L.Y_CHANNEL], carried + (c0 + k) * carried_step
                    ask_for_pixels(A, r, y, kept, p0, taken, far_carried)
                v, w = transformed + k * from_step, r[L.W] + k * r[L.OUT] + c0 * inputs
                s = sums + k * SUMS_STEP
                t0, t1 = tiles_with_product(sizes, p0, taken, few, k) if edge else (0, taken)
                v, s = v + t0 * LANES, s + t0 * LANES
                products(A, v, t1 - t0, inputs, each, w, made, s, SUMS)
            for c in range(made):
                y, kept = y0 + (c0 + c) * r[L.Y_CHANNEL], carried + (c0 + c) * carried_step
                s = sums + c * SUMS
                rest = p0, taken, s, SUMS_STEP, kept, spare, few if edge else -1
                adjoint_of_channel(A, T, P, r, c0 + c, y, *rest)
