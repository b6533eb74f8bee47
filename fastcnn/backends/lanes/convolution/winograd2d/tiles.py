"""Transforms of Winograd's F(4x4, 3x3), with 36 multiplications instead of 144; see winograd.py.

The 4x4 outputs of a 6x6 tile d of the input are ``A^T [(G g G^T) * (B^T d B)] A``. Products of a
tile are ``step`` floats apart, row by row.
"""

from typing import Any

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs, emit_window
from fastcnn.backends.lanes.convolution.winograd import EXACT, OUTPUTS, Matrix, points, transforms
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    Grid,
    Inside,
    ask_for_pixels,
    bias_of,
    emit_both_ways,
    emit_either,
    load_all,
    load_pixels,
    load_rows,
    store_all,
    store_both_ways,
)
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES, constant, emit_fma, emit_keep_equal
from fastcnn.codegen.target import blocking, split, tile_heights

#: Pixels of a tile of the input in each direction, equal to its number of products.
SIDE = points(3)
#: Products of a tile.
PRODUCTS = SIDE * SIDE
MATRICES = transforms(3, EXACT)
#: Output channels of a register tile of products, in descending order, and tiles of the map.
HEIGHTS, WIDTH = ((8, 4, 1), 3) if 8 in tile_heights(pooled=False) else ((4, 1), 4)


@tile(0)
def input_tile(at: Emitter, X, x0, xrow, pixel, ahead, V, v0, step) -> None:
    """``B^T d B`` of 6x6 pixels of the input; those ``ahead`` floats further are prefetched."""
    transform_tile(at, MATRICES.input, Grid(X, x0, xrow, pixel), ahead, V, v0, step)


def transform_tile(at: Emitter, matrix: Matrix, source: Grid, ahead, V, v0, step) -> None:
    """Store ``M d M^T``; ``matrix`` has as many columns as the tile has pixels in a direction."""
    side = range(matrix.shape[1])
    ask_for_pixels(at, (side, range(OUTPUTS)), source, ahead)
    pixels = load_pixels(at, (side, side), source)
    store_both_ways(at, matrix, pixels, V, v0, step)


@tile(2)
def product_tile(at: Emitter, CB: int, TB: int, V, v0, K, vstep, W, w0, S, s0, sstep) -> None:
    """One of the products of CB output channels of TB tiles, summed over K input channels.

    Channels of V are ``vstep`` apart and those of S ``sstep``; weights are contiguous.
    """
    for c, t, rows, columns in split(CB, TB, blocking().products):
        v, s = at.offset(v0, t, LANES), at.offset(at.offset(s0, c, sstep), t, LANES)
        weights = W, at.offset(w0, c, 1), CB
        sums = _multiply(at, (rows, columns), K, (V, v, vstep), weights)
        for i, row in enumerate(sums):
            store_all(at, row, S, at.offset(s, i, sstep), LANES)


def _multiply(
    at: Emitter, sizes: tuple[int, int], K, inputs: tuple[Any, ...], kernel: tuple[Any, ...]
) -> list[list[Any]]:
    """Sums over K channels; inputs and weights are an array, an address, and a channel's step."""
    (CB, TB), (V, v0, vstep), (W, w0, wstep) = sizes, inputs, kernel

    def step(k: Any, state: list[Any]) -> list[Any]:
        inputs = load_all(at, TB, V, at.offset(v0, k, vstep), LANES)
        first = at.offset(w0, k, wstep)
        weights = (at.spread(W, at.offset(first, c, 1)) for c in range(CB))
        return at.add_products(weights, inputs, state)

    flat = at.loop(at.index(0), K, [constant(0.0)] * (CB * TB), step)
    return [flat[c * TB : (c + 1) * TB] for c in range(CB)]


def emit_tile_outputs(at: Emitter, products, bias) -> list[list[Any]]:
    """The outputs of 36 products, with bias."""
    sums = load_rows(at, SIDE, SIDE, *products)
    return finish_outputs(at, emit_both_ways(at.builder, MATRICES.output, sums), bias)


def finish_outputs(at: Emitter, rows: list[list[Any]], bias: Any) -> list[list[Any]]:
    """Add the bias to the outputs."""
    return [[at.builder.fadd(value, bias) for value in row] for row in rows]


@tile(0)
def output_tile(at: Emitter, products, bias, to, inside, relu, met) -> None:
    """The first rows and columns of 4x4 outputs, with bias and the operations of ``conv_tile``.

    ``products`` are an array, an offset and a step, ``to`` a :class:`Grid`, ``inside`` an
    :class:`Inside`.
    """
    outputs = emit_tile_outputs(at, products, bias_of(at, bias))
    store_outputs(at, outputs, Grid(*to), Inside(*inside), relu, met)


def store_outputs(
    at: Emitter, outputs: list[list[Any]], to: Grid, inside: Inside, relu, met
) -> None:
    """Store the first rows and columns, and the others at a spare address."""

    def emit(whole: bool) -> None:
        places, summands = [], []
        for i, values in enumerate(outputs):
            for j, value in enumerate(values):
                place = to.place(at, i, j)
                summand = at.offset(place, 1, met)
                if not whole:
                    place = inside.place(at, i, j, place)
                    summand = inside.place(at, i, j, summand)
                places.append((value, place))
                summands.append(summand)
        emit_outputs(at, places, to.array, at.index(0), relu, met, summands)

    if len(outputs) < OUTPUTS or len(outputs[0]) < OUTPUTS:
        emit(False)
    else:
        emit_either(at, inside.are_at_least(at, OUTPUTS), emit)


