"""F(4x4, 3x3): for kernels of 3x3 and many channels, with stride 1 or 2, or dilated."""

import numpy as np

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry, stretch
from fastcnn.backends.lanes.convolution.winograd import (
    MOST_PRODUCTS,
    beyond_output,
    first_outputs,
    is_plain,
    outputs_left,
    points,
    tiles,
)
from fastcnn.backends.lanes.convolution.winograd2d import strided
from fastcnn.backends.lanes.convolution.winograd2d.edge_tiles import FEW, POINTS
from fastcnn.backends.lanes.convolution.winograd2d.tiles import SIDE
from fastcnn.backends.lanes.planning.buffers import LANES, Halo

#: Minimum channels on either side for which the transforms pay.
FEWEST_CHANNELS = 16
#: With stride 2: maximum share of the direct sum's products in whole tiles, and channels whose
#: transforms fit in the cache.
MOST_OF_STRIDE_2, MOST_INPUTS = 0.65, 64
#: With stride 2: minimum channels on either side for the gradients, minimum outputs for the weight
#: gradient, and maximum channel pairs whose weights may be read for a single tile.
FEWEST_BACK, FEWEST_OUTPUTS, MOST_PAIRS = 24, 40, 128 * 128
#: With dilation: time of a tile's transforms, in outputs of a direct sum, for one channel on either
#: side, and maximum share of the direct sum's time.
TRANSFORMS_OF_CHANNEL, MOST_OF_DILATED = 128, 0.95
#: Minimum share of used lanes, which are output channels, for which the weight gradient pays.
FEWEST_LANES = 0.6


def _fits(g: ConvGeometry, part: Part) -> bool:
    return strided.transform_of(g) is not None


def _pays(g: ConvGeometry, part: Part) -> bool:
    if g.stride == (2, 2):
        return _pays_with_stride(g, part)
    if min(g.group_inputs, g.out_channels) < FEWEST_CHANNELS:
        return False
    lanes = -(-g.out_channels // LANES) * LANES
    if part == Part.GRADIENT and g.out_channels < FEWEST_LANES * lanes:
        return False
    if g.dilation != (1, 1):
        return _pays_with_dilation(g, part)
    return tiles(g.output[0]) * points(3) / (g.output[0] * 3) <= MOST_PRODUCTS


def _pays_with_dilation(g: ConvGeometry, part: Part) -> bool:
    # Phases of few pixels leave most of a tile unused, which saves less of its transforms than of
    # its products. The direct transpose skips kernel rows that read nothing but zeros.
    size, rows = g.output, 1.0
    if part == Part.TRANSPOSE:
        size, meets = g.input, stretch(g, 0, 0)
        outputs = meets.steps[:, None] + meets.shift
        rows = ((outputs >= 0) & (outputs < g.output[0])).mean()
    left = outputs_left(size, first_outputs(size, g.dilation), g.dilation)
    products = np.where(left <= FEW, len(POINTS), SIDE).prod(axis=1)
    transforms = TRANSFORMS_OF_CHANNEL / min(g.group_inputs, g.out_channels)
    time = (products / 9 + transforms * (products + 12) / 48).sum()
    return bool(time <= MOST_OF_DILATED * rows * size[0] * size[1])


def _pays_with_stride(g: ConvGeometry, part: Part) -> bool:
    # The tiles of the transpose are those of the input.
    of_inputs = part == Part.TRANSPOSE
    sizes = (tiles(-(-size // 2)) for size in g.input) if of_inputs else map(tiles, g.output)
    across, down = sizes
    products = strided.TRANSFORMS[2].products * across * down / (9 * g.output[0] * g.output[1])
    if products > MOST_OF_STRIDE_2:
        return False
    fewest, one_tile = min(g.group_inputs, g.out_channels), across * down == 1
    if part == Part.PRODUCT:
        # A single tile leaves most of a register tile unused.
        channels = 2 * FEWEST_CHANNELS if one_tile else FEWEST_CHANNELS
        return fewest >= channels and g.group_inputs <= MOST_INPUTS
    if part == Part.GRADIENT:
        return g.group_inputs >= FEWEST_BACK and g.out_channels >= FEWEST_OUTPUTS
    pairs = g.group_inputs * g.out_channels
    return fewest >= FEWEST_BACK and (not one_tile or pairs <= MOST_PAIRS)


def _input_halo(g: ConvGeometry) -> Halo:
    return strided.tile_halo(g, strided.TRANSFORMS[g.stride[0]])


def _gradient_halo(g: ConvGeometry, part: Part) -> Halo:
    """Padding up to whole tiles of the output, which the transpose reads.

    With stride 2 its tiles are those of the input, and of a dilated kernel it is the product of the
    flipped one.
    """
    if part == Part.TRANSPOSE and g.stride == (2, 2):
        return strided.transposed_halo(g)
    if part == Part.TRANSPOSE and g.dilation != (1, 1):
        return strided.flipped_halo(g)
    return (0, beyond_output(g, 0), 0, beyond_output(g, 1))


def _has_no_stride(g: ConvGeometry) -> bool:
    return g.stride == (1, 1)


def _is_not_dilated(g: ConvGeometry) -> bool:
    return g.dilation == (1, 1)


WINOGRAD_2D = Algorithm(
    "winograd2d",
    _fits,
    _pays,
    _input_halo,
    _gradient_halo,
    adds=True,
    sums_biases=_has_no_stride,
    unpools=is_plain,
    pools=_is_not_dilated,
)
