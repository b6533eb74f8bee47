"""The transform of outputs with an output channel in each lane."""

from typing import Any

from fastcnn.backends.lanes.convolution.channel_direct.tiles import biases_of, store_added
from fastcnn.backends.lanes.convolution.winograd2d.strided_tiles import emit_strided_outputs
from fastcnn.backends.lanes.convolution.winograd2d.tiles import emit_tile_outputs
from fastcnn.backends.lanes.convolution.winograd_tiles import Grid, Inside
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES


@tile(0)
def channel_output_tile(
    at: Emitter, S, s0, step, B, b0, Y, y0, yrow, pixel, rows, columns, spare, relu, M, m0, mrow
) -> None:
    """The first rows and columns of 4x4 outputs of Winograd's products, plus a vector of biases.

    The others are stored at ``spare``, room for one vector; ``m0`` as in ``channel_tile``.
    """
    outputs = emit_tile_outputs(at, (S, s0, step), biases_of(at, B, b0, 1)[0])
    to, more = Grid(Y, y0, yrow, pixel), Grid(M, m0, mrow, pixel)
    _store_inside(at, outputs, to, more, Inside(rows, columns, spare), relu)


@tile(0)
def strided_output_tile(
    at: Emitter, S, s0, step, B, b0, Y, y0, yrow, rows, columns, spare, relu, M, m0, mrow
) -> None:
    """The same for the products of a convolution of stride 2."""
    outputs = emit_strided_outputs(at, (S, s0, step), biases_of(at, B, b0, 1)[0])
    to, more = Grid(Y, y0, yrow, LANES), Grid(M, m0, mrow, LANES)
    _store_inside(at, outputs, to, more, Inside(rows, columns, spare), relu)


def _store_inside(
    at: Emitter,
    outputs: list[list[Any]],
    to: Grid,
    more: Grid,
    inside: Inside,
    relu,
) -> None:
    """Store the first rows and columns, after adding those of ``more``."""
    places = []
    for i, values in enumerate(outputs):
        for j, value in enumerate(values):
            target, added = (inside.place(at, i, j, grid.place(at, i, j)) for grid in (to, more))
            places.append((value, target, added))
    store_added(at, places, to.array, relu, more.array, more.first)
