"""The cost and record of the kernel."""

from functools import partial

from fastcnn.backends.lanes.convolution.channel_direct import records
from fastcnn.backends.lanes.convolution.channel_winograd2d import kernels, reach
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS
from fastcnn.backends.lanes.convolution.winograd2d.strided import TRANSFORMS
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS as WEIGHTS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Cost, Row
from fastcnn.backends.lanes.kernels.record import numbered
from fastcnn.codegen.simd import LANES


def _winograd(r: Row) -> Cost:
    """Cost of the products, and of the transforms' additions and multiplications."""
    tiles, times = records.times_of(r)
    inputs, outputs, transform = r[L.IN], r[L.CHANNELS], TRANSFORMS[r[L.DOWN]]
    flops = 2 * LANES * transform.products * inputs * outputs * tiles
    flops += LANES * (transform.input * r[L.EXTRA] + transform.output * outputs) * tiles
    read = records.VECTOR_BYTES * WEIGHTS * inputs * outputs * times
    return Cost(flops, read, records.VECTOR_BYTES * OUTPUTS * OUTPUTS * outputs * tiles)


def _winograd_sizes(r: Row) -> str:
    tiles = r[L.MODE] or r[L.POSITIONS]
    return f"{r[L.IN]} to {r[L.CHANNELS]} x 16 channels, {tiles} tiles"


K_CHANNEL_WINOGRAD, K_CHANNEL_WINOGRAD_DILATED = (
    numbered(
        kernels.channel_winograd,
        "Winograd by channels",
        _winograd,
        _winograd_sizes,
        records.tile_of,
        fixed={"dilated": dilated},
        touches=partial(reach.channel_winograd, dilated=dilated),
        speed=0.9,
        one_vector=records.ONE_VECTOR,
        strength_reduction=False,
    )
    for dilated in (False, True)
)
