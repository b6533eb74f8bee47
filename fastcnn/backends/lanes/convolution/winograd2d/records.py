"""Costs and records of F(4x4, 3x3): the products and additions actually executed."""

from collections.abc import Callable
from functools import partial

from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, Matrix, operations
from fastcnn.backends.lanes.convolution.winograd2d import gradient_kernels as of_weights
from fastcnn.backends.lanes.convolution.winograd2d import kernels, reach
from fastcnn.backends.lanes.convolution.winograd2d.edge_tiles import FEW, SIDES, Side
from fastcnn.backends.lanes.convolution.winograd2d.strided import (
    EVEN,
    EVENS,
    ODDS,
    TRANSFORMS,
    Transform,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided_gradient_kernels import (
    winograd2d_strided_gradient,
)
from fastcnn.backends.lanes.convolution.winograd2d.tiles import (
    HEIGHTS,
    MATRICES,
    PRODUCTS,
    SIDE,
    WIDTH,
)
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.kernels import winograd2d_adjoint
from fastcnn.backends.lanes.convolution.winograd2d_adjoint.strided_kernels import (
    winograd2d_strided_adjoint,
)
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.record import clipped, numbered, sizes_of
from fastcnn.codegen.simd import LANES
from fastcnn.codegen.target import blocking


def gradient_tile(r: Row) -> str:
    """The register tile of most products of a weight gradient."""
    return clipped((8, 2) if r[L.CHANNELS] > LANES else (16, 1), blocking().products)


def product_tile(r: Row) -> str:
    """The register tile of most products."""
    height = next(height for height in HEIGHTS if height <= r[L.CHANNELS])
    return clipped((height, min(WIDTH, r[L.TAPS])), blocking().products)


def _tiles(r: Row) -> tuple[int, int, int]:
    """Input channels, output channels and tiles of a row of F(4x4, 3x3)."""
    return r[L.IN], r[L.CHANNELS], r[L.POSITIONS]


def pixels_written(r: Row, side: int) -> int:
    """Pixels of a channel, written by tiles of ``side`` rows and columns or fewer."""
    left = r.table(L.STRIP_TABLE, 2 * r[L.POSITIONS]).reshape(-1, 2).clip(max=side)
    return int(left.prod(axis=1).sum())


def both_ways(matrix: Matrix) -> int:
    """Additions and multiplications of ``matrix @ tile @ matrix.T``."""
    return sum(matrix.shape) * operations(matrix)


def _along(down: Matrix, along: Matrix) -> int:
    """Additions and multiplications of ``down @ tile @ along.T``."""
    return along.shape[1] * operations(down) + down.shape[0] * operations(along)


def _of_edges(r: Row, windows: bool, cost: Callable[[tuple[Side, Side]], int]) -> int:
    """The total cost of all tiles, some of which have few rows or columns."""
    few = FEW // 2 if windows else FEW
    left = r.table(L.STRIP_TABLE, 2 * r[L.POSITIONS]).reshape(-1, 2) <= few
    return sum(cost((SIDES[int(down)], SIDES[int(along)])) for down, along in left.tolist())


def _transforms(stride: int) -> tuple[Transform, int, int]:
    """The transform, and operations for a tile of an input channel and of an output channel."""
    if stride == 1:
        outputs = both_ways(MATRICES.output) + OUTPUTS * OUTPUTS
        return TRANSFORMS[1], both_ways(MATRICES.input), outputs
    down, sums = operations(EVEN.output), OUTPUTS * (3 * OUTPUTS + EVENS)
    inputs = both_ways(EVEN.input) + 2 * ODDS * operations(EVEN.input)
    return TRANSFORMS[2], inputs, (2 * OUTPUTS + EVENS) * down + sums


def product(r: Row, edge: bool) -> Cost:
    """The cost of F(4x4, 3x3) forward."""
    inputs, outputs, tiles = _tiles(r)
    side = OUTPUTS // 2 if r[L.MODE] == L.POOLED else OUTPUTS
    pixels = outputs * pixels_written(r, side)
    transform, of_input, of_output = _transforms(r[L.DOWN])
    flops = 2 * transform.products * inputs * outputs + of_input * inputs + of_output * outputs
    flops *= tiles
    if edge:
        cost = partial(_edge_product, inputs=inputs, outputs=outputs)
        flops = _of_edges(r, r[L.MODE] == L.POOLED, cost)
    written = pixels * (2 if r[L.MODE] == L.POOLED else 1)
    read = (transform.stride * OUTPUTS) ** 2 * tiles * inputs
    read += pixels if r[L.MODE] in (L.MASKED, L.ADDED) else 0
    numbers = 0
    if r[L.MOMENTS]:
        flops, numbers = flops + 4 * pixels, 2 * outputs * -(-tiles // (r[L.TAPS] * r[L.GROUPS]))
    return r.cost(
        flops, read, written, partial=numbers, parameters_read=PRODUCTS * inputs * outputs
    )


def _products(of: tuple[Side, Side], inputs: int, outputs: int) -> int:
    return 2 * len(of[0].points) * len(of[1].points) * inputs * outputs


def _edge_product(of: tuple[Side, Side], inputs: int, outputs: int) -> int:
    pixels = len(of[0].of.output) * len(of[1].of.output)
    flops = _products(of, inputs, outputs)
    flops += _along(*(side.of.input for side in of)) * inputs
    return flops + (_along(*(side.of.output for side in of)) + pixels) * outputs


def _edge_adjoint(of: tuple[Side, Side], inputs: int, outputs: int) -> int:
    flops = _products(of, inputs, outputs)
    flops += _along(*(side.of.output.T for side in of)) * inputs
    back = _along(*(side.of.input.T for side in of)) + CARRIED + OUTPUTS * OUTPUTS
    return flops + back * outputs


def _edge_gradient(of: tuple[Side, Side], inputs: int, outputs: int) -> int:
    flops = _products(of, inputs, outputs) + _along(*(side.of.input for side in of)) * inputs
    return flops + _along(*(side.of.output.T for side in of)) * outputs


#: Additions of the pixels carried over from adjacent tiles.
CARRIED = SIDE * SIDE - OUTPUTS * OUTPUTS


def adjoint_product(r: Row, windows: bool, edge: bool) -> Cost:
    """The cost of the transpose."""
    inputs, outputs, tiles = _tiles(r)
    pixels = outputs * r[L.Y_ROWS] * r[L.Y_WIDTH]
    flops = 2 * PRODUCTS * inputs * outputs + both_ways(MATRICES.output.T) * inputs
    flops += (both_ways(MATRICES.input.T) + CARRIED + OUTPUTS * OUTPUTS) * outputs
    flops *= tiles
    if edge:
        flops = _of_edges(r, windows, partial(_edge_adjoint, inputs=inputs, outputs=outputs))
    read = _gradients_of_tile(windows) * tiles * inputs + (pixels if r[L.MODE] == L.MASKED else 0)
    parameters = PRODUCTS * inputs * outputs
    return r.cost(flops, read, pixels, parameters_read=parameters)


def _gradients_of_tile(windows: bool) -> int:
    """Floats read per tile of an output's gradient: pixels, or windows and their argmax."""
    return 2 * OUTPUTS if windows else OUTPUTS * OUTPUTS


def strided_adjoint(r: Row) -> Cost:
    """The cost of the transpose with stride 2."""
    inputs, outputs, tiles = _tiles(r)
    side = 2 * OUTPUTS
    pixels = outputs * pixels_written(r, side)
    transform, of_input, _ = _transforms(2)
    of_output = both_ways(EVEN.output) + 2 * ODDS * operations(EVEN.output) + side * side
    flops = 2 * transform.products * inputs * outputs + of_input * inputs + of_output * outputs
    read = OUTPUTS * OUTPUTS * tiles * inputs + (pixels if r[L.MODE] == L.MASKED else 0)
    parameters = PRODUCTS * inputs * outputs
    return r.cost(tiles * flops, read, pixels, parameters_read=parameters)


def gradient(r: Row, stride: int = 1, windows: bool = False, edge: bool = False) -> Cost:
    """The cost of one block's gradient of transformed weights, or of weights."""
    inputs, outputs, tiles = _tiles(r)
    transform, of_input, _ = _transforms(stride)
    if stride == 1:
        of_output = both_ways(MATRICES.output.T)
    else:
        of_output = (OUTPUTS + EVENS + 2 * ODDS) * operations(EVEN.output.T)
    flops = 2 * transform.products * inputs * outputs + of_input * inputs + of_output * outputs
    flops *= tiles
    if edge:
        flops = _of_edges(r, windows, partial(_edge_gradient, inputs=inputs, outputs=outputs))
    pixels = OUTPUTS * OUTPUTS * tiles * stride * stride * inputs
    pixels += _gradients_of_tile(windows) * tiles * outputs
    if stride == 1 and r[L.BIAS] >= 0:
        flops += tiles * outputs
    if r[L.OUT]:
        return r.cost(flops, pixels, 0, partial=PRODUCTS * inputs * outputs)
    back = _back(stride) * inputs * outputs * r.blocks
    return r.cost(flops, pixels, 0, partial=9 * inputs * outputs) + Cost(back, 0, 0)


def _back(stride: int) -> int:
    """Operations from 36 sums to the gradient of a kernel."""
    if stride == 1:
        return both_ways(MATRICES.weight.T)
    return both_ways(EVEN.weight.T) + 2 * operations(EVEN.weight.T)


def weight_gradient(r: Row) -> Cost:
    """The cost of one block's gradient of kernels from that of their transforms."""
    flops, count = _back(r[L.DOWN]), r[L.IN] * r.blocks
    return Cost(flops * count, FLOAT_BYTES * PRODUCTS * count, FLOAT_BYTES * 9 * count)


def sizes(r: Row) -> str:
    """Channels and tiles."""
    inputs, outputs, tiles = _tiles(r)
    return f"{inputs} to {outputs}, {tiles} tiles"


def weights(r: Row) -> Cost:
    """The cost of transforming kernels."""
    flops = both_ways(MATRICES.weight) * r[L.IN]
    return Cost(flops, 9 * FLOAT_BYTES * r[L.IN], PRODUCTS * FLOAT_BYTES * r[L.IN])


def _forward(edge: bool, dilated: bool) -> int:
    return numbered(
        kernels.winograd2d,
        "Winograd 2-D",
        partial(product, edge=edge),
        sizes,
        product_tile,
        fixed={"edge": edge, "dilated": dilated},
        touches=partial(reach.product, edge=edge, dilated=dilated),
        speed=0.88,
        gradients=("x",),
    )


def _adjoint(windows: bool, edge: bool) -> int:
    return numbered(
        winograd2d_adjoint,
        "Winograd 2-D transposed",
        partial(adjoint_product, windows=windows, edge=edge),
        sizes,
        product_tile,
        fixed={"pooled": windows, "edge": edge},
        touches=partial(reach.adjoint, windows=windows, edge=edge),
        gradients=("x",),
    )


def _gradient(windows: bool, edge: bool, dilated: bool) -> int:
    return numbered(
        of_weights.winograd2d_gradient,
        "Winograd 2-D gradient",
        partial(gradient, windows=windows, edge=edge),
        sizes,
        gradient_tile,
        fixed={"pooled": windows, "edge": edge, "dilated": dilated},
        touches=partial(reach.gradient_of_transforms, windows=windows, edge=edge, dilated=dilated),
        gradients=("weight", "bias"),
    )


K_WINOGRAD2D_WEIGHTS = numbered(
    kernels.winograd2d_weights,
    "Winograd 2-D weights",
    weights,
    sizes_of(L.IN),
    touches=reach.weights,
    before_backward=True,
    gradients=("x",),
)
#: By whether tiles at the edge have fewer products, and whether kernels are dilated.
K_WINOGRAD2D = {
    (edge, dilated): _forward(edge, dilated) for dilated in (False, True) for edge in (False, True)
}
#: By whether the gradients are those of windows, and by the edge.
K_WINOGRAD2D_ADJOINT = {
    (windows, edge): _adjoint(windows, edge) for windows in (False, True) for edge in (False, True)
}
K_WINOGRAD2D_STRIDED_ADJOINT = numbered(
    winograd2d_strided_adjoint,
    "Winograd 2-D transposed",
    strided_adjoint,
    sizes,
    product_tile,
    touches=reach.strided_adjoint,
    gradients=("x",),
)
#: By windows, edge and dilation.
K_WINOGRAD2D_GRADIENT = {
    (windows, edge, dilated): _gradient(windows, edge, dilated)
    for windows, dilated in ((False, False), (False, True), (True, False))
    for edge in (False, True)
}
K_WINOGRAD2D_STRIDED_GRADIENT = numbered(
    winograd2d_strided_gradient,
    "Winograd 2-D gradient",
    partial(gradient, stride=2),
    sizes,
    gradient_tile,
    touches=partial(reach.gradient_of_transforms, stride=2),
    gradients=("weight",),
)
K_WINOGRAD2D_WEIGHT_GRADIENT = numbered(
    of_weights.winograd2d_weight_gradient,
    "Winograd 2-D weights",
    weight_gradient,
    sizes_of(L.IN),
    touches=reach.weight_gradient,
    gradients=("weight",),
)
