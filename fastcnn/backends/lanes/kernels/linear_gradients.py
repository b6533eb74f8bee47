"""Kernels of the weight and bias gradients of fully connected layers, over the whole batch."""

from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.kernels.division import base, share
from fastcnn.backends.lanes.kernels.linear import strip_share
from fastcnn.backends.lanes.kernels.linear_tiles import RUN, STRIP, TILES, WAITING, outer_tile
from fastcnn.backends.lanes.kernels.record import (
    clipped,
    matrix_sizes,
    numbered,
    per_number,
    sizes_of,
)
from fastcnn.backends.lanes.reach import linear as reach
from fastcnn.codegen import linked, simd
from fastcnn.codegen.target import blocking
from fastcnn.codegen.transpose_tiles import transpose_tile

LANES = simd.LANES
OUTER_TILE_1X4 = outer_tile.sized(1, 4, 0)
OUTER_TILE_4X1 = outer_tile.sized(4, 1, 0)
OUTER_TILE_1X1 = outer_tile.sized(1, 1, 0)


@linked
def transpose(A, r, block, blocks, slot, worker, part, parts):
    """Lanes to rows: EXTRA gets strips of inputs, OUT floats apart, with one row per sample."""
    inputs = (r[L.IN] + LANES - 1) // LANES * LANES
    first, last = strip_share(inputs, part, parts)
    for b in range(block, block + blocks):
        x, y = base(r, L.X, b, slot), r[L.EXTRA] + worker * r[L.EXTRA_BLOCK] + b * LANES * STRIP
        for i in range(first * STRIP, min(last * STRIP, inputs), LANES):
            strip = i // STRIP - (first if r[L.BY_STRIP] else 0)
            to = y + strip * r[L.OUT] + i % STRIP
            transpose_tile(A, x + i * LANES, LANES, A, to, STRIP)


@linked
def outer_share(r, part, parts):
    """A thread's tiles of outputs and strips of inputs: first and last + 1 of each."""
    tiles, strips = r[L.OUT] // 4 + r[L.OUT] % 4, (r[L.IN] + STRIP - 1) // STRIP
    if r[L.BY_STRIP]:
        return 0, tiles, *share(strips, part, parts)
    return *share(tiles, part, parts), 0, strips


