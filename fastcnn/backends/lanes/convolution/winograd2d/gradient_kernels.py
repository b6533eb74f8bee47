"""The kernels of 3x3 weight gradients by Winograd's F(4x4, 3x3); see kernels.py.

Vectors hold 16 output channels of a sample, so that sums over samples need no horizontal sums: the
output's gradient is transposed before it is transformed, while it has no more pixels than the map.
"""

import numpy as np

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.edge_tiles import FEW
from fastcnn.backends.lanes.convolution.winograd2d.gradient_tiles import (
    PIXEL,
    PRODUCT,
    TILE,
    edge_gradient_tile,
    gradient_rows_tile,
    gradient_tile,
    input_rows_tile,
    products_of_samples_tile,
)
from fastcnn.backends.lanes.convolution.winograd2d.kernels import (
    COLUMNS,
    EDGES,
    ROWS,
    edge_inputs,
    edge_of,
    tiles_with_product,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided_gradient_tiles import (
    strided_weight_gradient_tile,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS, SIDE, weight_gradient_tile
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, base, share
from fastcnn.codegen import linked, simd
from fastcnn.codegen.transpose_tiles import transpose_rows_tile, transpose_tile

LANES = simd.LANES
PRODUCTS_TILE = products_of_samples_tile.among(
    (16, 1), (8, 2), (8, 1), (4, 2), (4, 1), (1, 2), (1, 1)
)
#: Pixels of a tile of outputs.
TILE_PIXELS = OUTPUTS * OUTPUTS
#: Index of the product that equals the sum of a tile's gradients: the point 1 in both directions.
TOTAL = SIDE + 1
GRADIENT_TILE, GRADIENT_TILE_OF_WINDOWS = gradient_tile.sized(0), gradient_tile.sized(1)
ROWS_TILE, ROWS_TILE_OF_WINDOWS = gradient_rows_tile.sized(0), gradient_rows_tile.sized(1)
GRADIENTS_AT_EDGE, WINDOWS_AT_EDGE = (
    edge_gradient_tile.among(*((pooled, *edge) for edge in EDGES)) for pooled in (0, 1)
)
#: Floats of a channel prefetched before they are transposed: those of the next tile.
AHEAD = OUTPUTS * LANES
#: Argmax of a window without a maximum.
CLOSED = 4


def gradient_room(
    inputs: int, together: tuple[int, int], strip: int, tiles: int, own: bool, products=PRODUCTS
) -> int:
    """Floats of a gradient's scratch memory, with ``together`` inputs and outputs at a time.

    With ``own``, it also has the sums.
    """
    sums = products * (together[0] * together[1] + STAGGER)
    if strip < tiles:
        sums *= -(-inputs // together[0])
    transforms = sum(together) // LANES * strip * products * PRODUCT
    return transforms + TILE_PIXELS * PIXEL + (sums if own else 0)


@linked
def turn_tile(A, r, spacing, d, valid, turned, pixel):
    """Transpose a tile's gradients to vectors of 16 channels; channels after VALID are zero.

    Pixels are SPACING apart, and then PIXEL.
    """
    for p in range(TILE_PIXELS):
        place = d + p // OUTPUTS * r[L.Y_ROW] + p % OUTPUTS * spacing
        turn_pixel(A, r, place, valid, turned + p * pixel, AHEAD)


@linked
def turn_pixel(A, r, place, valid, target, ahead):
    """The same for one pixel; the pixel ``ahead`` floats further is prefetched."""
    for k in range(valid):
        simd.prefetch(A, place + k * r[L.Y_CHANNEL] + ahead)
    if valid == LANES:
        transpose_tile(A, place, r[L.Y_CHANNEL], A, target, LANES)
    else:
        transpose_rows_tile(A, place, r[L.Y_CHANNEL], valid, A, target, LANES)


@linked
def turn_windows(A, r, d, m, rows, columns, valid, turned):
    """The same for a tile's four windows and their argmax; those outside the map have none."""
    for q in range(OUTPUTS):
        i, j = q // 2, q % 2
        inside, target = i * r[L.Y_ROW] + j * LANES, turned + q * PIXEL
        winners = target + OUTPUTS * PIXEL
        if i < rows and j < columns:
            turn_pixel(A, r, d + inside, valid, target, AHEAD // 2)
            turn_pixel(A, r, m + inside, valid, winners, AHEAD // 2)
        else:
            for n in range(0, PIXEL, LANES):
                simd.store(A, winners + n, simd.splat(np.float32(CLOSED)))


@linked
def products_of_samples(A, inputs, vectors, count, v, step, tile, e, estep, g, column, more):
    """One of the products of some inputs and vectors of outputs, added to G, or stored there.

    Groups of 16 channels are STEP and ESTEP apart, tiles TILE.
    """
    o = 0
    while o < vectors:
        wide = 2 if vectors - o > 1 else 1
        c = 0
        while c < inputs:
            left = inputs - c
            target = g + o * column + c * LANES
            source = v + c // LANES * step + c % LANES * LANES
            rest = A, source, A, e + o * estep, estep, count, tile, A, target, column, more
            most = 16 if left >= 16 and wide == 1 else 8
            high = most if left >= 8 else 4 if left >= 4 else 1
            PRODUCTS_TILE(high, wide, *rest)
            c += high
        o += wide


@linked
def transform_gradients(
    A, T, r, spacing, d, p0, count, channels, first, last, turned, e, step, edge
):
    """Transform the gradients of some channels of some tiles, groups of 16 channels STEP apart.

    With EDGE, some tiles have few rows or columns.
    """
    dpix, sizes = T[r[L.Y_TABLE] :], T[r[L.STRIP_TABLE] :]
    for o in range(0, channels, LANES):
        of_channel, valid = d + o * r[L.Y_CHANNEL], min(LANES, channels - o)
        for t in range(count):
            place, of_tile = of_channel + dpix[p0 + t], e + o // LANES * step + t * TILE
            bits = edge_of(sizes, p0 + t, FEW) if edge else 0
            if bits == 0:
                turn_tile(A, r, spacing, place, valid, turned, PIXEL)
                # Testing each row is slower.
                if last - first == SIDE:
                    for n in range(0, PIXEL, LANES):
                        GRADIENT_TILE(A, turned + n, A, of_tile + n)
                else:
                    for n in range(0, PIXEL, LANES):
                        ROWS_TILE(first, last, A, turned + n, A, of_tile + n)
                continue
            for i in range(FEW if bits & ROWS else OUTPUTS):
                for j in range(FEW if bits & COLUMNS else OUTPUTS):
                    pixel, target = place + i * r[L.Y_ROW] + j * spacing, OUTPUTS * i + j
                    turn_pixel(A, r, pixel, valid, turned + target * PIXEL, AHEAD)
            for n in range(0, PIXEL, LANES):
                GRADIENTS_AT_EDGE(0, bits // ROWS, bits % ROWS, A, turned + n, A, of_tile + n)


@linked
def transform_windows(A, T, r, d, m, p0, count, channels, first, last, turned, e, step, edge):
    """The same for gradients of 2x2 windows, routed to their argmax M."""
    dpix, sizes = T[r[L.Y_TABLE] :], T[r[L.STRIP_TABLE] :]
    for o in range(0, channels, LANES):
        of_channel, valid = o * r[L.Y_CHANNEL], min(LANES, channels - o)
        for t in range(count):
            p, of_tile = p0 + t, e + o // LANES * step + t * TILE
            place, rows, columns = of_channel + dpix[p], sizes[2 * p], sizes[2 * p + 1]
            bits = edge_of(sizes, p, FEW // 2) if edge else 0
            turn_windows(A, r, d + place, m + place, rows, columns, valid, turned)
            if bits > 0:
                for n in range(0, PIXEL, LANES):
                    WINDOWS_AT_EDGE(1, bits // ROWS, bits % ROWS, A, turned + n, A, of_tile + n)
            elif last - first == SIDE:
                for n in range(0, PIXEL, LANES):
                    GRADIENT_TILE_OF_WINDOWS(A, turned + n, A, of_tile + n)
            else:
                for n in range(0, PIXEL, LANES):
                    ROWS_TILE_OF_WINDOWS(first, last, A, turned + n, A, of_tile + n)


@linked
def add_totals(A, e, vectors, step, count, total, more):
    """Sum the output's gradient of some vectors of channels, from the product that contains it."""
    for o in range(vectors):
        place = total + o * LANES
        a = simd.load(A, place) if more else simd.splat(np.float32(0))
        for t in range(count):
            first = e + o * step + t * TILE + TOTAL * PRODUCT
            b, c = simd.load(A, first), simd.load(A, first + LANES)
            for n in range(2 * LANES, PIXEL, 2 * LANES):
                b = simd.add(b, simd.load(A, first + n))
                c = simd.add(c, simd.load(A, first + n + LANES))
            a = simd.add(a, simd.add(b, c))
        simd.store(A, place, a)


@linked
def transform_inputs(A, T, r, spacing, x, p0, count, channels, first, last, v, step, few):
    """Transform some input channels of some tiles, groups of 16 channels STEP apart.

    Unless FEW is negative, some tiles have at most FEW rows or columns.
    """
    xpix, sizes = T[r[L.X_TABLE] :], T[r[L.STRIP_TABLE] :]
    apart = r[L.X_ROW], spacing, r[L.X_CHANNEL]
    for c in range(channels):
        of_channel, target = x + c * r[L.X_CHANNEL], v + c // LANES * step + c % LANES * LANES
        for t in range(count):
            pixels, to = of_channel + xpix[p0 + t], target + t * TILE
            edge = edge_of(sizes, p0 + t, few) if few >= 0 else 0
            if edge == 0 and last - first < SIDE:
                input_rows_tile(first, last, A, pixels, *apart, A, to)
            else:
                edge_inputs(A, r, spacing, edge, pixels, to, PRODUCT)


@linked
def winograd2d_gradient(A, T, r, block, slot, worker, part, parts, pooled, edge, dilated):
    """One block's gradient of the transformed weights; a unit is one of their six rows.

    X is the input with IN channels, Y the output's gradient with CHANNELS; X_GROUP and GROUPS of
    these are transformed at a time, for TAPS of the tiles. If POOLED, Y is the gradient after 2x2
    max pooling of the output, M has the argmax, and STRIP_TABLE the number of windows from each
    tile's first on. With EDGE and no pooling it has the number of outputs instead, tiles of few
    rows or columns have fewer products, and the tiles of each product are contiguous. Unless BIAS
    is negative, sums of the output's gradient go there, those of blocks Z_BLOCK apart. For every 16
    outputs, a gradient has a vector for each input, contiguously. With OUT, EXTRA gets the gradient
    of the transformed weights, OUT apart; without, a single thread computes a block and transforms
    it back to EXTRA immediately. If DILATED, a tile's pixels are SPACING apart.
    """
    spacing = r[L.SPACING] if dilated else LANES
    x0, d0, m0 = base(r, L.X, block, slot), base(r, L.Y, block, slot), base(r, L.M, block, slot)
    inputs, channels, strip, tiles = r[L.IN], r[L.CHANNELS], r[L.TAPS], r[L.POSITIONS]
    sizes = T[r[L.STRIP_TABLE] :]
    step, few = strip * TILE, FEW // 2 if pooled else FEW
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    grads = transformed + r[L.X_GROUP] // LANES * step
    turned = grads + r[L.GROUPS] // LANES * step
    sums = turned + TILE_PIXELS * PIXEL
    own = r[L.OUT] == 0
    apart = r[L.X_GROUP] * r[L.GROUPS] + STAGGER if own else r[L.OUT]
    # Sums of some inputs are kept for the next strip, if there is one.
    kept = PRODUCTS * apart if strip < tiles else 0
    first, last = share(SIDE, part, parts)
    if own:
        first, last = (0, SIDE) if part == 0 else (0, 0)
    for o0 in range(0, channels if first < last else 0, r[L.GROUPS]):
        made = min(r[L.GROUPS], channels - o0)
        vectors = (made + LANES - 1) // LANES
        for p0 in range(0, tiles, strip):
            count = min(strip, tiles - p0)
            d, m = d0 + o0 * r[L.Y_CHANNEL], m0 + o0 * r[L.Y_CHANNEL]
            rest = p0, count, made, first, last, turned, grads, step, edge
            if pooled:
                transform_windows(A, T, r, d, m, *rest)
            else:
                transform_gradients(A, T, r, spacing, d, *rest)
            if r[L.BIAS] >= 0 and first <= 1 and last > 1:
                place = r[L.BIAS] + block * r[L.Z_BLOCK] + o0
                add_totals(A, grads, vectors, step, count, place, p0 > 0)
            for c0 in range(0, inputs, r[L.X_GROUP]):
                some = min(r[L.X_GROUP], inputs - c0)
                x = x0 + c0 * r[L.X_CHANNEL]
                rest = p0, count, some, first, last, transformed, step, few if edge else MISSING
                transform_inputs(A, T, r, spacing, x, *rest)
                place = o0 * inputs + c0 * LANES
                if own:
                    target, column = sums + c0 // r[L.X_GROUP] * kept, some * LANES
                else:
                    target, column = r[L.EXTRA] + slot * r[L.EXTRA_BLOCK] + place, inputs * LANES
                for k in range(first * SIDE, last * SIDE):
                    v, e, g = transformed + k * PRODUCT, grads + k * PRODUCT, target + k * apart
                    taken = count
                    if edge:
                        t0, t1 = tiles_with_product(sizes, p0, count, few, k)
                        taken, v, e = max(0, t1 - t0), v + t0 * TILE, e + t0 * TILE
                        if taken == 0 and p0 > 0:
                            continue
                    rest = v, step, TILE, e, step, g, column, p0 > 0
                    products_of_samples(A, some, vectors, taken, *rest)
                if own and p0 + count == tiles:
                    weights = r[L.EXTRA] + block * r[L.EXTRA_BLOCK] + 9 * place
                    for o in range(vectors):
                        for c in range(some):
                            e, g = target + o * column, weights + 9 * o * inputs * LANES
                            g += 9 * c * LANES
                            weight_gradient_tile(A, e + c * LANES, apart, A, g, LANES)


@linked
def winograd2d_weight_gradient(A, r, block, slot, part, parts):
    """One block's gradient of IN kernels, 16 by 16, from that of their transforms X."""
    first, last = share(r[L.IN] // LANES, part, parts)
    for unit in range(first, last):
        i = unit * LANES
        e, g = r[L.X] + slot * r[L.X_SLOT] + i, r[L.EXTRA] + block * r[L.EXTRA_BLOCK] + 9 * i
        if r[L.DOWN] == 2:
            strided_weight_gradient_tile(A, e, r[L.OUT], A, g, LANES)
        else:
            weight_gradient_tile(A, e, r[L.OUT], A, g, LANES)
