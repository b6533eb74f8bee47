"""The transform of outputs with an output channel in each lane."""

from typing import Any

from fastcnn.backends.lanes.convolution.channel_direct.tiles import biases_of, store_added
from fastcnn.backends.lanes.convolution.winograd2d.strided_tiles import emit_strided_outputs
from fastcnn.backends.lanes.convolution.winograd2d.tiles import emit_tile_outputs
from fastcnn.backends.lanes.convolution.winograd_tiles import Grid, Inside
from fastcnn.codegen.emitter import Emitter, tile


@tile(0)
def channel_output_tile(at: Emitter, products, bias, to, inside, relu, more) -> None:
    """The first rows and columns of 4x4 outputs of Winograd's products, plus a vector of biases.

    Arguments are those of ``output_tile``; the offset of ``more``, a grid, as in ``channel_tile``.
    """
    outputs = emit_tile_outputs(at, products, biases_of(at, bias[0], bias[1], 1)[0])
    _store_inside(at, outputs, Grid(*to), Grid(*more), Inside(*inside), relu)


@tile(0)
def strided_output_tile(at: Emitter, products, bias, to, inside, relu, more) -> None:
    """The same for the products of a convolution of stride 2."""
    outputs = emit_strided_outputs(at, products, biases_of(at, bias[0], bias[1], 1)[0])
    _store_inside(at, outputs, Grid(*to), Grid(*more), Inside(*inside), relu)


def _store_inside(
    at: Emitter, outputs: list[list[Any]], to: Grid, more: Grid, inside: Inside, relu
) -> None:
    """Store the first rows and columns, after adding those of ``more``."""
    places = []
    for i, values in enumerate(outputs):
        for j, value in enumerate(values):
            target, added = (inside.place(at, i, j, grid.place(at, i, j)) for grid in (to, more))
            places.append((value, target, added))
    store_added(at, places, to.array, relu, more.array, more.first)
