"""Tiles of the transforms; those of F(4x4, 3x3) are in winograd2d/tiles.py."""

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, points
from fastcnn.backends.lanes.convolution.winograd2d.gradient_tiles import PIXEL, PRODUCT
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    finish_outputs,
    store_outputs,
    transform_tile,
)
from fastcnn.backends.lanes.convolution.winograd2d_phases.phases import MATRICES
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    Grid,
    Inside,
    bias_of,
    emit_both_ways,
    load_pixels,
    load_rows,
    store_both_ways,
)
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import INT_VECTOR, LANES, constant, int_constant


@tile(1)
def phase_input_tile(at: Emitter, half: int, X, x0, xrow, pixel, ahead, V, v0, step) -> None:
    """The same as ``input_tile`` for kernels of another width."""
    transform_tile(at, MATRICES[half].input, Grid(X, x0, xrow, pixel), ahead, V, v0, step)


@tile(1)
def phase_output_tile(at: Emitter, half: int, products, bias, to, inside, relu, met) -> None:
    """The same as ``output_tile`` for kernels of another width."""
    sums = load_rows(at, points(half), points(half), *products)
    outputs = emit_both_ways(at.builder, MATRICES[half].output, sums)
    finished = finish_outputs(at, outputs, bias_of(at, bias))
    store_outputs(at, finished, Grid(*to), Inside(*inside), relu, met)


@tile(1)
def phase_gradient_tile(at: Emitter, half: int, D, d0, E, e0) -> None:
    """The same as ``gradient_tile`` for kernels of another width."""
    side = range(OUTPUTS)
    pixels = load_pixels(at, (side, side), Grid(D, d0, OUTPUTS * PIXEL, PIXEL))
    store_both_ways(at, MATRICES[half].output.T, pixels, E, e0, PRODUCT)


@tile(2)
def phase_weight_tile(
    at: Emitter, half: int, flipped: int, P, places, p0, row, U, u0, step
) -> None:
    """Transform a phase of 16 kernels, whose rows are ``row`` apart.

    An entry of ``places`` is four times the index of a kernel's first weight of this phase, plus
    two if the phase lacks the last row, plus one if it lacks the last column.
    """
    builder, last = at.builder, half - 1
    kernels = [[constant(0.0)] * half for _ in range(half)]
    for lane in range(LANES):
        entry = at.table(places, at.offset(p0, lane, 1))
        first = builder.ashr(entry, at.index(2))
        down, along = ([at.offset(0, 2 * i, step) for i in range(half)] for step in (row, 1))
        # What is missing is read elsewhere, and then replaced.
        for offsets, bit in ((down, 2), (along, 1)):
            missing = at.is_set(builder.and_(entry, at.index(bit)))
            offsets[last] = builder.select(missing, at.index(0), offsets[last])
        for i in range(half):
            for j in range(half):
                place = builder.add(builder.add(first, down[i]), along[j])
                weight = builder.load(at.pointer(P, place))
                kernels[i][j] = builder.insert_element(kernels[i][j], weight, at.index(lane))
    entries = builder.load(
        builder.bitcast(at.pointer(places, p0), INT_VECTOR.as_pointer()), align=4
    )
    for bit, found in (
        (2, [(last, j) for j in range(half)]),
        (1, [(i, last) for i in range(half)]),
    ):
        lacks = builder.icmp_signed("!=", builder.and_(entries, int_constant(bit)), int_constant(0))
        for i, j in found:
            kernels[i][j] = builder.select(lacks, constant(0.0), kernels[i][j])
    if flipped:
        kernels = [line[::-1] for line in kernels[::-1]]
    store_both_ways(at, MATRICES[half].weight, kernels, U, u0, step)


@tile(1)
def phase_weight_gradient_tile(
    at: Emitter, half: int, E, e0, estep, G, g0, row, rows, columns, spare
) -> None:
    """The gradients of a phase of 16 kernels from those of its products.

    Rows of G are ``row`` apart, weights two vectors; weights that the phase lacks are stored at
    ``spare``.
    """
    sums = load_rows(at, points(half), points(half), E, e0, estep)
    inside = Inside(rows, columns, spare)
    for i, values in enumerate(emit_both_ways(at.builder, MATRICES[half].weight.T, sums)):
        for j, value in enumerate(values):
            place = at.offset(at.offset(g0, 2 * i, row), 2 * j, LANES)
            at.store(value, G, inside.place(at, i, j, place))
