"""Transforms of the transpose of Winograd's F(4x4, 3x3), the matrices of the product transposed."""

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    MATRICES,
    PRODUCTS,
    SIDE,
    emit_unpooled,
    place_inside,
    transform_tile,
)
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    ask_for_pixels,
    emit_product,
    load_all,
    store_all,
    store_both_ways,
)
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES, constant, emit_load, emit_store

#: Rows and columns of pixels that neighbouring tiles share.
SHARED = SIDE - OUTPUTS


@tile(0)
def adjoint_input_tile(at: Emitter, D, d0, drow, ahead, V, v0, step) -> None:
    """``A d A^T`` of the gradient of 4x4 outputs; those ``ahead`` further are asked for."""
    transform_tile(at, MATRICES.output.T, D, d0, drow, ahead, V, v0, step)


@tile(0)
def adjoint_windows_tile(
    at: Emitter, D, d0, M, m0, drow, rows, columns, ahead, V, v0, step
) -> None:
    """The same where max-pooling sends that of 2x2 windows of 2x2 outputs to their winners ``M``.

    Only the first rows and columns of windows lie inside the map.
    """
    builder, side = at.builder, range(OUTPUTS // 2)
    for array, first in ((D, d0), (M, m0)):
        ask_for_pixels(at, (side, side), array, first, drow, ahead)
    windows = []
    for i in side:
        for j in side:
            inside = at.offset(at.offset(at.index(0), i, drow), j, LANES)
            place = place_inside(at, i, j, rows, columns, inside, at.index(-1))
            outside = builder.icmp_signed("<", place, at.index(0))
            place = builder.select(outside, at.index(0), place)
            grad, winner = (
                emit_load(builder, at.pointer(array, builder.add(first, place)))
                for array, first in ((D, d0), (M, m0))
            )
            windows.append((builder.select(outside, constant(0.0), grad), winner))
    store_both_ways(at, MATRICES.output.T, emit_unpooled(at, windows), V, v0, step)


@tile(0)
def adjoint_output_tile(
    at: Emitter,
    S,
    s0,
    step,
    R,
    r0,
    rrow,
    C,
    c0,
    B,
    b0,
    Y,
    y0,
    yrow,
    top,
    rows,
    left,
    columns,
    spare,
    relu,
    masked,
) -> None:
    """``B p B^T`` of a tile, and what is carried to it; its first 4x4 pixels are stored.

    Those before ``top`` or ``left`` and those from ``rows`` or ``columns`` on go to ``spare``. Two
    rows of ``R`` are carried from the tiles above and to those below, two columns of ``C`` from the
    tile at the left and to that at the right.
    """
    builder = at.builder
    matrix = MATRICES.input.T
    flat = load_all(at, PRODUCTS, S, s0, step)
    along = [emit_product(builder, matrix, flat[j::SIDE]) for j in range(SIDE)]
    bias = at.bias(B, b0, 1)[0]

    def emit(whole: bool) -> None:
        # Row by row: what is stored needs no register any more.
        for i in range(SIDE):
            pixels = emit_product(builder, matrix, [column[i] for column in along])
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
                    place = place_inside(at, i, j, rows, columns, place, spare)
                places.append((builder.fadd(pixels[j], bias), place))
            if whole:
                for value, place in places:
                    emit_store(builder, value, at.pointer(Y, place))
            else:
                emit_outputs(at, places, Y, at.index(0), relu, masked)

    # Most tiles lie inside, and their pixels are neither rectified nor masked.
    plain = builder.icmp_signed("==", builder.or_(relu, masked), at.index(0))
    for low in (top, left):
        plain = builder.and_(plain, builder.icmp_signed("<=", low, at.index(0)))
    for high in (rows, columns):
        plain = builder.and_(plain, builder.icmp_signed(">=", high, at.index(OUTPUTS)))
    with builder.if_else(plain) as (then, otherwise):
        with then:
            emit(True)
        with otherwise:
            emit(False)


@tile(0)
def carried_tile(at: Emitter, C, c0, B, b0, Y, y0, relu, masked) -> None:
    """Store a pixel to which nothing more comes as :func:`adjoint_output_tile` does."""
    value = emit_load(at.builder, at.pointer(C, c0))
    value = at.builder.fadd(value, at.bias(B, b0, 1)[0])
    emit_outputs(at, [(value, at.index(0))], Y, y0, relu, masked)
