"""Matrix products of convolutions with few rows and very long columns.

numpy's BLAS computes them in general. For float32 on processors with registers of 512 bits they
are compiled here: on some of these OpenBLAS uses 256 bits, at half the speed, and it packs its
arguments for each product, which blocks that lie in the cache do not need.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastcnn.codegen import compiled
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

#: Rows and vectors of a tile: 16 sums, which hide the latency of the multiply-adds.
ROWS, VECTORS = 4, 4


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
) -> None:
    """Some rows and vectors of ``Y = A B``."""

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

    sums = at.loop(at.index(0), K, [constant(0.0)] * (rows * vectors), step)
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


_PRODUCT_4X4 = _product_tile.sized(ROWS, VECTORS)
_PRODUCT_1X4 = _product_tile.sized(1, VECTORS)
_PRODUCT_4X1 = _product_tile.sized(ROWS, 1)
_PRODUCT_1X1 = _product_tile.sized(1, 1)
_OUTER_4X4 = _outer_tile.sized(4, 4)
_OUTER_1X4 = _outer_tile.sized(1, 4)
_OUTER_4X1 = _outer_tile.sized(4, 1)
_OUTER_1X1 = _outer_tile.sized(1, 1)


@compiled("float32[:]", "float32[:]", "out float32[:]", "int64[:]")
def _product(A: np.ndarray, B: np.ndarray, Y: np.ndarray, numbers: np.ndarray) -> None:
    M, K, vectors, arow, acolumn, brow, y0, yrow = numbers
    # A few columns of B at a time, which stay in the first-level cache for all rows of A.
    p = 0
    while p < vectors:
        width = VECTORS if vectors - p >= VECTORS else 1
        i = 0
        while i < M:
            height = ROWS if M - i >= ROWS else 1
            rest = (
                A,
                i * arow,
                arow,
                acolumn,
                B,
                p * LANES,
                brow,
                K,
                Y,
                y0 + i * yrow + p * LANES,
                yrow,
            )
            if height == ROWS and width == VECTORS:
                _PRODUCT_4X4(*rest)
            elif width == VECTORS:
                _PRODUCT_1X4(*rest)
            elif height == ROWS:
                _PRODUCT_4X1(*rest)
            else:
                _PRODUCT_1X1(*rest)
            i += height
        p += width


@compiled("float32[:]", "float32[:]", "out float32[:]", "int64[:]")
def _outer(A: np.ndarray, B: np.ndarray, Y: np.ndarray, numbers: np.ndarray) -> None:
    M, K, vectors, a0, arow, brow = numbers
    i = 0
    while i < M:
        height = 4 if M - i >= 4 else 1
        j = 0
        while j < K:
            width = 4 if K - j >= 4 else 1
            rest = (A, a0 + i * arow, arow, B, j * brow, brow, vectors, Y, i * K + j, K)
            if height == 4 and width == 4:
                _OUTER_4X4(*rest)
            elif width == 4:
                _OUTER_1X4(*rest)
            elif height == 4:
                _OUTER_4X1(*rest)
            else:
                _OUTER_1X1(*rest)
            j += width
        i += height


@cache
def _has_wide_registers() -> bool:
    return instruction_set() == "AVX-512"


def multiply(a: np.ndarray, columns: np.ndarray, y: np.ndarray, first: int = 0) -> None:
    """Columns ``first`` and following of ``y`` become ``a @ columns``, for each of G groups.

    Shapes: ``a`` (G, M, K), ``columns`` (G, K, P), ``y`` (G, M, positions).
    """
    _, K, count = columns.shape
    vectors = count // LANES if _are_compiled(a, columns, y) else 0
    if vectors:
        # One of the two orders of a matrix is contiguous: turned weights are read as they are.
        turned = not a.flags.c_contiguous
        strides = (1, a.shape[1]) if turned else (K, 1)
        numbers = (a.shape[1], K, vectors, *strides, columns.strides[1] // 4, first, y.shape[2])
        flat = (a.swapaxes(1, 2) if turned else a).reshape(-1)
        _product(flat, _flat(columns), y.reshape(-1), np.array(numbers))
    rest = slice(vectors * LANES, count)
    if rest.start < count:
        np.matmul(a, columns[:, :, rest], out=y[:, :, first + rest.start : first + count])


def add_outer(dy: np.ndarray, columns: np.ndarray, gradient: np.ndarray, first: int = 0) -> None:
    """Add ``dy @ columns^T`` to ``gradient``, where ``columns`` begin at place ``first`` of ``dy``.

    Shapes: ``dy`` (G, M, positions), ``columns`` (G, K, P), ``gradient`` (G, M, K).
    """
    _, K, count = columns.shape
    vectors = count // LANES if _are_compiled(dy, columns, gradient) else 0
    if vectors:
        numbers = np.array((dy.shape[1], K, vectors, first, dy.shape[2], count))
        _outer(dy.reshape(-1), columns.reshape(-1), gradient.reshape(-1), numbers)
    rest = slice(vectors * LANES, count)
    if rest.start < count:
        part = dy[:, :, first + rest.start : first + count]
        gradient += np.matmul(part, columns[:, :, rest].swapaxes(1, 2))


def _are_compiled(*arrays: np.ndarray) -> bool:
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
