"""Tiles of the gradient of transformed weights; see gradient_kernels.py.

Threads may share the six rows of a tile's transforms: a row's bits do not depend on which others
are made.
"""

from typing import Any

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER, Matrix
from fastcnn.backends.lanes.convolution.winograd2d.tiles import MATRICES, PRODUCTS, SIDE
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    ask_for_pixels,
    emit_product,
    load_pixels,
    store_all,
    store_both_ways,
)
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    LANES,
    constant,
    emit_fma,
    emit_load,
    emit_prefetch,
    emit_splat,
    emit_store,
)
from fastcnn.codegen.target import blocking, split

#: Floats of 16 channels of 16 samples of a pixel, or of a product.
PIXEL = LANES * LANES
#: Floats from a product of these to the next one's, which must not all meet in a few sets of the
#: cache, and from a tile's products to the next one's.
PRODUCT = PIXEL + STAGGER
TILE = PRODUCTS * PRODUCT
#: Samples that are written one after the other in a tile's loop.
UNROLLED = 4


def _emit_rows(
    at: Emitter, matrix: Matrix, first, last, X, x0, steps: tuple[Any, Any], V, v0
) -> None:
    """Emit rows of ``matrix @ d @ matrix.T`` of the pixels from ``x0`` on.

    ``steps`` are floats to the next row and to the next column.
    """
    builder, side = at.builder, range(matrix.shape[1])
    for i in range(SIDE):
        wanted = builder.and_(
            builder.icmp_signed("<=", first, at.index(i)),
            builder.icmp_signed("<", at.index(i), last),
        )
        with builder.if_then(wanted):
            # LLVM leaves out what the other rows would need.
            columns = zip(*load_pixels(at, (side, side), X, x0, *steps), strict=True)
            values = [emit_product(builder, matrix, list(column))[i] for column in columns]
            row = emit_product(builder, matrix, values)
            store_all(at, row, V, at.offset(v0, i * SIDE, PRODUCT), PRODUCT)


@tile(0)
def input_rows_tile(at: Emitter, first, last, X, x0, xrow, ahead, V, v0) -> None:
    """Rows of ``B^T d B`` of 6x6 pixels; those ``ahead`` floats further are asked for."""
    ask_for_pixels(at, (range(SIDE), range(OUTPUTS)), X, x0, xrow, ahead)
    _emit_rows(at, MATRICES.input, first, last, X, x0, (xrow, LANES), V, v0)


@tile(0)
def gradient_tile(at: Emitter, D, d0, E, e0) -> None:
    """``A d A^T`` of a sample's gradient of 4x4 outputs."""
    side = range(OUTPUTS)
    pixels = load_pixels(at, (side, side), D, d0, OUTPUTS * PIXEL, PIXEL)
    store_both_ways(at, MATRICES.output.T, pixels, E, e0, PRODUCT)


@tile(0)
def gradient_rows_tile(at: Emitter, first, last, D, d0, E, e0) -> None:
    """Rows of what ``gradient_tile`` makes."""
    _emit_rows(at, MATRICES.output.T, first, last, D, d0, (OUTPUTS * PIXEL, PIXEL), E, e0)


@tile(2)
def products_of_samples_tile(
    at: Emitter, CB: int, OB: int, V, v0, E, e0, ecolumn, count, each, G, g0, gcolumn, more
) -> None:
    """One of the products of CB inputs by OB vectors of outputs, summed over tiles and samples.

    Tiles are ``each`` apart, vectors of outputs ``ecolumn``, their sums ``gcolumn``. With ``more``
    these are added to what ``G`` has.
    """
    builder = at.builder
    adds = builder.icmp_signed("!=", more, at.index(0))
    for c, o, rows, columns in split(CB, OB, blocking().products):
        v, e = at.offset(v0, c, LANES), at.offset(e0, o, ecolumn)
        targets = [
            at.pointer(G, at.offset(at.offset(at.offset(g0, c, LANES), i, LANES), o + j, gcolumn))
            for i in range(rows)
            for j in range(columns)
        ]
        with builder.if_then(adds):
            # Sums that are added to arrive while the products are made.
            for pointer in targets:
                emit_prefetch(builder, pointer, write=True)

        def step(t, state: list[Any], v=v, e=e, shape=(rows, columns)) -> list[Any]:
            rows, columns = shape
            first, second = at.offset(v, t, each), at.offset(e, t, each)
            inputs = [at.pointer(V, at.offset(first, i, LANES)) for i in range(rows)]
            outputs = [at.pointer(E, at.offset(second, j, ecolumn)) for j in range(columns)]

            def some(turn: Any, sums: list[Any]) -> list[Any]:
                for lane in range(UNROLLED):
                    sample = at.offset(at.index(lane), turn, UNROLLED)
                    row = builder.mul(sample, at.index(LANES))
                    grads = [emit_load(builder, at.pointer(output, row)) for output in outputs]
                    updated = []
                    for i, pointer in enumerate(inputs):
                        number = emit_splat(builder, builder.load(at.pointer(pointer, sample)))
                        own = sums[i * columns : (i + 1) * columns]
                        updated += [
                            emit_fma(builder, grad, number, total)
                            for grad, total in zip(grads, own, strict=True)
                        ]
                    sums = updated
                return sums

            return at.loop(at.index(0), at.index(LANES // UNROLLED), state, some)

        sums = at.loop(at.index(0), count, [constant(0.0)] * (rows * columns), step)
        # Sums of sums: a long one would lose digits.
        for pointer, value in zip(targets, sums, strict=True):
            before = builder.select(adds, emit_load(builder, pointer), constant(0.0))
            emit_store(builder, builder.fadd(before, value), pointer)
