"""Direct convolution with a channel in each lane: sums over taps, for every geometry."""

from math import prod

from fastcnn.backends.lanes.convolution.algorithm import ChannelAlgorithm, Samples
from fastcnn.backends.lanes.convolution.channel_direct.kernels import WIDTHS, blocks_of_tile
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.buffers import LANES, lane_blocks, whole


def _operations(g: ConvGeometry, samples: Samples) -> float:
    """Those of one group; many samples share weights."""
    blocks = lane_blocks(g.out_channels)
    weights = prod(g.kernel) * g.group_inputs * blocks
    positions = whole(prod(g.output), WIDTHS[blocks_of_tile(blocks)])
    read = 4 * LANES * weights / samples.bytes_an_operation if samples.alone else 0
    return weights * positions + read


CHANNEL_DIRECT = ChannelAlgorithm(
    "direct",
    fits=lambda g: True,
    operations=_operations,
    halo=lambda g, workers: g.input_halo(),
    kernel=lambda g: prod(g.kernel),
    few_pixels=32,
    reads_planes=True,
)
