"""Winograd's transforms of 3x3 kernels with stride 2, and what depends on the stride.

With stride 2 the even rows of the input meet the first and last row of the kernel, and the odd rows
its middle row; so do columns. Four outputs of a row take F(4, 2) of five even pixels and products
of four odd ones: nine products instead of twelve, in both directions 81 instead of 144. A tile has
those of even rows and columns, of even rows and odd columns, of odd rows and even columns, and of
odd ones. The last three share weights: 36 are different.
"""

from typing import Any, NamedTuple

import numpy as np

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, tiles, transforms
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    MATRICES,
    PRODUCTS,
    SIDE,
    load_kernels,
    store_outputs,
    store_windows,
)
from fastcnn.backends.lanes.convolution.winograd_tiles import (
    emit_both_ways,
    emit_product,
    load_all,
    store_all,
)
from fastcnn.backends.lanes.planning.buffers import Halo
from fastcnn.codegen.emitter import Emitter, tile
from fastcnn.codegen.simd import LANES

#: Of even pixels.
EVEN = transforms(2, (0, 1, -1, 2))
#: Products of even pixels in a direction, and of odd ones.
EVENS, ODDS = len(EVEN.weight), OUTPUTS
STRIDED_SIDE = EVENS + ODDS
STRIDED_PRODUCTS = STRIDED_SIDE**2


class Transform(NamedTuple):
    """What depends on the stride.

    Attributes
    ----------
    stride : int
    side, products : int
        Pixels of a tile of the input in each direction; products of a tile.
    input, output : int
        Vector operations of a tile's transforms, for a block of channels.
    """

    stride: int
    side: int
    products: int
    input: int
    output: int


#: By stride.
TRANSFORMS = {
    1: Transform(1, SIDE, PRODUCTS, 220, 200),
    2: Transform(2, STRIDED_SIDE, STRIDED_PRODUCTS, 330, 250),
}


def transform_of(g: ConvGeometry) -> Transform | None:
    """The transform of a convolution, if there is one."""
    down, along = g.stride
    if g.kernel != (3, 3) or g.dilation != (1, 1) or g.groups > 1 or down != along:
        return None
    return TRANSFORMS.get(down)


def tile_halo(g: ConvGeometry, transform: Transform) -> Halo:
    """Zeros that whole tiles read around the input."""
    sides = []
    for axis in (0, 1):
        last = transform.stride * OUTPUTS * (tiles(g.output[axis]) - 1) + transform.side - 1
        after = last - g.padding[axis] - g.input[axis] + 1
        sides += [max(0, g.padding[axis]), max(0, after)]
    return (sides[0], sides[1], sides[2], sides[3])


def transformed_weights(weight: np.ndarray, transform: Transform) -> np.ndarray:
    """The 36 different weights of kernels of shape (outputs, inputs, 3, 3); float64 (36, ...)."""
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
    """Which of the weights each product takes."""
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


@tile(0)
def strided_input_tile(at: Emitter, X: Any, x0: Any, xrow: Any, V: Any, v0: Any, step: Any) -> None:
    """The transforms of 9x9 pixels of the input, ``step`` apart."""
    place = v0
    for first in (0, 1):
        rows = range(first, STRIDED_SIDE, 2)
        for start in (0, 1):
            pixels = [
                load_all(
                    at,
                    len(range(start, STRIDED_SIDE, 2)),
                    X,
                    at.offset(at.offset(x0, i, xrow), start, LANES),
                    2 * LANES,
                )
                for i in rows
            ]
            if not first and not start:
                pixels = emit_both_ways(at.builder, EVEN.input, pixels)
            elif not first:
                columns = [
                    emit_product(at.builder, EVEN.input, list(column))
                    for column in zip(*pixels, strict=True)
                ]
                pixels = [list(row) for row in zip(*columns, strict=True)]
            elif not start:
                pixels = [emit_product(at.builder, EVEN.input, row) for row in pixels]
            flat = [value for row in pixels for value in row]
            store_all(at, flat, V, place, step)
            place = at.offset(place, len(flat), step)


def emit_strided_outputs(at: Emitter, S: Any, s0: Any, step: Any, bias: Any) -> list[list[Any]]:
    """The 4x4 outputs of 81 products, with their bias."""
    builder = at.builder

    def take(first: int, rows: int, columns: int) -> list[list[Any]]:
        return [
            load_all(at, columns, S, at.offset(s0, first + i * columns, step), step)
            for i in range(rows)
        ]

    def down(values: list[list[Any]]) -> list[list[Any]]:
        made = [
            emit_product(builder, EVEN.output, list(column)) for column in zip(*values, strict=True)
        ]
        return [list(row) for row in zip(*made, strict=True)]

    def added(values: list[list[Any]], more: list[list[Any]]) -> list[list[Any]]:
        return [
            [builder.fadd(value, other) for value, other in zip(row, others, strict=True)]
            for row, others in zip(values, more, strict=True)
        ]

    second, third = EVENS * EVENS, EVENS * (EVENS + ODDS)
    even = added(down(take(0, EVENS, EVENS)), take(third, ODDS, EVENS))
    across = [emit_product(builder, EVEN.output, row) for row in even]
    odd = added(down(take(second, EVENS, ODDS)), take(third + ODDS * EVENS, ODDS, ODDS))
    return [[builder.fadd(value, bias) for value in row] for row in added(across, odd)]


@tile(0)
def strided_output_tile(
    at: Emitter,
    S: Any,
    s0: Any,
    step: Any,
    B: Any,
    b0: Any,
    Y: Any,
    y0: Any,
    yrow: Any,
    rows: Any,
    columns: Any,
    spare: Any,
    relu: Any,
    met: Any,
) -> None:
    """As ``output_tile``."""
    outputs = emit_strided_outputs(at, S, s0, step, at.bias(B, b0, 1)[0])
    store_outputs(at, outputs, Y, y0, yrow, (rows, columns, spare), relu, met)


@tile(0)
def strided_pooled_tile(
    at: Emitter,
    S: Any,
    s0: Any,
    step: Any,
    B: Any,
    b0: Any,
    Y: Any,
    y0: Any,
    I: Any,
    i0: Any,
    yrow: Any,
    rows: Any,
    columns: Any,
    spare: Any,
    relu: Any,
) -> None:
    """As ``pooled_output_tile``."""
    outputs = emit_strided_outputs(at, S, s0, step, at.bias(B, b0, 1)[0])
    store_windows(at, outputs, (Y, y0), (I, i0), yrow, (rows, columns, spare), relu)


@tile(0)
def strided_weight_tile(
    at: Emitter, P: Any, places: Any, p0: Any, direction: Any, U: Any, u0: Any, step: Any
) -> None:
    """The 36 different weights of 16 kernels, as ``transformed_weights`` has them."""
    builder, kernels = at.builder, load_kernels(at, P, places, p0, direction)
    outer = [[kernels[0][0], kernels[0][2]], [kernels[2][0], kernels[2][2]]]
    made = [value for row in emit_both_ways(builder, EVEN.weight, outer) for value in row]
    made += emit_product(builder, EVEN.weight, [kernels[0][1], kernels[2][1]])
    made += emit_product(builder, EVEN.weight, [kernels[1][0], kernels[1][2]])
    store_all(at, [*made, kernels[1][1]], U, u0, step)
