"""Transforms of the input gradient with stride 2; see strided.py.

Even pixels of the input are a correlation of the output's gradient with the outer weights in
reverse order: tiles are read and written in reverse, so that the forward pass's weights can be
used.
"""

from fastcnn.backends.lanes.convolution.direct.tiles import emit_outputs
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS
from fastcnn.backends.lanes.convolution.winograd2d.strided import EVEN, EVENS, emit_phase
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    Grid,
    Inside,
    ask_for_pixels,
    bias_of,
    load_all,
    load_rows,
    store_all,
)
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES


def _sides(odd: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of gradients, and of products, of a phase's tile."""
    rows, columns = (OUTPUTS if one else EVENS for one in odd)
    return rows, columns


@tile(2)
def strided_adjoint_input_tile(
    at: Emitter, odd_rows: int, odd_columns: int, D, d0, drow, ahead, V, v0, step
) -> None:
    """A phase's transforms of the output's gradient, ``step`` apart.

    Pixels ``ahead`` are prefetched.
    """
    odd = odd_rows, odd_columns
    rows, columns = _sides(odd)
    pixels = []
    for i in range(rows):
        first = at.offset(d0, i, drow)
        ask_for_pixels(at, (range(1), range(columns)), Grid(D, first, drow, LANES), ahead)
        pixels.append(load_all(at, columns, D, first, LANES)[::-1])
    made = emit_phase(at.builder, EVEN.input, odd, pixels[::-1])
    store_all(at, [value for row in made for value in row], V, v0, step)


@tile(2)
def strided_adjoint_output_tile(
    at: Emitter, odd_rows: int, odd_columns: int, products, bias, to, inside, relu, masked
) -> None:
    """A phase's first rows and columns of 4x4 pixels, which are two rows and columns apart.

    ``products`` and ``to`` are an array, an offset and a step, ``inside`` the rows and columns, and
    the address at which others are stored.
    """
    odd, (Y, y0, yrow) = (odd_rows, odd_columns), to
    down, along = _sides(odd)
    sums = load_rows(at, down, along, *products)
    added, places = bias_of(at, bias), []
    for i, row in enumerate(emit_phase(at.builder, EVEN.output, odd, sums)[::-1]):
        for j, value in enumerate(row[::-1]):
            place = at.offset(at.offset(y0, 2 * i, yrow), 2 * j, LANES)
            place = Inside(*inside).place(at, i, j, place)
            places.append((at.builder.fadd(value, added), place))
    emit_outputs(at, places, Y, at.index(0), relu, masked)
