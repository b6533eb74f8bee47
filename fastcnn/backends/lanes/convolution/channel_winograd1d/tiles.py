"""The output transform of F(4, r) along rows, with a channel in each lane."""

from typing import Any

from fastcnn.backends.lanes.convolution.channel_direct.tiles import biases_of, store_added
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS
from fastcnn.backends.lanes.convolution.winograd1d.geometry import WIDTHS
from fastcnn.backends.lanes.convolution.winograd1d.tiles import Line, for_tiles, tile_outputs
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES


@tile(0)
def channel_outputs_row(
    at: Emitter, width, S, s0, step, tiles, B, b0, Y, y0, size, spare, relu, M, m0
) -> None:
    """A row of ``size`` outputs, plus a vector of biases; ``m0`` as in ``channel_tile``.

    Outputs of tiles beyond the row are stored at ``spare``, room for one vector.
    """
    bias = biases_of(at, B, b0, 1)[0]
    lines = [Line(first, LANES, size, spare) for first in (y0, m0)]

    def for_width(r: int) -> None:
        def one(t: Any) -> None:
            values = tile_outputs(at, r, S, at.offset(s0, t, LANES), step, bias)
            first = at.offset(0, t, OUTPUTS)
            pixels = [at.builder.add(first, at.index(i)) for i in range(OUTPUTS)]
            places = [
                (value, *(line.place(at, pixel) for line in lines))
                for value, pixel in zip(values, pixels, strict=True)
            ]
            store_added(at, places, Y, relu, M, m0)

        for_tiles(at, tiles, one)

    at.cases(width, WIDTHS, for_width)
