"""Costs and records of the kernels with a channel in each lane.

FLOPs are those of real channels where a row knows them; idle lanes count where it does not.
"""

from fastcnn.backends.lanes.convolution.channels import kernels
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.record import Kernel, register, sizes_of
from fastcnn.codegen.simd import LANES

VECTOR_BYTES = FLOAT_BYTES * LANES
#: Vector operations of the transforms of a tile, for a block of channels.
INPUT_TRANSFORM, OUTPUT_TRANSFORM = 220, 200


def _input(r: Row) -> Cost:
    return Cost(2 * r[L.IN] * r.batch, r[L.IN] * r.batch, FLOAT_BYTES * r[L.IN] * r.batch)


def _output(r: Row) -> Cost:
    size = FLOAT_BYTES * r[L.IN] * r.batch
    return Cost(0, size, size)


def _convolution(r: Row) -> Cost:
    """Weights once for a sample, as they are read again for each."""
    vectors = r[L.GROUPS] * r[L.CHANNELS] * r[L.POSITIONS]
    weights = r[L.GROUPS] * r[L.CHANNELS] * r[L.TAPS]
    flops = 2 * LANES * vectors * r[L.TAPS]
    return Cost(flops * r.batch, VECTOR_BYTES * weights * r.batch, VECTOR_BYTES * vectors * r.batch)


def _linear(r: Row) -> Cost:
    weights = r[L.TAPS] * r[L.CHANNELS]
    read = VECTOR_BYTES * weights + FLOAT_BYTES * r[L.TAPS] * r.batch
    return Cost(2 * LANES * weights * r.batch, read, VECTOR_BYTES * r[L.CHANNELS] * r.batch)


def _depthwise(r: Row) -> Cost:
    vectors = r[L.CHANNELS] * r[L.POSITIONS] * r.batch
    return Cost(2 * LANES * vectors * r[L.TAPS], VECTOR_BYTES * vectors, VECTOR_BYTES * vectors)


def _winograd(r: Row) -> Cost:
    """Products, and the additions and multiplications of the transforms."""
    inputs, outputs, tiles = r[L.IN], r[L.CHANNELS], r[L.POSITIONS] * r.batch
    flops = 2 * LANES * PRODUCTS * inputs * outputs * tiles
    flops += LANES * (INPUT_TRANSFORM * r[L.EXTRA] + OUTPUT_TRANSFORM * outputs) * tiles
    read = VECTOR_BYTES * PRODUCTS * inputs * outputs * r.batch
    return Cost(flops, read, VECTOR_BYTES * OUTPUTS * OUTPUTS * outputs * tiles)


def _linear_sizes(r: Row) -> str:
    return f"{r[L.TAPS]} to {r[L.CHANNELS]} x 16 channels"


def _sizes(r: Row) -> str:
    return f"{r[L.CHANNELS]} x 16 channels, {r[L.POSITIONS]} positions, {r[L.TAPS]} taps"


def _winograd_sizes(r: Row) -> str:
    return f"{r[L.IN]} to {r[L.CHANNELS]} x 16 channels, {r[L.POSITIONS]} tiles"


def _tile(r: Row) -> str:
    blocks = next(height for height in kernels.WIDTHS if height <= r[L.CHANNELS])
    return f"{blocks}x{kernels.WIDTHS[blocks]}"


register(
    {
        L.K_CHANNEL_INPUT: Kernel(
            kernels.channel_input, "input by channels", _input, sizes_of(L.IN)
        ),
        L.K_CHANNEL_OUTPUT: Kernel(
            kernels.channel_output, "output by channels", _output, sizes_of(L.IN)
        ),
        L.K_CHANNEL_CONV: Kernel(
            kernels.channel_convolution, "convolution by channels", _convolution, _sizes, _tile
        ),
        L.K_CHANNEL_LINEAR: Kernel(
            kernels.channel_linear, "linear by channels", _linear, _linear_sizes, _tile
        ),
        L.K_CHANNEL_DEPTHWISE: Kernel(
            kernels.channel_depthwise, "depthwise by channels", _depthwise, _sizes
        ),
        L.K_CHANNEL_WINOGRAD: Kernel(
            kernels.channel_winograd, "Winograd by channels", _winograd, _winograd_sizes, _tile
        ),
    }
)
