"""Transforms of tiles with at most two outputs in a direction, at a map's edge.

Two outputs of a row need four products, those of F(2, 3) at the points 0, 1, -1 and infinity. These
are points of F(4, 3), too, so the transformed weights are shared, and the input matrix includes the
factors by which they differ: an edge tile has 24 products instead of 36, a corner tile 16. Products
are stored where those of other tiles are. A tile's ``down`` and ``along`` are set if it has few
rows or few columns.
"""

from typing import Any, NamedTuple

import numpy as np

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, Matrix, Transforms
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    MATRICES,
    SIDE,
    finish_outputs,
    store_outputs,
    store_windows,
)
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    Grid,
    Inside,
    ask_for_pixels,
    bias_of,
    emit_both_ways,
    emit_product,
    load_pixels,
)
from fastcnn.codegen.emitter import Emitter, tile

#: The maximum number of outputs of an edge tile.
FEW = OUTPUTS // 2
#: Indices of its points in F(4, 3), and the first index that it does not have.
POINTS = (0, 1, 2, SIDE - 1)
FIRST_WITHOUT = 3
EDGE = Transforms(
    MATRICES.weight[list(POINTS)],
    np.array([[1, 0, -1, 0], [0, 1.5, 1.5, 0], [0, 1.5, -1.5, 0], [0, -1, 0, 1]]),
    np.array([[1, 1, 1, 0], [0, 1, -1, 1]], np.float64),
)


class Side(NamedTuple):
    """The transforms of a direction, and the indices of its points."""

    of: Transforms
    points: tuple[int, ...]


#: Indexed by whether there are few outputs.
SIDES = Side(MATRICES, tuple(range(SIDE))), Side(EDGE, POINTS)


def sides(down: int, along: int) -> tuple[Side, Side]:
    """The transforms of a tile."""
    return SIDES[down], SIDES[along]


def load_products(at: Emitter, of: tuple[Side, Side], S, s0, step) -> list[list[Any]]:
    """Load the products of a tile, ``step`` floats apart."""
    rows, columns = (side.points for side in of)
    return [[at.load(S, at.offset(s0, SIDE * i + j, step)) for j in columns] for i in rows]


def store_products(
    at: Emitter, of: tuple[Side, Side], matrices: list[Matrix], pixels: list[list[Any]], V, v0, step
) -> None:
    """Store ``matrices[0] @ pixels @ matrices[1].T`` as the products of a tile."""
    down, along = matrices
    columns = [emit_product(at.builder, down, list(column)) for column in zip(*pixels, strict=True)]
    for i, row in zip(of[0].points, zip(*columns, strict=True), strict=True):
        made = emit_product(at.builder, along, list(row))
        for j, value in zip(of[1].points, made, strict=True):
            at.store(value, V, at.offset(v0, SIDE * i + j, step))


@tile(2)
def edge_input_tile(
    at: Emitter, down: int, along: int, X, x0, xrow, pixel, ahead, V, v0, step
) -> None:
    """``B^T d B`` of the pixels of an edge tile of the input, as ``input_tile``."""
    of = sides(down, along)
    matrices, source = [side.of.input for side in of], Grid(X, x0, xrow, pixel)
    transform_edge(at, of, matrices, source, ahead, V, v0, step)


def transform_edge(
    at: Emitter, of: tuple[Side, Side], matrices: list[Matrix], source: Grid, ahead, V, v0, step
) -> None:
    """Store the products of the pixels, as many as the matrices have columns."""
    rows, columns = (range(matrix.shape[1]) for matrix in matrices)
    ask_for_pixels(at, (rows, columns[:OUTPUTS]), source, ahead)
    pixels = load_pixels(at, (rows, columns), source)
    store_products(at, of, matrices, pixels, V, v0, step)


def _emit_outputs(at: Emitter, down: int, along: int, products, bias) -> list[list[Any]]:
    of = sides(down, along)
    sums = load_products(at, of, *products)
    rows, columns = (side.of.output for side in of)
    return finish_outputs(at, emit_both_ways(at.builder, rows, sums, columns), bias)


@tile(2)
def edge_output_tile(
    at: Emitter, down: int, along: int, products, bias, to, inside, relu, met
) -> None:
    """The outputs of an edge tile, as ``output_tile``."""
    outputs = _emit_outputs(at, down, along, products, bias_of(at, bias))
    store_outputs(at, outputs, Grid(*to), Inside(*inside), relu, met)


@tile(2)
def edge_pooled_output_tile(
    at: Emitter, down: int, along: int, products, bias, windows, inside, relu
) -> None:
    """The windows of an edge tile, as ``pooled_output_tile``."""
    outputs = _emit_outputs(at, down, along, products, bias_of(at, bias))
    store_windows(at, outputs, windows, Inside(*inside), relu)
