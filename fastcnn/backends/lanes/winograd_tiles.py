"""Transforms of Winograd's F(2x2, 3x3): 3x3 convolution with 16 multiplications instead of 36.

The 2x2 outputs of a 4x4 tile d of the input are ``A^T [(G g G^T) * (B^T d B)] A`` for weights g,
with an elementwise product that becomes a matrix product over channels (Lavin and Gray, 2016, Fast
Algorithms for Convolutional Neural Networks, section 4.1). Tiles and products hold one sample a
lane, so that a transform is additions of whole vectors.
"""

from collections.abc import Sequence
from typing import Any

from fastcnn.backends.lanes.conv_tiles import emit_outputs, emit_window
from fastcnn.backends.lanes.emitter import Emitter, tile
from fastcnn.backends.lanes.simd import (
    LANES,
    VECTOR,
    constant,
    emit_fma,
    emit_load,
    emit_splat,
    emit_store,
)

Matrix = tuple[tuple[float, ...], ...]
#: ``B^T``, ``A^T`` and ``G`` of the paper.
INPUT: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
OUTPUT: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))
WEIGHT: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
#: Gradients pass through the transposed matrices.
WEIGHT_GRADIENT: Matrix = tuple(zip(*WEIGHT, strict=True))
#: Products of a tile.
PRODUCTS = 16


def emit_combination(builder: Any, factors: Sequence[float], values: Sequence[Any]) -> Any:
    """A linear combination of vectors; terms of factor 1 come first, so that none is negated."""
    total = None
    for factor, value in sorted(zip(factors, values, strict=True), key=lambda pair: pair[0] != 1):
        if factor == 0:
            continue
        if total is None:
            total = value if factor == 1 else builder.fmul(value, constant(factor))
        elif factor == 1:
            total = builder.fadd(total, value)
        elif factor == -1:
            total = builder.fsub(total, value)
        else:
            total = emit_fma(builder, value, constant(factor), total)
    return total


def emit_transform(builder: Any, matrix: Matrix, tile_: list[list[Any]]) -> list[list[Any]]:
    """``matrix @ tile @ matrix.T`` of a tile of vectors."""
    columns = [
        [emit_combination(builder, factors, column) for factors in matrix]
        for column in zip(*tile_, strict=True)
    ]
    rows = zip(*columns, strict=True)
    return [[emit_combination(builder, factors, row) for factors in matrix] for row in rows]


@tile(0)
def input_tile(at: Emitter, X: Any, x0: Any, xrow: Any, V: Any, v0: Any, vstep: Any) -> None:
    """Transform the 4x4 pixels whose first is at ``x0``; product i is ``vstep * i`` behind."""
    pixels = [
        [emit_load(at.builder, at.pointer(X, at.offset(at.offset(x0, i, xrow), j, LANES)))
         for j in range(4)]
        for i in range(4)
    ]  # fmt: skip
    rows = emit_transform(at.builder, INPUT, pixels)
    for i, value in enumerate(value for row in rows for value in row):
        emit_store(at.builder, value, at.pointer(V, at.offset(v0, i, vstep)))


def _outputs(at: Emitter, S: Any, s0: Any, sstep: Any, bias: Any) -> list[list[Any]]:
    """The 2x2 outputs of 16 products, with their bias."""
    sums = [
        [emit_load(at.builder, at.pointer(S, at.offset(s0, 4 * i + j, sstep))) for j in range(4)]
        for i in range(4)
    ]
    rows = emit_transform(at.builder, OUTPUT, sums)
    return [[at.builder.fadd(value, bias) for value in row] for row in rows]


@tile(0)
def output_tile(
    at: Emitter, S: Any, s0: Any, sstep: Any, B: Any, b0: Any, Y: Any, y0: Any, yrow: Any,
    relu: Any, masked: Any,
) -> None:  # fmt: skip
    """2x2 outputs, with bias and rectifier or mask as those of ``conv_tile``."""
    rows = _outputs(at, S, s0, sstep, at.bias(B, b0, 1)[0])
    places = [
        (value, at.offset(at.offset(at.index(0), i, yrow), j, LANES))
        for i, row in enumerate(rows)
        for j, value in enumerate(row)
    ]
    emit_outputs(at, places, Y, y0, relu, masked)


