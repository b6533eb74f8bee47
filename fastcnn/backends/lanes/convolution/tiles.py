"""The register tiles of convolutions that describe names."""

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import Row
from fastcnn.backends.lanes.kernels.record import clipped
from fastcnn.codegen.target import blocking, tile_heights

#: Positions of a convolution's tile and taps of a weight gradient's by their channels, as in
#: direct/kernels.py.
CONV_WIDTHS = {8: 3, 6: 4, 4: 4, 2: 8, 1: 8}
GRADIENT_WIDTHS = {4: 5, 2: 5, 1: 8}


def product_tile(r: Row) -> str:
    pooled = r[L.MODE] == L.POOLED and r[L.KERNEL] == L.K_CONV
    height = next(height for height in tile_heights(pooled) if height <= r[L.CHANNELS])
    largest = blocking().windows if pooled else blocking().products
    return clipped((height, CONV_WIDTHS[height]), largest)


def gradient_tile(r: Row) -> str:
    height = next(height for height in GRADIENT_WIDTHS if height <= r[L.CHANNELS])
    return clipped((height, GRADIENT_WIDTHS[height]), blocking().gradients)


def depthwise_tile(r: Row) -> str:
    return clipped((1, CONV_WIDTHS[1]), blocking().windows)


def depthwise_gradient_tile(r: Row) -> str:
    return clipped((1, 9 if r[L.TAPS] > 5 else 5), blocking().gradients)
