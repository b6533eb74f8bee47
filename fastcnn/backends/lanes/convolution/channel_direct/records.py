"""Costs and records of the kernels with a channel in each lane.

FLOPs count real channels where a row knows their number; elsewhere they include idle lanes.
"""

from fastcnn.backends.lanes.convolution.channel_direct import kernels, reach
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.record import numbered, sizes_of
from fastcnn.codegen.simd import LANES

VECTOR_BYTES = FLOAT_BYTES * LANES
#: Operations of a horizontal sum of one vector, where 16 are reduced together.
SUM = 6
#: Relative speed of tiles of one channel block, which load a scalar for each product.
ONE_VECTOR = 0.7


def _input(r: Row) -> Cost:
    return Cost(2 * r[L.IN] * r.batch, r[L.IN] * r.batch, FLOAT_BYTES * r[L.IN] * r.batch)


def _output(r: Row) -> Cost:
    size = FLOAT_BYTES * r[L.IN] * r.batch
    return Cost(0, size, size)


def times_of(r: Row) -> tuple[int, int]:
    """Positions of all samples, and how often weights are read: once if a row covers them all."""
    return (r[L.MODE] * r.batch, 1) if r[L.MODE] else (r[L.POSITIONS] * r.batch, r.batch)


def _convolution(r: Row) -> Cost:
    positions, times = times_of(r)
    vectors = r[L.GROUPS] * r[L.CHANNELS] * positions
    weights = r[L.GROUPS] * r[L.CHANNELS] * r[L.TAPS]
    flops = 2 * LANES * vectors * r[L.TAPS]
    return Cost(flops, VECTOR_BYTES * weights * times, VECTOR_BYTES * vectors)


def _depthwise(r: Row) -> Cost:
    vectors = r[L.CHANNELS] * r[L.POSITIONS] * r.batch
    return Cost(2 * LANES * vectors * r[L.TAPS], VECTOR_BYTES * vectors, VECTOR_BYTES * vectors)


def _dot(r: Row) -> Cost:
    positions, times = times_of(r)
    products, written = r[L.OUT] * r[L.TAPS], VECTOR_BYTES * positions
    read = VECTOR_BYTES * products * times
    return Cost(2 * LANES * (products + SUM * r[L.OUT]) * positions, read, written)


def _sizes(r: Row) -> str:
    positions = r[L.MODE] or r[L.POSITIONS]
    return f"{r[L.CHANNELS]} x 16 channels, {positions} positions, {r[L.TAPS]} taps"


def _dot_sizes(r: Row) -> str:
    positions = r[L.MODE] or r[L.POSITIONS]
    return f"{r[L.OUT]} channels, {positions} positions, {r[L.TAPS]} x 16 taps"


def tile_of(r: Row) -> str:
    blocks = kernels.blocks_of_tile(r[L.CHANNELS])
    return f"{blocks}x{kernels.WIDTHS[blocks]}"


K_CHANNEL_INPUT = numbered(
    kernels.channel_input,
    "input by channels",
    _input,
    sizes_of(L.IN),
    touches=reach.channel_input,
    of_run="images",
)
K_CHANNEL_OUTPUT = numbered(
    kernels.channel_output,
    "output by channels",
    _output,
    sizes_of(L.IN),
    touches=reach.channel_output,
    of_run="outputs",
)
K_CHANNEL_CONV = numbered(
    kernels.channel_convolution,
    "convolution by channels",
    _convolution,
    _sizes,
    tile_of,
    touches=reach.channel_convolution,
    one_vector=ONE_VECTOR,
)
K_CHANNEL_DEPTHWISE = numbered(
    kernels.channel_depthwise,
    "depthwise by channels",
    _depthwise,
    _sizes,
    touches=reach.channel_depthwise,
    speed=0.48,
)
K_CHANNEL_DOT = numbered(
    kernels.channel_dot, "convolution to few channels", _dot, _dot_sizes, touches=reach.channel_dot
)
