"""F(4, r) along rows: kernels of few columns."""

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import (
    MOST_PRODUCTS,
    beyond_output,
    is_plain,
    points,
    tile_sides,
    tiles,
)
from fastcnn.backends.lanes.convolution.winograd1d.geometry import WIDTHS, strip_rows
from fastcnn.backends.lanes.planning.buffers import Halo

#: Products of a sum, in one column of the kernel, from which it pays also for more than
#: ``FEW_SUMS`` sums of a pixel.
FEWEST_TAPS, FEW_SUMS = 5, 4
#: For the weights' gradient: pairs of channels, and tiles of a strip, from which it pays.
FEWEST_PAIRS, FEWEST_TILES = 64, 8


def _sides(g: ConvGeometry, part: Part) -> tuple[int, int]:
    """Sums of a pixel, and channels that each adds up."""
    inputs, outputs = g.group_inputs, g.out_channels
    return (inputs, outputs) if part == Part.TRANSPOSE else (outputs, inputs)


def _fits(g: ConvGeometry, part: Part) -> bool:
    sums, summands = _sides(g, part)
    known = is_plain(g) and g.kernel[1] in WIDTHS and not g.transposed
    return known and strip_rows(g, summands, sums) > 0


def _pays(g: ConvGeometry, part: Part) -> bool:
    sums, summands = _sides(g, part)
    along = tiles(g.output[1]) * points(g.kernel[1]) / (g.output[1] * g.kernel[1])
    if along > MOST_PRODUCTS:
        return False
    if part == Part.GRADIENT:
        strip = strip_rows(g, summands, sums) * tiles(g.output[1])
        return sums * summands >= FEWEST_PAIRS and strip >= FEWEST_TILES
    return summands * g.kernel[0] >= FEWEST_TAPS or sums <= FEW_SUMS


def _input_halo(g: ConvGeometry) -> Halo:
    return (0, 0, *tile_sides(g.output[1], g.input[1], g.padding[1], g.kernel[1]))


def _gradient_halo(g: ConvGeometry, part: Part) -> Halo:
    return (0, 0, 0, beyond_output(g, 1))


WINOGRAD_1D = Algorithm("winograd1d", _fits, _pays, _input_halo, _gradient_halo)
