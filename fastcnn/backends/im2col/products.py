"""Matrix products of convolutions with few rows and very long columns.

numpy's BLAS computes them in general. For float32 on processors with registers of 512 bits they
are compiled here: on some of these OpenBLAS uses 256 bits, at half the speed, and it packs its
arguments for each product, which blocks that lie in the cache do not need. Compiled functions
call :func:`product` and :func:`outer`; :func:`multiply` and :func:`add_outer` take whole arrays.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastcnn.codegen import compiled, linked
from fastcnn.codegen.build import is_disabled
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import (
    LANES,
    constant,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
    emit_sums,
)
from fastcnn.codegen.target import instruction_set


@tile(2)
def _product_tile(
    at: Emitter,
    rows: int,
    vectors: int,
    A: Any,
    a0: Any,
    arow: Any,
    acolumn: Any,
    B: Any,
    b0: Any,
    brow: Any,
    K: Any,
    Y: Any,
    y0: Any,
    yrow: Any,
    bias: Any,
    first: Any,
) -> None:
    """Some rows and vectors of ``Y = A B + bias``, of which the first row has the number."""

    def step(k: Any, sums: list[Any]) -> list[Any]:
        b, a = at.offset(b0, k, brow), at.offset(a0, k, acolumn)
        columns = [
            emit_load(at.builder, at.pointer(B, at.offset(b, v, LANES))) for v in range(vectors)
        ]
        factors = [
            emit_splat(at.builder, at.builder.load(at.pointer(A, at.offset(a, i, arow))))
            for i in range(rows)
        ]
        return [
            emit_fma(at.builder, factors[i], columns[v], sums[i * vectors + v])
            for i in range(rows)
            for v in range(vectors)
        ]

    start = [vector for vector in at.bias(bias, first, rows) for _ in range(vectors)]
    sums = at.loop(at.index(0), K, start, step)
    for i in range(rows):
        for v in range(vectors):
            place = at.offset(at.offset(y0, i, yrow), v, LANES)
            emit_store(at.builder, sums[i * vectors + v], at.pointer(Y, place))


@tile(2)
def _outer_tile(
    at: Emitter,
    rows: int,
    columns: int,
    A: Any,
    a0: Any,
    arow: Any,
    B: Any,
    b0: Any,
    brow: Any,
    vectors: Any,
    Y: Any,
    y0: Any,
    yrow: Any,
) -> None:
    """Add some rows and columns of ``A B^T`` to ``Y``; at most 16 elements."""

    def step(p: Any, sums: list[Any]) -> list[Any]:
        a, b = at.offset(a0, p, LANES), at.offset(b0, p, LANES)
        left = [emit_load(at.builder, at.pointer(A, at.offset(a, i, arow))) for i in range(rows)]
        right = [
            emit_load(at.builder, at.pointer(B, at.offset(b, j, brow))) for j in range(columns)
        ]
        return [
            emit_fma(at.builder, left[i], right[j], sums[i * columns + j])
            for i in range(rows)
            for j in range(columns)
        ]

    sums = at.loop(at.index(0), vectors, [constant(0.0)] * (rows * columns), step)
    totals = emit_sums(at.builder, sums)
    for i in range(rows):
        for j in range(columns):
            place = at.pointer(Y, at.offset(at.offset(y0, i, yrow), j, 1))
            total = at.builder.extract_element(totals, at.index(i * columns + j))
            at.builder.store(at.builder.fadd(at.builder.load(place), total), place)


# Eight rows read a vector of B once for eight multiply-adds: it may come from the second level of
# the cache. All of the larger tiles have 16 sums, which hide the latency of the multiply-adds.
_PRODUCT_8X2 = _product_tile.sized(8, 2)
_PRODUCT_4X2 = _product_tile.sized(4, 2)
_PRODUCT_1X2 = _product_tile.sized(1, 2)
_PRODUCT_4X4 = _product_tile.sized(4, 4)
_PRODUCT_2X4 = _product_tile.sized(2, 4)
_PRODUCT_1X4 = _product_tile.sized(1, 4)
_PRODUCT_4X1 = _product_tile.sized(4, 1)
_PRODUCT_1X1 = _product_tile.sized(1, 1)
_OUTER_4X4 = _outer_tile.sized(4, 4)
_OUTER_1X4 = _outer_tile.sized(1, 4)
_OUTER_4X1 = _outer_tile.sized(4, 1)
_OUTER_1X1 = _outer_tile.sized(1, 1)


@linked
def product(A, M, K, arow, acolumn, B, b0, brow, count, Y, y0, yrow, bias):
    """``Y = A B + bias``: M rows, ``count`` columns from place ``b0`` of B and ``y0`` of Y on.

    ``arow`` and ``acolumn`` are the steps between rows and columns of A, ``brow`` and ``yrow``
    those between rows of B and Y.
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
            a, place, height = i * arow, y + i * yrow, 1
            if width == 2 and M - i >= 8:
                _PRODUCT_8X2(A, a, arow, acolumn, B, b, brow, K, Y, place, yrow, bias, i)
                height = 8
            elif width == 2 and M - i >= 4:
                _PRODUCT_4X2(A, a, arow, acolumn, B, b, brow, K, Y, place, yrow, bias, i)
                height = 4
            elif width == 2:
                _PRODUCT_1X2(A, a, arow, acolumn, B, b, brow, K, Y, place, yrow, bias, i)
            elif width == 4 and M - i >= 4:
                _PRODUCT_4X4(A, a, arow, acolumn, B, b, brow, K, Y, place, yrow, bias, i)
                height = 4
            elif width == 4 and M - i >= 2:
                _PRODUCT_2X4(A, a, arow, acolumn, B, b, brow, K, Y, place, yrow, bias, i)
                height = 2
            elif width == 4:
                _PRODUCT_1X4(A, a, arow, acolumn, B, b, brow, K, Y, place, yrow, bias, i)
            elif M - i >= 4:
                _PRODUCT_4X1(A, a, arow, acolumn, B, b, brow, K, Y, place, yrow, bias, i)
                height = 4
            else:
                _PRODUCT_1X1(A, a, arow, acolumn, B, b, brow, K, Y, place, yrow, bias, i)
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
    """Add ``A B^T`` to Y, of shape (M, K): the products of rows, ``count`` places each."""
    vectors = count // LANES
    # A few rows of B at a time, which stay in the first-level cache for all rows of A.
    j = 0
    while j < K:
        width = 4 if K - j >= 4 else 1
        b = b0 + j * brow
        i = 0
        while i < M:
            height = 4 if M - i >= 4 else 1
            a, place = a0 + i * arow, i * K + j
            if height == 4 and width == 4:
                _OUTER_4X4(A, a, arow, B, b, brow, vectors, Y, place, K)
            elif width == 4:
                _OUTER_1X4(A, a, arow, B, b, brow, vectors, Y, place, K)
            elif height == 4:
                _OUTER_4X1(A, a, arow, B, b, brow, vectors, Y, place, K)
            else:
                _OUTER_1X1(A, a, arow, B, b, brow, vectors, Y, place, K)
            i += height
        j += width
    if vectors * LANES < count:
        for i in range(M):
            for j in range(K):
                for p in range(vectors * LANES, count):
                    Y[i * K + j] += A[a0 + i * arow + p] * B[b0 + j * brow + p]


