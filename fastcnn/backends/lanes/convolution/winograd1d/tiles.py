"""Transforms of Winograd's F(4, r) along rows; see geometry.py. A vector is a pixel of 16 samples.

Each is emitted for all kernel widths r, one of which is selected at run time. The points of a tile
are ``step`` floats apart.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs, emit_window
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, Matrix, points, transforms
from fastcnn.backends.lanes.convolution.winograd1d.geometry import WIDTHS
from fastcnn.backends.lanes.convolution.winograd_tiles import emit_product, load_all, store_all
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import FLOAT, LANES, constant


class Line(NamedTuple):
    """A row of ``size`` pixels, ``along`` floats apart; those outside are stored at ``spare``."""

    first: Any
    along: Any
    size: Any
    spare: Any

    def place(self, at: Emitter, index: Any) -> Any:
        """The address of a pixel."""
        inside = at.builder.icmp_unsigned("<", index, self.size)
        return at.builder.select(inside, at.offset(self.first, index, self.along), self.spare)


def for_tiles(at: Emitter, tiles, emit: Callable[[Any], None]) -> None:
    """Emit a loop over the tiles of a row."""

    def step(t: Any, state: list[Any]) -> list[Any]:
        emit(t)
        return state

    at.loop(0, tiles, [], step)


@tile(0)
def points_row(at: Emitter, width, gradient, X, x0, pixel, V, v0, step, tiles) -> None:
    """``B^T d`` of tiles of inputs, from ``x0`` on, with pixels ``pixel`` floats apart.

    With ``gradient`` it is ``A d`` of tiles of the output's gradient.
    """
    across = at.builder.mul(pixel, at.index(OUTPUTS))

    def emit(matrix: Matrix) -> None:
        def one(t: Any) -> None:
            pixels = load_all(at, matrix.shape[1], X, at.offset(x0, t, across), pixel)
            values = emit_product(at.builder, matrix, pixels)
            store_all(at, values, V, at.offset(v0, t, LANES), step)

        for_tiles(at, tiles, one)

    def for_width(r: int) -> None:
        is_gradient = at.is_set(gradient)
        with at.builder.if_else(is_gradient) as (then, otherwise):
            with then:
                emit(transforms(r).output.T)
            with otherwise:
                emit(transforms(r).input)

    at.cases(width, WIDTHS, for_width)


def tile_outputs(at: Emitter, r: int, S, s0, step, bias) -> list[Any]:
    """The four outputs of a tile."""
    sums = load_all(at, points(r), S, s0, step)
    products = emit_product(at.builder, transforms(r).output, sums)
    return [at.builder.fadd(value, bias) for value in products]


@tile(0)
def outputs_row(
    at: Emitter, width, S, s0, step, tiles, B, b0, Y, y0, pixel, size, spare, relu, masked
) -> None:
    """A row of ``size`` outputs, with bias and rectifier or mask as in ``conv_tile``.

    They are ``pixel`` floats apart. Those of the last tile beyond the row are stored at ``spare``,
    room for one vector.
    """
    bias = at.bias(B, b0, 1)[0]

    def for_width(r: int) -> None:
        def one(t: Any) -> None:
            values = tile_outputs(at, r, S, at.offset(s0, t, LANES), step, bias)
            first, line = at.offset(0, t, OUTPUTS), Line(y0, pixel, size, spare)
            _store_inside(at, values, Y, line, first, relu, masked)

        for_tiles(at, tiles, one)

    at.cases(width, WIDTHS, for_width)


def _store_inside(at: Emitter, values: list[Any], Y, line: Line, first, relu, masked) -> None:
    """Store adjacent pixels of a row from ``first`` on."""
    places = [
        (value, line.place(at, at.builder.add(first, at.index(i))))
        for i, value in enumerate(values)
    ]
    emit_outputs(at, places, Y, at.index(0), relu, masked)


@tile(0)
def pooled_outputs_row(
    at: Emitter, width, S, s0, srow, step, B, b0, Y, y0, I, i0, size, spare, relu
) -> None:
    """A row of ``size`` windows of 2x2 outputs, as in ``conv_pool_tile``."""
    builder = at.builder
    bias = at.bias(B, b0, 1)[0]
    windows = OUTPUTS // 2
    tiles = builder.sdiv(builder.add(size, at.index(windows - 1)), at.index(windows))

    def for_width(r: int) -> None:
        def one(t: Any) -> None:
            above = at.offset(s0, t, LANES)
            starts = above, builder.add(above, srow)
            rows = [tile_outputs(at, r, S, s, step, bias) for s in starts]
            for i in range(windows):
                window = at.offset(at.index(i), t, windows)
                y, winner = (
                    Line(place, LANES, size, spare).place(at, window) for place in (y0, i0)
                )
                values = [value for row in rows for value in row[2 * i : 2 * i + 2]]
                emit_window(at, values, Y, y, relu, I, winner)

        for_tiles(at, tiles, one)

    at.cases(width, WIDTHS, for_width)


@tile(0)
def input_gradient_row(
    at: Emitter, width, E, e0, step, tiles, X, x0, before, size, spare, masked
) -> None:
    """``B e`` of a row of tiles, added where adjacent tiles overlap.

    The first tile begins ``before`` pixels before the row of ``size`` pixels at ``x0``.
    """
    builder, none, line = at.builder, at.index(0), Line(x0, LANES, size, spare)

    def for_width(r: int) -> None:
        def one(t: Any, carried: list[Any]) -> list[Any]:
            sums = load_all(at, points(r), E, at.offset(e0, t, LANES), step)
            values = emit_product(builder, transforms(r).input.T, sums)
            for i, value in enumerate(carried):
                values[i] = builder.fadd(values[i], value)
            first = builder.sub(at.offset(none, t, OUTPUTS), before)
            _store_inside(at, values[:OUTPUTS], X, line, first, none, masked)
            return values[OUTPUTS:]

        carried = at.loop(none, tiles, [constant(0.0)] * (r - 1), one)
        first = builder.sub(at.offset(none, tiles, OUTPUTS), before)
        _store_inside(at, carried, X, line, first, none, masked)

    at.cases(width, WIDTHS, for_width)


@tile(0)
def points_of_weights(at: Emitter, width, P, places, p0, U, u0, step) -> None:
    """``G g`` of 16 rows of weights, at the indices ``places``; -1 is a zero."""
    builder, none = at.builder, at.index(0)

    def for_width(r: int) -> None:
        weights = [constant(0.0)] * r
        for lane in range(LANES):
            for k in range(r):
                entry = at.offset(at.index(k), at.offset(p0, lane, 1), r)
                place = at.table(places, entry)
                exists = builder.icmp_signed(">=", place, none)
                weight = builder.load(at.pointer(P, builder.select(exists, place, none)))
                weight = builder.select(exists, weight, ir.Constant(FLOAT, 0.0))
                weights[k] = builder.insert_element(weights[k], weight, at.index(lane))
        store_all(at, emit_product(builder, transforms(r).weight, weights), U, u0, step)

    at.cases(width, WIDTHS, for_width)


@tile(0)
def weight_gradient_of_points(at: Emitter, width, E, e0, step, blocks, eblock, S, s0) -> None:
    """Sum the points' gradients over blocks and transform them to those of a row of weights."""
    builder = at.builder

    def for_width(r: int) -> None:
        def add_block(b: Any, state: list[Any]) -> list[Any]:
            values = load_all(at, points(r), E, builder.add(e0, builder.mul(b, eblock)), step)
            return [builder.fadd(x, y) for x, y in zip(state, values, strict=True)]

        sums = at.loop(0, blocks, [constant(0.0)] * points(r), add_block)
        store_all(at, emit_product(builder, transforms(r).weight.T, sums), S, s0, LANES)

    at.cases(width, WIDTHS, for_width)