@tile(0)
def output_pool_tile(
    at: Emitter, S: Any, s0: Any, sstep: Any, B: Any, b0: Any, Y: Any, y0: Any, relu: Any,
    I: Any, i0: Any,
) -> None:  # fmt: skip
    """The largest of 2x2 outputs and its number, as ``conv_pool_tile`` has them."""
    rows = _outputs(at, S, s0, sstep, at.bias(B, b0, 1)[0])
    emit_window(at, [value for row in rows for value in row], Y, y0, relu, I, i0)


@tile(0)
def input_row_tile(
    at: Emitter, X: Any, first: Any, second: Any, sign: Any, V: Any, v0: Any, vstep: Any
) -> None:
    """One row of :func:`input_tile`: pixels at ``first`` plus ``sign`` times ``second``."""
    builder = at.builder
    factor = emit_splat(builder, builder.sitofp(sign, VECTOR.element))
    sums = [
        emit_fma(
            builder,
            emit_load(builder, at.pointer(X, at.offset(second, j, LANES))),
            factor,
            emit_load(builder, at.pointer(X, at.offset(first, j, LANES))),
        )
        for j in range(4)
    ]
    for j, factors in enumerate(INPUT):
        target = at.pointer(V, at.offset(v0, j, vstep))
        emit_store(builder, emit_combination(builder, factors, sums), target)


@tile(0)
def gradient_row_tile(
    at: Emitter, D: Any, d0: Any, drow: Any, upper: Any, lower: Any, E: Any, e0: Any, estep: Any
) -> None:  # fmt: skip
    """One row of ``A d A^T`` of the gradient of 2x2 outputs; the row's factors are given."""
    builder = at.builder
    factors = [
        emit_splat(builder, builder.sitofp(factor, VECTOR.element)) for factor in (upper, lower)
    ]
    sums = []
    for j in range(2):
        above, below = (
            emit_load(builder, at.pointer(D, at.offset(at.offset(d0, i, drow), j, LANES)))
            for i in range(2)
        )
        product = builder.fmul(above, factors[0])
        sums.append(emit_fma(builder, below, factors[1], product))
    for j, column in enumerate(zip(*OUTPUT, strict=True)):
        target = at.pointer(E, at.offset(e0, j, estep))
        emit_store(builder, emit_combination(builder, column, sums), target)


@tile(0)
def weight_tile(
    at: Emitter, P: Any, places: Any, p0: Any, direction: Any, U: Any, u0: Any, ustep: Any
) -> None:
    """Transform 16 kernels of 3x3, of which ``places`` has the first weight.

    With ``direction`` -1 the last one, and the kernel is read backwards.
    """
    builder = at.builder
    kernels = [[constant(0.0)] * 3 for _ in range(3)]
    for lane in range(LANES):
        first = at.table(places, at.offset(p0, lane, 1))
        for k in range(9):
            weight = builder.load(at.pointer(P, at.offset(first, k, direction)))
            kernels[k // 3][k % 3] = builder.insert_element(
                kernels[k // 3][k % 3], weight, at.index(lane)
            )
    rows = emit_transform(builder, WEIGHT, kernels)
    for i, value in enumerate(value for row in rows for value in row):
        emit_store(builder, value, at.pointer(U, at.offset(u0, i, ustep)))


@tile(0)
def weight_gradient_sum_tile(
    at: Emitter, E: Any, e0: Any, estep: Any, blocks: Any, eblock: Any, S: Any, s0: Any
) -> None:  # fmt: skip
    """Sum 16 products' gradients over blocks and transform them to those of 9 weights."""
    builder = at.builder

    def step(b: Any, state: list[Any]) -> list[Any]:
        first = builder.add(e0, builder.mul(b, eblock))
        return [
            builder.fadd(value, emit_load(builder, at.pointer(E, at.offset(first, i, estep))))
            for i, value in enumerate(state)
        ]

    flat = at.loop(at.index(0), blocks, [constant(0.0)] * PRODUCTS, step)
    rows = emit_transform(builder, WEIGHT_GRADIENT, [flat[4 * i : 4 * i + 4] for i in range(4)])
    for k, value in enumerate(value for row in rows for value in row):
        emit_store(builder, value, at.pointer(S, at.offset(s0, k, LANES)))