def outer_tiles(row: np.ndarray) -> int:
    """Tiles of the gradient that a row computes."""
    inputs, outputs = row[L.IN], row[L.OUT]
    return int((outputs // 4 + outputs % 4) * -(-inputs // STRIP))


@linked
def outputs_of_tile(r, tile):
    """First output of a tile, and its number of outputs."""
    fours = r[L.OUT] // 4
    return (tile * 4, 4) if tile < fours else (fours * 3 + tile, 1)


def outer_product(slots: int) -> Any:
    """The function of a tile's weight gradients, which prefetches P and SLOTS arrays of S."""
    tile_4x4 = outer_tile.sized(4, 4, 1 + slots)

    @linked
    def product(A, P, S, r, blocks, worker, o, count, i, first, width, G, g, row):
        """Weight gradients of COUNT outputs by a strip of inputs, which stays in the first-level
        cache for all outputs; if WIDTH is less than a strip, some more are computed."""
        x = r[L.X] + worker * r[L.X_SLOT] + (i // STRIP - first) * r[L.EXTRA]
        w, stride = r[L.W] + o * r[L.IN] + i, (P.size + LANES - 1) // LANES * LANES
        of_y, of_x = (A, r[L.Y] + o * LANES, r[L.Y_BLOCK]), (A, x, STRIP)
        rest = of_y, blocks, of_x, (G, g, row), False, (P, S, w, r[L.IN], stride)
        if count == 4 and width > LANES:
            return tile_4x4(*rest)
        if count == 4:
            return OUTER_TILE_4X1(*rest)
        return OUTER_TILE_1X4(*rest) if width > LANES else OUTER_TILE_1X1(*rest)

    return product


plain_product = outer_product(1)


@linked
def outer(A, P, G, r, blocks, worker, part, parts):
    """Weight gradient of a fully connected layer, IN inputs by OUT outputs, into G.

    X has strips of inputs, EXTRA floats apart, Y the output's gradient in lanes, Z scratch.
    """
    inputs, spare = r[L.IN], r[L.Z] + worker * r[L.Z_SLOT]
    begin, end, first, last = outer_share(r, part, parts)
    for i in range(first * STRIP, last * STRIP, STRIP):
        width = min(STRIP, inputs - i)
        for tile in range(begin, end):
            o, count = outputs_of_tile(r, tile)
            g = r[L.W] + o * inputs + i
            # The update will write these parameters, which other cores may have read.
            place = P, G, r, blocks, worker, o, count, i, first, width
            if width == STRIP:
                plain_product(A, *place, G, g, inputs)
                continue
            plain_product(A, *place, A, spare, STRIP)
            for row in range(count):
                for k in range(width):
                    G[g + row * inputs + k] = A[spare + row * STRIP + k]


@linked
def squares_of_rows(A, first, row, count, width):
    """Sum of squares of some rows."""
    total, sums = 0.0, simd.splat(np.float32(0))
    for i in range(first, first + count * row, row):
        whole = i + width // LANES * LANES
        for k in range(i, whole, LANES):
            x = simd.load(A, k)
            sums = simd.fma(x, x, sums)
        for k in range(whole, i + width):
            total += np.float64(A[k]) * A[k]
    return total + np.float64(simd.lane_sum(sums))


def updating_outer(numbers: Any, advance: Any, slots: int) -> Any:
    """The kernel of a weight gradient that updates the weights immediately.

    The gradient stays in the second-level cache. KEY is the weights' span of parameters, SCALE the
    offset of the sums of squares of the gradient, one for each tile.
    """
    product = outer_product(slots)

    @linked
    def outer_update(A, P, S, settings, squares, rate, step, r, blocks, worker, part, parts):
        inputs, spare = r[L.IN], r[L.Z] + worker * r[L.Z_SLOT]
        strips = (inputs + STRIP - 1) // STRIP
        made = numbers(settings, r[L.KEY], 1.0, rate, step)
        begin, end, first, last = outer_share(r, part, parts)
        for tile0 in range(begin, end, TILES):
            tile1 = min(tile0 + TILES, end)
            for strip0 in range(first, last, RUN):
                strip1 = min(strip0 + RUN, last)
                i0, i1 = strip0 * STRIP, min(strip1 * STRIP, inputs)
                for strip in range(strip0, strip1):
                    i = strip * STRIP
                    width = min(STRIP, inputs - i)
                    for tile in range(tile0, tile1):
                        o, count = outputs_of_tile(r, tile)
                        g = spare + (tile - tile0) * 4 * WAITING + i - i0
                        place = r, blocks, worker, o, count, i, first, width
                        total = np.float64(product(A, P, S, *place, A, g, WAITING))
                        if width < STRIP:
                            total = squares_of_rows(A, g, WAITING, count, width)
                        squares[r[L.SCALE] + tile * strips + strip] = total
                for tile in range(tile0, tile1):
                    o, count = outputs_of_tile(r, tile)
                    for row in range(count):
                        g = spare + ((tile - tile0) * 4 + row) * WAITING
                        w = r[L.W] + (o + row) * inputs
                        advance(P, A, S, w + i0, w + i1, g, made)

    return outer_update


@linked
def linear_bias_gradient(A, G, r, blocks, part, parts):
    """Sum the output's gradient over all samples, in block order."""
    first, last = share(r[L.OUT], part, parts)
    for o in range(first, last):
        total = simd.splat(np.float32(0))
        for b in range(blocks):
            total = simd.add(total, simd.load(A, r[L.Y] + b * r[L.Y_BLOCK] + o * LANES))
        G[r[L.BIAS] + o] = simd.lane_sum(total)


def _outer(r: Row) -> Cost:
    weights = r[L.IN] * r[L.OUT]
    return r.cost(2 * weights, r[L.IN] + r[L.OUT], 0, parameters_written=weights)


def _outer_tile(r: Row) -> str:
    return clipped((4 if r[L.OUT] >= 4 else 1, 4), blocking().products)


K_TRANSPOSE = numbered(
    transpose,
    "transpose",
    per_number(0, 1),
    sizes_of(L.IN),
    many=True,
    touches=reach.transpose,
    before_backward=True,
    parts=L.BY_STRIP,
)
K_OUTER = numbered(
    outer,
    "outer product",
    _outer,
    matrix_sizes,
    _outer_tile,
    touches=reach.outer,
    parts=L.BY_STRIP,
)
K_LINEAR_BIAS_GRADIENT = numbered(
    linear_bias_gradient,
    "bias gradient",
    lambda r: r.cost(r[L.OUT], r[L.OUT], 0, parameters_written=r[L.OUT]),
    sizes_of(L.OUT),
    touches=reach.bias_gradient,
)
