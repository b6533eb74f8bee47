"""Transforms of the transpose of Winograd's F(4x4, 3x3): its matrices, transposed."""

from typing import Any

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, Matrix
from fastcnn.backends.lanes.convolution.winograd2d.edge_tiles import (
    load_products,
    sides,
    store_products,
    transform_edge,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    MATRICES,
    SIDE,
    emit_unpooled,
    transform_tile,
)
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    Grid,
    Inside,
    ask_for_pixels,
    bias_of,
    emit_either,
    emit_product,
    load_all,
    store_all,
)
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES, constant

#: Rows and columns of pixels that adjacent tiles share.
SHARED = SIDE - OUTPUTS


@tile(0)
def adjoint_input_tile(at: Emitter, D, d0, drow, ahead, V, v0, step) -> None:
    """``A d A^T`` of the gradient of 4x4 outputs; those ``ahead`` further are prefetched."""
    transform_tile(at, MATRICES.output.T, Grid(D, d0, drow, LANES), ahead, V, v0, step)


@tile(2)
def adjoint_edge_tile(at: Emitter, down: int, along: int, D, d0, drow, ahead, V, v0, step) -> None:
    """The same for a tile with few rows or columns."""
    of = sides(down, along)
    matrices, source = [side.of.output.T for side in of], Grid(D, d0, drow, LANES)
    transform_edge(at, of, matrices, source, ahead, V, v0, step)


@tile(2)
def adjoint_windows_tile(
    at: Emitter, few_down: int, few_along: int, gradients, winners, drow, inside, ahead, V, v0, step
) -> None:
    """The same with the gradient of 2x2 windows of 2x2 outputs, routed to their argmax.

    Gradients and winners are an array and an offset; only the first rows and columns of windows are
    inside the map.
    """
    of = sides(few_down, few_along)
    matrices = [side.of.output.T for side in of]
    builder, (down, along) = at.builder, (range(matrix.shape[1] // 2) for matrix in matrices)
    for array, first in (gradients, winners):
        ask_for_pixels(at, (down, along), Grid(array, first, drow, LANES), ahead)
    windows, limits = [], Inside(inside[0], inside[1], at.index(-1))
    for i in range(OUTPUTS // 2):
        for j in range(OUTPUTS // 2):
            if i not in down or j not in along:
                windows.append((constant(0.0), constant(0.0)))
                continue
            place = at.offset(at.offset(at.index(0), i, drow), j, LANES)
            place = limits.place(at, i, j, place)
            outside = builder.icmp_signed("<", place, at.index(0))
            place = builder.select(outside, at.index(0), place)
            grad, winner = (
                at.load(array, builder.add(first, place)) for array, first in (gradients, winners)
            )
            windows.append((builder.select(outside, constant(0.0), grad), winner))
    pixels = [row[: 2 * len(along)] for row in emit_unpooled(at, windows)[: 2 * len(down)]]
    store_products(at, of, matrices, pixels, V, v0, step)


@tile(2)
def adjoint_output_tile(
    at: Emitter, few_down: int, few_along: int, products, carried, bias, to, limits, relu, masked
) -> None:
    """``B p B^T`` of a tile, plus the carried sums; its first 4x4 pixels are stored.

    ``products`` and ``to`` are an array, an offset and a step. Two rows in ``R`` are carried from
    the tiles above to those below, two columns in ``C`` from the tile on the left to that on the
    right. Pixels before ``top`` or ``left`` and from ``rows`` or ``columns`` on go to ``spare``.
    """
    (R, r0, rrow, C, c0), (Y, y0, yrow), (top, rows, left, columns, spare) = carried, to, limits
    builder, of, inside = at.builder, sides(few_down, few_along), Inside(rows, columns, spare)
    sums = load_products(at, of, *products)
    along = [_all_pixels(at, of[0].of.input.T, list(column)) for column in zip(*sums, strict=True)]
    added = bias_of(at, bias)

    def emit(whole: bool) -> None:
        # Row by row: stored rows free their registers.
        for i in range(SIDE):
            pixels = _all_pixels(at, of[1].of.input.T, [column[i] for column in along])
            at_left = at.offset(c0, SHARED * i, LANES)
            above = at.offset(r0, i if i < SHARED else i - OUTPUTS, rrow)
            for j, value in enumerate(load_all(at, SHARED, C, at_left, LANES)):
                pixels[j] = builder.fadd(pixels[j], value)
            store_all(at, pixels[OUTPUTS:], C, at_left, LANES)
            if i < SHARED:
                for j, value in enumerate(load_all(at, OUTPUTS, R, above, LANES)):
                    pixels[j] = builder.fadd(pixels[j], value)
            if i >= OUTPUTS:
                store_all(at, pixels[:OUTPUTS], R, above, LANES)
                continue
            places = []
            for j in range(OUTPUTS):
                place = at.offset(at.offset(y0, i, yrow), j, LANES)
                if not whole:
                    for low, number in ((top, i), (left, j)):
                        outside = builder.icmp_signed("<", at.index(number), low)
                        place = builder.select(outside, spare, place)
                    place = inside.place(at, i, j, place)
                places.append((builder.fadd(pixels[j], added), place))
            if whole:
                for value, place in places:
                    at.store(value, Y, place)
            else:
                emit_outputs(at, places, Y, at.index(0), relu, masked)

    # Most tiles are inside the map, and their pixels are neither rectified nor masked.
    plain = builder.icmp_signed("==", builder.or_(relu, masked), at.index(0))
    for low in (top, left):
        plain = builder.and_(plain, builder.icmp_signed("<=", low, at.index(0)))
    for high in (rows, columns):
        plain = builder.and_(plain, builder.icmp_signed(">=", high, at.index(OUTPUTS)))
    emit_either(at, plain, emit)


def _all_pixels(at: Emitter, matrix: Matrix, sums: list[Any]) -> list[Any]:
    """The pixels of one direction; a tile with few outputs does not reach the last ones."""
    made = emit_product(at.builder, matrix, sums)
    return made + [constant(0.0)] * (SIDE - len(made))


@tile(0)
def carried_tile(at: Emitter, C, c0, B, b0, Y, y0, relu, masked) -> None:
    """Store a completed pixel as :func:`adjoint_output_tile` does."""
    value = at.load(C, c0)
    value = at.builder.fadd(value, at.bias(B, b0, 1)[0])
    emit_outputs(at, [(value, at.index(0))], Y, y0, relu, masked)
