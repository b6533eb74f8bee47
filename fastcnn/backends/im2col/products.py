"""Matrix products of convolutions with few rows and very many columns.

Other products use numpy's BLAS. For float32 on processors with 512-bit registers they are compiled
here: OpenBLAS uses 256 bits on some of these, at half the speed, and it packs its arguments for
each product, which is unnecessary for blocks that are in the cache.
"""

from functools import cache
from typing import Any

import numpy as np

from fastcnn.codegen import linked
from fastcnn.codegen.build import is_disabled
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES, constant, emit_sums
from fastcnn.codegen.target import instruction_set


@tile(2)
def _product_tile(at: Emitter, rows: int, vectors: int, left, right, K, made, bias, first) -> None:
    """Some rows and vectors of ``Y = A B + bias``, starting at row ``first``."""
    (A, a0, arow, acolumn), (B, b0, brow), (Y, y0, yrow) = left, right, made

    def step(k: Any, sums: list[Any]) -> list[Any]:
        b, a = at.offset(b0, k, brow), at.offset(a0, k, acolumn)
        columns = [at.load(B, at.offset(b, v, LANES)) for v in range(vectors)]
        factors = [at.spread(A, at.offset(a, i, arow)) for i in range(rows)]
        return at.add_products(factors, columns, sums)

    start = [vector for vector in at.bias(bias, first, rows) for _ in range(vectors)]
    sums = at.loop(0, K, start, step)
    for i in range(rows):
        for v in range(vectors):
            place = at.offset(at.offset(y0, i, yrow), v, LANES)
            at.store(sums[i * vectors + v], Y, place)


@tile(2)
def _outer_tile(
    at: Emitter, rows: int, columns: int, A, a0, arow, B, b0, brow, vectors, Y, y0, yrow
) -> None:
    """Add some rows and columns of ``A B^T`` to ``Y``; at most 16 elements."""

    def step(p: Any, sums: list[Any]) -> list[Any]:
        a, b = at.offset(a0, p, LANES), at.offset(b0, p, LANES)
        left = [at.load(A, at.offset(a, i, arow)) for i in range(rows)]
        right = [at.load(B, at.offset(b, j, brow)) for j in range(columns)]
        return at.add_products(left, right, sums)

    sums = at.loop(0, vectors, [constant(0.0)] * (rows * columns), step)
    totals = emit_sums(at.builder, sums)
    for i in range(rows):
        for j in range(columns):
            place = at.pointer(Y, at.offset(at.offset(y0, i, yrow), j, 1))
            total = at.builder.extract_element(totals, at.index(i * columns + j))
            at.builder.store(at.builder.fadd(at.builder.load(place), total), place)


# Eight rows load a vector of B once for eight multiply-adds, so it may come from the second-level
# cache. All of the larger tiles have 16 accumulators, which hide the latency of the multiply-adds.
_PRODUCT = _product_tile.among((8, 2), (4, 2), (1, 2), (4, 4), (2, 4), (1, 4), (4, 1), (1, 1))
_OUTER = _outer_tile.among((4, 4), (2, 4), (1, 4), (4, 1), (1, 1))


@linked
def rows_of_tile(width, left):
    """Rows of the next tile of some columns if ``left`` remain."""
    if left >= 4:
        return 4
    return 2 if left >= 2 and width == 4 else 1


@linked
def product(A, M, K, arow, acolumn, B, b0, brow, count, Y, y0, yrow, bias):
    """``Y = A B + bias``: M rows and ``count`` columns, from offset ``b0`` of B and ``y0`` of Y on.

    ``arow`` and ``acolumn`` are the strides of A, ``brow`` and ``yrow`` the row strides of B and Y.
    """
    vectors = count // LANES
    wide = 2 if M >= 8 else 4
    # A few columns of B at a time, which stay in the first-level cache for all rows of A.
    p = 0
    while p < vectors:
        width = wide if vectors - p >= wide else 1
        b, y = b0 + p * LANES, y0 + p * LANES
        i = 0
        while i < M:
            height = 8 if width == 2 and M - i >= 8 else rows_of_tile(width, M - i)
            left, made = (A, i * arow, arow, acolumn), (Y, y + i * yrow, yrow)
            _PRODUCT(height, width, left, (B, b, brow), K, made, bias, i)
            i += height
        p += width
    for i in range(M):
        for p in range(vectors * LANES, count):
            total = bias[i]
            for k in range(K):
                total += A[i * arow + k * acolumn] * B[b0 + k * brow + p]
            Y[y0 + i * yrow + p] = total


@linked
def outer(A, M, a0, arow, B, K, b0, brow, count, Y):
    """Add ``A B^T`` to Y, of shape (M, K): the dot products of rows of ``count`` elements."""
    vectors = count // LANES
    # A few rows of B at a time, which stay in the first-level cache for all rows of A.
    j = 0
    while j < K:
        width = 4 if K - j >= 4 else 1
        b = b0 + j * brow
        i = 0
        while i < M:
            height = rows_of_tile(width, M - i)
            right, made = (B, b, brow), (Y, i * K + j, K)
            _OUTER(height, width, A, a0 + i * arow, arow, *right, vectors, *made)
            i += height
        j += width
    if vectors * LANES < count:
        for i in range(M):
            for j in range(K):
                for p in range(vectors * LANES, count):
                    Y[i * K + j] += A[a0 + i * arow + p] * B[b0 + j * brow + p]


@cache
def _has_wide_registers() -> bool:
    return instruction_set() == "AVX-512"


def are_compiled(*arrays: np.ndarray) -> bool:
    """Whether products of these arrays are compiled here."""
    if is_disabled() or not _has_wide_registers():
        return False
    return all(array.dtype == np.float32 for array in arrays)
