"""Which way a convolution is computed, and the zeros that this way reads around its maps.

The limits are where one way measured faster than the other; docs/engine.md has figures.
"""

from enum import Enum
from typing import NamedTuple

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, points, tiles
from fastcnn.backends.lanes.convolution.winograd1d.geometry import WIDTHS, strip_rows
from fastcnn.backends.lanes.planning.buffers import LANES, NO_HALO, Halo, union

#: Channels on either side from which the transforms of F(4x4, 3x3) pay.
FEWEST_CHANNELS = 16
#: Share of the direct sum's products up to which those of F(4, r) do, and of their products up to
#: which those of F(4x4, 3x3) do.
MOST_PRODUCTS = 0.7
#: Products of a sum, in one column of the kernel, from which F(4, r) pays also for more than
#: ``FEW_SUMS`` sums of a pixel.
FEWEST_TAPS, FEW_SUMS = 5, 4
#: For the weights' gradient: pairs of channels, and tiles of a strip, from which it pays.
FEWEST_PAIRS, FEWEST_TILES = 64, 8


class Way(Enum):
    """How a convolution is computed."""

    DIRECT = "sum over taps"
    WINOGRAD_1D = "F(4, r) along rows"
    WINOGRAD_2D = "F(4x4, 3x3)"


class Method(NamedTuple):
    """The ways of a convolution's parts.

    Attributes
    ----------
    product, transpose, gradient : Way
        Of the convolution, of what carries its output side back, of the weights' gradient.
    """

    product: Way
    transpose: Way
    gradient: Way


def method(g: ConvGeometry) -> Method:
    """The fastest known way of each part."""
    if not (g.stride == g.dilation == (1, 1) and g.groups == 1):
        return Method(Way.DIRECT, Way.DIRECT, Way.DIRECT)
    inputs, outputs = g.group_inputs, g.out_channels
    along = tiles(g.output[1]) * points(g.kernel[1]) / (g.output[1] * g.kernel[1])
    down = tiles(g.output[0]) * points(3) / (g.output[0] * 3)
    few = g.kernel[1] in WIDTHS and along <= MOST_PRODUCTS and not g.transposed

    def one_way(sums: int, summands: int) -> Way:
        pays = summands * g.kernel[0] >= FEWEST_TAPS or sums <= FEW_SUMS
        fits = strip_rows(g, summands, sums) > 0
        return Way.WINOGRAD_1D if few and pays and fits else Way.DIRECT

    strip = strip_rows(g, inputs, outputs) * tiles(g.output[1])
    pays = inputs * outputs >= FEWEST_PAIRS and strip >= FEWEST_TILES
    gradient = Way.WINOGRAD_1D if few and pays else Way.DIRECT
    if g.kernel == (3, 3) and down <= MOST_PRODUCTS and min(inputs, outputs) >= FEWEST_CHANNELS:
        if inputs % LANES == 0 and outputs % 8 == 0:
            gradient = Way.WINOGRAD_2D
        return Method(Way.WINOGRAD_2D, Way.WINOGRAD_2D, gradient)
    return Method(one_way(outputs, inputs), one_way(inputs, outputs), gradient)


def input_halo(g: ConvGeometry) -> Halo:
    """Zeros that a convolution and its weights' gradient read around its input."""
    ways, halo = method(g), NO_HALO
    for way in (ways.product, ways.gradient):
        if way == Way.DIRECT:
            halo = union(halo, g.input_halo())
        else:
            down = _sides(g, 0) if way == Way.WINOGRAD_2D else (0, 0)
            halo = union(halo, (*down, *_sides(g, 1)))
    return halo


def gradient_halo(g: ConvGeometry) -> Halo:
    """Zeros that the input's gradient and the weights' read around that of the output."""
    ways = method(g)
    beyond = [OUTPUTS * tiles(size) - size for size in g.output]
    halo = {
        Way.DIRECT: NO_HALO, Way.WINOGRAD_1D: (0, 0, 0, beyond[1]),
        Way.WINOGRAD_2D: (0, beyond[0], 0, beyond[1]),
    }[ways.gradient]  # fmt: skip
    if ways.transpose == Way.DIRECT:
        return union(halo, g.gradient_halo())
    if ways.transpose == Way.WINOGRAD_1D:
        return union(halo, (0, 0, 0, beyond[1]))
    # The convolution with the turned kernel, of the output by the input.
    sides = [_tile_sides(g.input[i], g.output[i], 2 - g.padding[i], 3) for i in (0, 1)]
    return union(halo, (*sides[0], *sides[1]))


def _sides(g: ConvGeometry, axis: int) -> tuple[int, int]:
    """Zeros that whole tiles read before and behind the input."""
    return _tile_sides(g.output[axis], g.input[axis], g.padding[axis], g.kernel[axis])


def _tile_sides(outputs: int, inputs: int, padding: int, kernel: int) -> tuple[int, int]:
    last = OUTPUTS * tiles(outputs) + kernel - 2 - padding
    return max(0, padding), max(0, last - inputs + 1)