@compiled("float32[:]", "float32[:]", "out float32[:]", "float32[:]", "int64[:]")
def _product(A, B, Y, bias, numbers):
    M, K, count, arow, acolumn, brow, y0, yrow = numbers
    product(A, M, K, arow, acolumn, B, 0, brow, count, Y, y0, yrow, bias)


@compiled("float32[:]", "float32[:]", "out float32[:]", "int64[:]")
def _outer(A, B, Y, numbers):
    M, K, count, a0, arow, brow = numbers
    outer(A, M, a0, arow, B, K, 0, brow, count, Y)


@cache
def _has_wide_registers() -> bool:
    return instruction_set() == "AVX-512"


def multiply(a: np.ndarray, columns: np.ndarray, y: np.ndarray, first: int = 0) -> None:
    """Columns ``first`` and following of ``y`` become ``a @ columns``, for each of G groups.

    Shapes: ``a`` (G, M, K), ``columns`` (G, K, P), ``y`` (G, M, positions).
    """
    _, K, count = columns.shape
    if not are_compiled(a, columns, y):
        np.matmul(a, columns, out=y[:, :, first : first + count])
        return
    # One of the two orders of a matrix is contiguous: turned weights are read as they are.
    turned = not a.flags.c_contiguous
    strides = (1, a.shape[1]) if turned else (K, 1)
    numbers = (a.shape[1], K, count, *strides, columns.strides[1] // 4, first, y.shape[2])
    flat = (a.swapaxes(1, 2) if turned else a).reshape(-1)
    _product(flat, _flat(columns), y.reshape(-1), np.zeros(a.shape[1], a.dtype), np.array(numbers))


def add_outer(dy: np.ndarray, columns: np.ndarray, gradient: np.ndarray, first: int = 0) -> None:
    """Add ``dy @ columns^T`` to ``gradient``, where ``columns`` begin at place ``first`` of ``dy``.

    Shapes: ``dy`` (G, M, positions), ``columns`` (G, K, P), ``gradient`` (G, M, K).
    """
    _, K, count = columns.shape
    if not are_compiled(dy, columns, gradient):
        gradient += np.matmul(dy[:, :, first : first + count], columns.swapaxes(1, 2))
        return
    numbers = np.array((dy.shape[1], K, count, first, dy.shape[2], count))
    _outer(dy.reshape(-1), columns.reshape(-1), gradient.reshape(-1), numbers)


def are_compiled(*arrays: np.ndarray) -> bool:
    """Whether products of arrays with one group as first axis are compiled here."""
    return (
        all(array.dtype == np.float32 and len(array) == 1 for array in arrays)
        and _has_wide_registers()
        and not is_disabled()
    )


def _flat(columns: np.ndarray) -> np.ndarray:
    """Rows of (1, K, P), which may be parts of longer rows, as one array from the first on."""
    rows = columns[0]
    size = (len(rows) - 1) * (rows.strides[0] // rows.itemsize) + rows.shape[1]
    return as_strided(rows, (size,), (rows.itemsize,))