@tile(1)
def moment_tile(at: Emitter, side: int, Y, y0, yrow, pixel, rows, columns, M, m0, apart) -> None:
    """Add the first rows and columns of outputs, minus a shift, and their squares, to two sums.

    ``M`` has the shift and then the two sums.
    """
    builder = at.builder
    level, total, squares = load_all(at, 3, M, m0, apart)

    def emit(whole: bool) -> None:
        sums = [total, *[constant(0.0)] * (side - 1)]
        powers = [squares, *[constant(0.0)] * (side - 1)]
        for i in range(side):
            for j in range(side):
                place, inside = at.offset(at.offset(y0, i, yrow), j, pixel), None
                if not whole:
                    inside = builder.and_(
                        builder.icmp_signed("<", at.index(i), rows),
                        builder.icmp_signed("<", at.index(j), columns),
                    )
                    place = builder.select(inside, place, y0)
                value = builder.fsub(at.load(Y, place), level)
                if inside is not None:
                    value = builder.select(inside, value, constant(0.0))
                sums[j] = builder.fadd(sums[j], value)
                powers[j] = emit_fma(builder, value, value, powers[j])
        while len(sums) > 1:
            sums, powers = (
                [builder.fadd(a, b) for a, b in zip(v[::2], v[1::2], strict=True)]
                for v in (sums, powers)
            )
        store_all(at, [sums[0], powers[0]], M, at.offset(m0, 1, apart), apart)

    emit_either(at, Inside(rows, columns, y0).are_at_least(at, side), emit)


@tile(0)
def pooled_output_tile(at: Emitter, products, bias, windows, inside, relu) -> None:
    """The first rows and columns of 2x2 windows of 2x2 outputs, as in ``conv_pool_tile``."""
    outputs = emit_tile_outputs(at, products, bias_of(at, bias))
    store_windows(at, outputs, windows, Inside(*inside), relu)


def store_windows(at: Emitter, outputs: list[list[Any]], windows, inside: Inside, relu) -> None:
    """Store each window's maximum and its index, of the first rows and columns.

    ``windows`` are two arrays with an offset each, and the floats between rows.
    """
    Y, y0, I, i0, yrow = windows
    to, winners = (Grid(array, first, yrow, LANES) for array, first in ((Y, y0), (I, i0)))
    for i in range(len(outputs) // 2):
        for j in range(len(outputs[0]) // 2):
            values = [v for row in outputs[2 * i : 2 * i + 2] for v in row[2 * j : 2 * j + 2]]
            y, winner = (inside.place(at, i, j, grid.place(at, i, j)) for grid in (to, winners))
            emit_window(at, values, to.array, y, relu, winners.array, winner)


def emit_unpooled(at: Emitter, windows: list[tuple[Any, Any]]) -> list[list[Any]]:
    """The gradients of 4x4 outputs from those of 2x2 windows of 2x2, and from their argmax."""
    rows = [[constant(0.0)] * OUTPUTS for _ in range(OUTPUTS)]
    for number, (grad, winner) in enumerate(windows):
        i, j = (OUTPUTS // 2 * place for place in divmod(number, OUTPUTS // 2))
        for k in range(4):
            own = emit_keep_equal(at.builder, winner, constant(float(k)), grad)
            rows[i + k // 2][j + k % 2] = own
    return rows


@tile(1)
def weight_tile(at: Emitter, flipped: int, P, places, p0, U, u0, step) -> None:
    """Transform 16 kernels of 3x3; ``places`` has the index of each one's first weight."""
    kernels = load_kernels(at, P, kernels_by_table(at, places, p0))
    if flipped:
        kernels = [row[::-1] for row in kernels[::-1]]
    store_both_ways(at, MATRICES.weight, kernels, U, u0, step)


def kernels_by_table(at: Emitter, places, p0) -> list[Any]:
    """The addresses of 16 kernels."""
    return [at.table(places, at.offset(p0, lane, 1)) for lane in range(LANES)]


@tile(1)
def kernels_tile(at: Emitter, CB: int, P, p0, down, along, left, U, u0, step) -> None:
    """Transform 16 kernels: CB output channels, ``down`` apart, of each input channel.

    Input channels are ``along`` apart; the last of the ``left`` remaining ones may be repeated.
    """
    builder = at.builder
    columns = []
    for column in range(LANES // CB):
        inside = builder.icmp_signed("<", at.index(column), left)
        last = builder.select(inside, at.index(column), builder.sub(left, at.index(1)))
        columns.append(at.offset(p0, last, along))
    first = [at.offset(columns[lane // CB], lane % CB, down) for lane in range(LANES)]
    store_both_ways(at, MATRICES.weight, load_kernels(at, P, first), U, u0, step)


def load_kernels(at: Emitter, P, places: list[Any]) -> list[list[Any]]:
    """16 kernels, by the addresses of their first weights: one vector for each weight."""
    builder = at.builder
    kernels = [[constant(0.0)] * 3 for _ in range(3)]
    for lane, first in enumerate(places):
        for k in range(9):
            weight = builder.load(at.pointer(P, at.offset(first, k, 1)))
            kernels[k // 3][k % 3] = builder.insert_element(
                kernels[k // 3][k % 3], weight, at.index(lane)
            )
    return kernels


@tile(0)
def weight_gradient_tile(at: Emitter, E, e0, estep, G, g0, gstep) -> None:
    """The gradients of the 9 weights of 16 kernels from those of their 36 products."""
    sums = load_rows(at, SIDE, SIDE, E, e0, estep)
    store_both_ways(at, MATRICES.weight.T, sums, G, g0, gstep)
