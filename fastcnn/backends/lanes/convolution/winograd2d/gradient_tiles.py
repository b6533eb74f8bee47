"""Tiles of the gradient of transformed weights; see gradient_kernels.py.

Threads may divide the six rows of a tile's transforms: a row's bits do not depend on which other
rows are computed with it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER, Matrix
from fastcnn.backends.lanes.convolution.winograd2d.edge_tiles import sides, store_products
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    MATRICES,
    PRODUCTS,
    SIDE,
    emit_unpooled,
)
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    Grid,
    ask_for_pixels,
    emit_product,
    load_all,
    load_pixels,
    store_all,
    store_both_ways,
)
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES, constant, emit_load, emit_prefetch, emit_store
from fastcnn.codegen.target import blocking, split

#: Floats of a pixel, or of a product: 16 channels of 16 samples.
PIXEL = LANES * LANES
#: Floats from one product to the next, which must not map to the same few cache sets, and from one
#: tile's products to the next tile's.
PRODUCT = PIXEL + STAGGER
TILE = PRODUCTS * PRODUCT
#: Samples by which a tile's loop is unrolled.
UNROLLED = 4


def _emit_rows(
    at: Emitter, matrix: Matrix, first, last, load: Callable[[], list[list[Any]]], V, v0
) -> None:
    """Emit rows of ``matrix @ d @ matrix.T`` of the pixels that ``load`` loads."""
    builder = at.builder
    for i in range(SIDE):
        wanted = builder.and_(
            builder.icmp_signed("<=", first, at.index(i)),
            builder.icmp_signed("<", at.index(i), last),
        )
        with builder.if_then(wanted):
            # LLVM eliminates what only the other rows need.
            columns = zip(*load(), strict=True)
            values = [emit_product(builder, matrix, list(column))[i] for column in columns]
            row = emit_product(builder, matrix, values)
            store_all(at, row, V, at.offset(v0, i * SIDE, PRODUCT), PRODUCT)


@tile(0)
def input_rows_tile(at: Emitter, first, last, X, x0, xrow, pixel, ahead, V, v0) -> None:
    """Rows of ``B^T d B`` of 6x6 pixels; those ``ahead`` floats further are prefetched."""
    side, source = range(SIDE), Grid(X, x0, xrow, pixel)
    ask_for_pixels(at, (side, range(OUTPUTS)), source, ahead)
    pixels = partial(load_pixels, at, (side, side), source)
    _emit_rows(at, MATRICES.input, first, last, pixels, V, v0)


def _load_gradients(at: Emitter, pooled: int, D, d0) -> list[list[Any]]:
    """A sample's gradient of 4x4 outputs, PIXEL apart.

    If they are pooled, ``D`` has the gradient of their four windows and then the windows' argmax.
    """
    side = range(OUTPUTS)
    if not pooled:
        return load_pixels(at, (side, side), Grid(D, d0, OUTPUTS * PIXEL, PIXEL))
    flat = load_all(at, 2 * OUTPUTS, D, d0, PIXEL)
    return emit_unpooled(at, list(zip(flat[:OUTPUTS], flat[OUTPUTS:], strict=True)))


@tile(1)
def gradient_tile(at: Emitter, pooled: int, D, d0, E, e0) -> None:
    """``A d A^T`` of a sample's gradient of 4x4 outputs."""
    pixels = _load_gradients(at, pooled, D, d0)
    store_both_ways(at, MATRICES.output.T, pixels, E, e0, PRODUCT)


@tile(3)
def edge_gradient_tile(at: Emitter, pooled: int, down: int, along: int, D, d0, E, e0) -> None:
    """The same for a tile with few rows or columns of outputs."""
    of = sides(down, along)
    matrices = [side.of.output.T for side in of]
    rows, columns = (matrix.shape[1] for matrix in matrices)
    pixels = [row[:columns] for row in _load_gradients(at, pooled, D, d0)[:rows]]
    store_products(at, of, matrices, pixels, E, e0, PRODUCT)


@tile(1)
def gradient_rows_tile(at: Emitter, pooled: int, first, last, D, d0, E, e0) -> None:
    """Some rows of the result of ``gradient_tile``."""
    pixels = partial(_load_gradients, at, pooled, D, d0)
    _emit_rows(at, MATRICES.output.T, first, last, pixels, E, e0)


@tile(2)
def products_of_samples_tile(
    at: Emitter, CB: int, OB: int, V, v0, E, e0, ecolumn, count, each, G, g0, gcolumn, more
) -> None:
    """One of the products of CB inputs by OB vectors of outputs, summed over tiles and samples.

    Tiles are ``each`` apart, vectors of outputs ``ecolumn``, their sums ``gcolumn``. With ``more``
    the sums are added to those in ``G``.
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
            # Prefetch the stored sums while the products are computed.
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
                    grads = [at.load(output, row) for output in outputs]
                    numbers = (at.spread(pointer, sample) for pointer in inputs)
                    sums = at.add_products(numbers, grads, sums)
                return sums

            return at.loop(at.index(0), at.index(LANES // UNROLLED), state, some)

        sums = at.loop(at.index(0), count, [constant(0.0)] * (rows * columns), step)
        # Partial sums are added: one long sum would lose precision.
        for pointer, value in zip(targets, sums, strict=True):
            before = builder.select(adds, emit_load(builder, pointer), constant(0.0))
            emit_store(builder, builder.fadd(before, value), pointer)
