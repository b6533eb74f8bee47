"""F(4x4, 3x3) with a channel in each lane."""

import math

from fastcnn.backends.lanes.convolution.algorithm import ChannelAlgorithm, Samples
from fastcnn.backends.lanes.convolution.channel_direct.kernels import WHOLE
from fastcnn.backends.lanes.convolution.channel_winograd1d.geometry import TRANSFORMING, reading
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, first_outputs
from fastcnn.backends.lanes.convolution.winograd2d.strided import tile_halo, transform_of
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS as WEIGHTS
from fastcnn.backends.lanes.planning.buffers import LANES, Halo, lane_blocks, whole

#: Maximum tiles of a strip of transforms, which reads all weights.
STRIP = 16


def _bytes(g: ConvGeometry) -> int:
    """Bytes of the transformed weights."""
    return 4 * LANES * WEIGHTS * g.group_inputs * lane_blocks(g.out_channels)


def _operations(g: ConvGeometry, samples: Samples) -> float:
    """Many samples fill strips together; a single one may have few tiles for all weights."""
    transform = transform_of(g)
    if transform is None or min(g.group_inputs, g.out_channels) < LANES:
        return math.inf
    inputs, blocks = g.group_inputs, lane_blocks(g.out_channels)
    count = len(first_outputs(g.output, g.dilation))
    strips = -(-count // STRIP) if samples.alone else count / STRIP
    products = transform.products * inputs * blocks * whole(count, WHOLE)
    made = count * (transform.input * lane_blocks(inputs) + transform.output * blocks)
    read = reading(_bytes(g), strips, samples.bytes_an_operation)
    return products + TRANSFORMING * made + read


def _halo(g: ConvGeometry, workers: int) -> Halo:
    transform = transform_of(g)
    assert transform is not None
    return tile_halo(g, transform)


CHANNEL_WINOGRAD_2D = ChannelAlgorithm(
    "winograd2d",
    fits=lambda g: transform_of(g) is not None,
    operations=_operations,
    halo=_halo,
    kernel=lambda g: WEIGHTS,
    # A strip should be full.
    few_pixels=STRIP * OUTPUTS**2,
    more_bytes=_bytes,
)
