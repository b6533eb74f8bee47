"""Winograd's transforms of 3x3 kernels with stride 2, and everything that depends on the stride.

With stride 2 the even rows of the input are multiplied with the first and last row of the kernel,
and the odd rows with its middle row; likewise for columns. Four outputs of a row need F(4, 2) of
five even pixels and products of four odd ones: nine products instead of twelve, in both directions
81 instead of 144. A tile has those of even rows and columns, of even rows and odd columns, of odd
rows and even columns, and of odd rows and columns. The last three share weights: 36 are distinct.
"""

from typing import Any, NamedTuple

import numpy as np

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry, halo_of
from fastcnn.backends.lanes.convolution.winograd import (
    OUTPUTS,
    Matrix,
    flipped_padding,
    tile_starts,
    transforms,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import MATRICES, PRODUCTS, SIDE
from fastcnn.backends.lanes.convolution.winograd_tiles import emit_product
from fastcnn.backends.lanes.planning.buffers import Halo

#: The transforms of even pixels.
EVEN = transforms(2, (0, 1, -1, 2))
#: Products of even pixels in one direction, and of odd ones.
EVENS, ODDS = len(EVEN.weight), OUTPUTS
STRIDED_SIDE = EVENS + ODDS
STRIDED_PRODUCTS = STRIDED_SIDE**2
#: Even and odd pixels of both directions are four phases. Per phase: whether its rows and columns
#: are odd; its first product, and its first weight; its weights, and the products of each weight.
#: With two threads each computes two phases: 41 and 40 products in total.
ODD_ROWS, ODD_COLUMNS = (0, 1, 0, 1), (0, 1, 1, 0)
FIRST_PRODUCT = (0, EVENS * EVENS + 2 * EVENS * ODDS, EVENS * EVENS, EVENS * (EVENS + ODDS))
FIRST_WEIGHT = (0, EVENS * EVENS + 2 * EVENS, EVENS * EVENS, EVENS * EVENS + EVENS)
WEIGHTS, SHARING = (EVENS * EVENS, 1, EVENS, EVENS), (1, ODDS * ODDS, ODDS, ODDS)
PHASES = len(WEIGHTS)
#: Products of the largest phase.
LARGEST = EVENS * EVENS


class Transform(NamedTuple):
    """Everything that depends on the stride."""

    stride: int
    #: Pixels of a tile of the input in each direction.
    side: int
    #: Products of a tile.
    products: int
    #: Vector operations of a tile's transforms, for a block of channels.
    input: int
    output: int


#: By stride.
TRANSFORMS = {
    1: Transform(1, SIDE, PRODUCTS, 220, 200),
    2: Transform(2, STRIDED_SIDE, STRIDED_PRODUCTS, 330, 250),
}


def emit_phase(
    builder: Any, matrix: Matrix, odd: tuple[int, int], pixels: list[list[Any]]
) -> list[list[Any]]:
    """Apply ``matrix`` to a phase's values, in the directions in which it is not odd."""
    if not odd[0]:
        columns = [
            emit_product(builder, matrix, list(column)) for column in zip(*pixels, strict=True)
        ]
        pixels = [list(row) for row in zip(*columns, strict=True)]
    return pixels if odd[1] else [emit_product(builder, matrix, row) for row in pixels]


def transform_of(g: ConvGeometry) -> Transform | None:
    """The transform of a convolution, if there is one."""
    down, along = g.stride
    is_dilated = g.dilation != (1, 1)
    if g.kernel != (3, 3) or g.groups > 1 or down != along or (is_dilated and down > 1):
        return None
    return TRANSFORMS.get(down)


def tile_halo(g: ConvGeometry, transform: Transform) -> Halo:
    """Padding of the input that whole tiles read."""
    return _tile_halo(g, transform, g.padding, g.input, g.output)


def flipped_halo(g: ConvGeometry) -> Halo:
    """Padding of the output's gradient that whole tiles of the flipped kernel's product read."""
    return _tile_halo(g, TRANSFORMS[1], flipped_padding(g), g.output, g.input)


def _tile_halo(
    g: ConvGeometry,
    transform: Transform,
    padding: tuple[int, ...],
    source: tuple[int, ...],
    target: tuple[int, ...],
) -> Halo:
    def sides(axis: int) -> tuple[int, int]:
        last = transform.stride * int(tile_starts(target[axis], g.dilation[axis])[-1])
        after = last + g.dilation[axis] * (transform.side - 1) - padding[axis] - source[axis] + 1
        return max(0, padding[axis]), max(0, after)

    return halo_of(sides)


def first_gradient(padding: int) -> int:
    """First row (or column) of the output's gradient that the transpose's first tile reads."""
    return -(-padding // 2) - 1


def transposed_halo(g: ConvGeometry) -> Halo:
    """Padding of the output's gradient that tiles of 8x8 pixels of the input read."""

    def sides(axis: int) -> tuple[int, int]:
        first = first_gradient(g.padding[axis])
        last = first + OUTPUTS * (-(-g.input[axis] // (2 * OUTPUTS)) - 1) + EVENS - 1
        return max(0, -first), max(0, last - g.output[axis] + 1)

    return halo_of(sides)


def transformed_weights(weight: np.ndarray, transform: Transform) -> np.ndarray:
    """The 36 distinct weights of kernels of shape (outputs, inputs, 3, 3); float64 (36, ...)."""
    weight = weight.astype(np.float64)
    if transform.stride == 1:
        made = MATRICES.weight @ weight @ MATRICES.weight.T
        return np.moveaxis(made.reshape(*weight.shape[:2], PRODUCTS), -1, 0)
    even, (outer, middle) = EVEN.weight, (slice(None, None, 2), 1)
    parts = (
        even @ weight[:, :, outer, outer] @ even.T,
        weight[:, :, outer, middle] @ even.T,
        weight[:, :, middle, outer] @ even.T,
        weight[:, :, middle, middle],
    )
    flat = np.concatenate([part.reshape(*weight.shape[:2], -1) for part in parts], axis=2)
    return np.moveaxis(flat, -1, 0)


def weights_of_products(transform: Transform) -> np.ndarray:
    """Index of the weight of each product."""
    if transform.stride == 1:
        return np.arange(PRODUCTS)
    both, one = EVENS * EVENS, np.arange(EVENS)
    return np.concatenate(
        [
            np.arange(both),
            np.repeat(both + one, ODDS),
            np.tile(both + EVENS + one, ODDS),
            np.full(ODDS * ODDS, both + 2 * EVENS),
        ]
    )
