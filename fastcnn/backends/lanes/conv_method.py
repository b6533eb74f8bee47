"""Which way a convolution is computed, and the zeros that this way reads around its maps.

The limits are where one way measured faster than the other; docs/engine.md has figures.
"""

from enum import Enum
from typing import NamedTuple

from fastcnn.backends.lanes.buffers import LANES, NO_HALO, Halo, union
from fastcnn.backends.lanes.conv_geometry import ConvGeometry
from fastcnn.backends.lanes.winograd1d import OUTPUTS, WIDTHS, points, strip_rows, tiles

#: Channels on either side from which the transforms of F(2x2, 3x3) pay.
FEWEST_CHANNELS = 32
#: Share of the direct sum's products up to which those of F(4, r) do.
MOST_PRODUCTS = 0.7
#: Products of a sum, in one column of the kernel, from which they do also for more than
#: ``FEW_SUMS`` sums of a pixel.
FEWEST_TAPS, FEW_SUMS = 5, 4
#: For the weights' gradient: pairs of channels, and tiles of a strip, from which they do.
FEWEST_PAIRS, FEWEST_TILES = 64, 8


class Way(Enum):
    """How a convolution is computed."""

    DIRECT = "sum over taps"
    WINOGRAD_1D = "F(4, r) along rows"
    WINOGRAD_2D = "F(2x2, 3x3)"


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
    even = all(size % 2 == 0 for size in (*g.input, *g.output))
    if g.kernel == (3, 3) and even and min(inputs, outputs) >= FEWEST_CHANNELS:
        whole = inputs % LANES == 0 and outputs % 8 == 0
        gradient = Way.WINOGRAD_2D if whole else Way.DIRECT
        return Method(Way.WINOGRAD_2D, Way.WINOGRAD_2D, gradient)
    few = g.kernel[1] in WIDTHS and (
        tiles(g) * points(g.kernel[1]) <= MOST_PRODUCTS * g.output[1] * g.kernel[1]
    )
    rows = strip_rows(g, inputs, outputs)
    if not few or rows == 0 or g.transposed:
        return Method(Way.DIRECT, Way.DIRECT, Way.DIRECT)

    def product(sums: int, summands: int) -> Way:
        pays = summands * g.kernel[0] >= FEWEST_TAPS or sums <= FEW_SUMS
        return Way.WINOGRAD_1D if pays else Way.DIRECT

    pays = inputs * outputs >= FEWEST_PAIRS and rows * tiles(g) >= FEWEST_TILES
    gradient = Way.WINOGRAD_1D if pays else Way.DIRECT
    return Method(product(outputs, inputs), product(inputs, outputs), gradient)


def input_halo(g: ConvGeometry) -> Halo:
    """Zeros that a convolution and its weights' gradient read around its input."""
    ways = method(g)
    halo = NO_HALO
    for way in (ways.product, ways.gradient):
        if way == Way.WINOGRAD_1D:
            last = OUTPUTS * tiles(g) + g.kernel[1] - 2 - g.padding[1]
            halo = union(halo, (0, 0, g.padding[1], max(0, last - g.input[1] + 1)))
        else:
            halo = union(halo, g.input_halo())
    return halo


def gradient_halo(g: ConvGeometry) -> Halo:
    """Zeros that the input's gradient and the weights' read around that of the output."""
    ways = method(g)
    halo = NO_HALO
    if Way.WINOGRAD_1D in (ways.transpose, ways.gradient):
        halo = (0, 0, 0, OUTPUTS * tiles(g) - g.output[1])
    return halo if ways.transpose == Way.WINOGRAD_1D else union(halo, g.gradient_halo())
