"""F(4x4, 3x3): kernels of 3x3 and many channels."""

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import (
    MOST_PRODUCTS,
    beyond_output,
    is_plain,
    points,
    tiles,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided import (
    TRANSFORMS,
    tile_halo,
    transform_of,
)
from fastcnn.backends.lanes.planning.buffers import LANES, Halo

#: Channels on either side from which the transforms pay.
FEWEST_CHANNELS = 16
#: With stride 2: share of the direct sum's products that whole tiles may have, and channels whose
#: transforms the cache holds.
MOST_OF_STRIDE_2, MOST_INPUTS = 0.65, 64
#: Share of the lanes of a weights' gradient, which are output channels, from which they do.
FEWEST_LANES = 0.6


def _fits(g: ConvGeometry, part: Part) -> bool:
    if part == Part.PRODUCT and transform_of(g):
        return True
    return is_plain(g) and g.kernel == (3, 3)


def _pays(g: ConvGeometry, part: Part) -> bool:
    if g.stride == (2, 2):
        return _pays_with_stride(g)
    down = tiles(g.output[0]) * points(3) / (g.output[0] * 3)
    lanes = -(-g.out_channels // LANES) * LANES
    if part == Part.GRADIENT and g.out_channels < FEWEST_LANES * lanes:
        return False
    return down <= MOST_PRODUCTS and min(g.group_inputs, g.out_channels) >= FEWEST_CHANNELS


def _pays_with_stride(g: ConvGeometry) -> bool:
    across, down = (tiles(size) for size in g.output)
    products = TRANSFORMS[2].products * across * down / (9 * g.output[0] * g.output[1])
    fewest = min(g.group_inputs, g.out_channels)
    # One tile leaves most of a register tile idle.
    channels = fewest >= (FEWEST_CHANNELS if across * down > 1 else 2 * FEWEST_CHANNELS)
    return products <= MOST_OF_STRIDE_2 and channels and g.group_inputs <= MOST_INPUTS


def _input_halo(g: ConvGeometry) -> Halo:
    return tile_halo(g, TRANSFORMS[g.stride[0]])


def _gradient_halo(g: ConvGeometry, part: Part) -> Halo:
    """Whole tiles of the output, of which the transpose takes what the product makes."""
    return (0, beyond_output(g, 0), 0, beyond_output(g, 1))


WINOGRAD_2D = Algorithm("winograd2d", _fits, _pays, _input_halo, _gradient_halo, adds=True)
