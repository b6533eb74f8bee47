"""The cost and record of the kernel."""

from fastcnn.backends.lanes.convolution.channel_direct import records
from fastcnn.backends.lanes.convolution.channel_winograd1d import kernels, reach
from fastcnn.backends.lanes.convolution.channel_winograd1d.geometry import OF_POINT
from fastcnn.backends.lanes.convolution.winograd import points, tiles
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.kernels.record import numbered
from fastcnn.codegen.simd import LANES


def _rows(r: Row) -> Cost:
    """Cost of the products, and of the transforms' operations."""
    products, outputs, along = points(r[L.TAPS]), r[L.CHANNELS], tiles(r[L.Y_WIDTH])
    count = r[L.Y_ROWS] * along * r.batch
    flops = 2 * LANES * products * r[L.IN] * outputs * count
    flops += LANES * OF_POINT * products * (r[L.EXTRA] + outputs) * count
    read = records.VECTOR_BYTES * products * r[L.IN] * outputs * r.batch
    return Cost(flops, read, records.VECTOR_BYTES * r[L.Y_ROWS] * r[L.Y_WIDTH] * outputs * r.batch)


def _sizes(r: Row) -> str:
    across = tiles(r[L.Y_WIDTH])
    return f"{r[L.IN]} taps to {r[L.CHANNELS]} x 16 channels, {r[L.Y_ROWS]} x {across} tiles"


K_CHANNEL_ROWS = numbered(
    kernels.channel_rows,
    "Winograd along rows by channels",
    _rows,
    _sizes,
    records.tile_of,
    touches=reach.channel_rows,
    speed=0.75,
    one_vector=records.ONE_VECTOR,
    strength_reduction=False,
)
