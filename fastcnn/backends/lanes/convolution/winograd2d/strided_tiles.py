"""Tiles of the transforms of stride 2; see strided.py."""

from typing import Any

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS
from fastcnn.backends.lanes.convolution.winograd2d.strided import (
    EVEN,
    EVENS,
    ODDS,
    STRIDED_SIDE,
    emit_phase,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    kernels_by_table,
    load_kernels,
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
    load_all,
    load_pixels,
    store_all,
)
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES


@tile(0)
def strided_input_tile(at: Emitter, X, x0, xrow, ahead, V, v0, step) -> None:
    """The transforms of 9x9 pixels of the input, ``step`` apart; those ``ahead`` are prefetched."""
    place, side, source = v0, range(2 * OUTPUTS), Grid(X, x0, xrow, LANES)
    ask_for_pixels(at, (side, side), source, ahead)
    for odd in ((0, 0), (0, 1), (1, 0), (1, 1)):
        sides = [range(first, STRIDED_SIDE, 2) for first in odd]
        pixels = load_pixels(at, sides, source)
        made = emit_phase(at.builder, EVEN.input, odd, pixels)
        flat = [value for row in made for value in row]
        store_all(at, flat, V, place, step)
        place = at.offset(place, len(flat), step)


def emit_strided_outputs(at: Emitter, products, bias) -> list[list[Any]]:
    """The 4x4 outputs of 81 products, with bias."""
    builder, (S, s0, step) = at.builder, products

    def take(first: int, rows: int, columns: int) -> list[list[Any]]:
        return [
            load_all(at, columns, S, at.offset(s0, first + i * columns, step), step)
            for i in range(rows)
        ]

    def down(values: list[list[Any]]) -> list[list[Any]]:
        return emit_phase(builder, EVEN.output, (0, 1), values)

    def added(values: list[list[Any]], more: list[list[Any]]) -> list[list[Any]]:
        return [
            [builder.fadd(value, other) for value, other in zip(row, others, strict=True)]
            for row, others in zip(values, more, strict=True)
        ]

    second, third = EVENS * EVENS, EVENS * (EVENS + ODDS)
    even = added(down(take(0, EVENS, EVENS)), take(third, ODDS, EVENS))
    across = emit_phase(builder, EVEN.output, (1, 0), even)
    odd = added(down(take(second, EVENS, ODDS)), take(third + ODDS * EVENS, ODDS, ODDS))
    return [[builder.fadd(value, bias) for value in row] for row in added(across, odd)]


@tile(0)
def strided_output_tile(at: Emitter, products, bias, to, inside, relu, met) -> None:
    """The same as ``output_tile``, for stride 2."""
    outputs = emit_strided_outputs(at, products, bias_of(at, bias))
    store_outputs(at, outputs, Grid(*to), Inside(*inside), relu, met)


@tile(0)
def strided_pooled_tile(at: Emitter, products, bias, windows, inside, relu) -> None:
    """The same as ``pooled_output_tile``, for stride 2."""
    outputs = emit_strided_outputs(at, products, bias_of(at, bias))
    store_windows(at, outputs, windows, Inside(*inside), relu)


@tile(0)
def strided_weight_tile(at: Emitter, P, places, p0, U, u0, step) -> None:
    """The 36 distinct weights of 16 kernels, in the order of ``transformed_weights``."""
    builder, kernels = at.builder, load_kernels(at, P, kernels_by_table(at, places, p0))
    outer = [[kernels[0][0], kernels[0][2]], [kernels[2][0], kernels[2][2]]]
    made = [value for row in emit_both_ways(builder, EVEN.weight, outer) for value in row]
    made += emit_product(builder, EVEN.weight, [kernels[0][1], kernels[2][1]])
    made += emit_product(builder, EVEN.weight, [kernels[1][0], kernels[1][2]])
    store_all(at, [*made, kernels[1][1]], U, u0, step)
