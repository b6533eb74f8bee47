"""The kernel of weight gradients by F(4x4, 3x3) over the whole batch.

As in winograd2d/gradient_kernels.py, but each thread computes some output channels for all blocks:
sums over the batch are added to the gradient directly, and blocks have no partial gradients.
"""

from fastcnn.backends.lanes.convolution.winograd import STAGGER
from fastcnn.backends.lanes.convolution.winograd2d.gradient_kernels import (
    TILE_PIXELS,
    gradient_room,
    products_of_samples,
    transform_gradients,
    transform_inputs,
)
from fastcnn.backends.lanes.convolution.winograd2d.gradient_tiles import PIXEL, PRODUCT, TILE
from fastcnn.backends.lanes.convolution.winograd2d.tiles import PRODUCTS, SIDE, weight_gradient_tile
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.division import MISSING, NOUGHT, share
from fastcnn.codegen import linked, simd
from fastcnn.codegen.transpose_tiles import transpose_tile

LANES = simd.LANES
#: Weights of a kernel.
TAPS_OF_KERNEL = 9


def batch_gradient_room(inputs: int, together: tuple[int, int], strip: int, tiles: int) -> int:
    """Floats of a thread's scratch memory, with ``together`` inputs and outputs at a time."""
    return gradient_room(inputs, together, strip, tiles, own=True) + TAPS_OF_KERNEL * PIXEL


@linked
def kernels_of_sums(A, G, e, apart, row, made, g):
    """The gradients of 16 outputs by 16 inputs from those of their products.

    MADE is scratch for them. Sums of two products are APART, rows of weights in G ROW.
    """
    for c in range(LANES):
        kernel = made + c * TAPS_OF_KERNEL * LANES
        weight_gradient_tile(A, e + c * LANES, apart, A, kernel, LANES)
    for k in range(TAPS_OF_KERNEL):
        transpose_tile(A, made + k * PIXEL, LANES, G, g + k * LANES, row)


@linked
def winograd2d_batch_gradient(A, T, G, r, blocks, worker, part, parts):
    """The weight gradient of the whole batch; a unit is GROUPS output channels.

    X is the input with IN channels, Y the output's gradient with CHANNELS, both multiples of 16.
    X_TABLE and Y_TABLE have the offsets of POSITIONS tiles of each block; TAPS of all tiles, and
    X_GROUP inputs, are transformed at a time.
    """
    inputs, channels, strip, tiles = r[L.IN], r[L.CHANNELS], r[L.TAPS], blocks * r[L.POSITIONS]
    step = strip * TILE
    transformed = r[L.Z] + worker * r[L.Z_SLOT]
    grads = transformed + r[L.X_GROUP] // LANES * step
    turned = grads + r[L.GROUPS] // LANES * step
    kernels = turned + TILE_PIXELS * PIXEL
    sums = kernels + TAPS_OF_KERNEL * PIXEL
    apart, row = r[L.X_GROUP] * r[L.GROUPS] + STAGGER, TAPS_OF_KERNEL * inputs
    # Sums of some inputs are kept for the next strip, if there is one.
    kept = PRODUCTS * apart if strip < tiles else 0
    first, last = share((channels + r[L.GROUPS] - 1) // r[L.GROUPS], part, parts)
    for unit in range(first, last):
        o0 = unit * r[L.GROUPS]
        made = min(r[L.GROUPS], channels - o0)
        for p0 in range(0, tiles, strip):
            count, d = min(strip, tiles - p0), r[L.Y] + o0 * r[L.Y_CHANNEL]
            rest = p0, count, made, NOUGHT, SIDE, turned, grads, step, False
            transform_gradients(A, T, r, LANES, d, *rest)
            for c0 in range(0, inputs, r[L.X_GROUP]):
                some, x = min(r[L.X_GROUP], inputs - c0), r[L.X] + c0 * r[L.X_CHANNEL]
                rest = p0, count, some, NOUGHT, SIDE, transformed, step, MISSING
                transform_inputs(A, T, r, LANES, x, *rest)
                target, column = sums + c0 // r[L.X_GROUP] * kept, some * LANES
                for k in range(PRODUCTS):
                    v, e, g = transformed + k * PRODUCT, grads + k * PRODUCT, target + k * apart
                    rest = v, step, TILE, e, step, g, column, p0 > 0
                    products_of_samples(A, some, made // LANES, count, *rest)
                if p0 + count == tiles:
                    for o in range(0, made, LANES):
                        for c in range(0, some, LANES):
                            e = target + o * some + c * LANES
                            g = r[L.W] + (o0 + o) * row + (c0 + c) * TAPS_OF_KERNEL
                            kernels_of_sums(A, G, e, apart, row, kernels, g)
