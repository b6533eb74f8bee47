"""Costs and records of F(4, r) along rows: the products and additions actually executed."""

from functools import partial

from fastcnn.backends.lanes.convolution.tiles import gradient_tile, product_tile
from fastcnn.backends.lanes.convolution.winograd import (
    OUTPUTS,
    Transforms,
    operations,
    points,
    transforms,
)
from fastcnn.backends.lanes.convolution.winograd1d import kernels, reach
from fastcnn.backends.lanes.convolution.winograd1d.kernels import STRIP_WIDTH
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row
from fastcnn.backends.lanes.kernels.record import numbered, sizes_of


def _of_width(r: Row) -> tuple[int, Transforms]:
    """Points of a tile, and the transforms, of a row of F(4, r)."""
    return points(r[L.TAPS]), transforms(r[L.TAPS])


def _strips(r: Row) -> tuple[int, int]:
    """Output rows, and the sum over them of the kernel rows that read inputs."""
    table = r.table(L.STRIP_TABLE, r[L.POSITIONS] * STRIP_WIDTH).reshape(-1, STRIP_WIDTH)
    return int(table[:, 1].sum()), int((table[:, 1] * (table[:, 3] - table[:, 2])).sum())


def _pieces(r: Row) -> int:
    """Pieces of a kernel row."""
    return r[L.MORE_TILES] + 1


def _input_pixels(r: Row) -> int:
    """Pixels of a channel of X that the tiles of all rows cover, without overlap."""
    return OUTPUTS * r[L.X_ROWS] * (r[L.GROUPS] + r[L.MORE_TILES])


def _output_pixels(r: Row, rows: int, back: bool) -> int:
    """Pixels of some rows of a channel of Y."""
    if not back and r[L.MODE] != L.POOLED:
        wide = min(rows, r[L.Y_ROWS])
        return wide * r[L.Y_WIDTH] + (rows - wide) * r[L.Y_LAST]
    return rows * r[L.Y_WIDTH]


def product(r: Row, back: bool) -> Cost:
    """The cost of F(4, r) forward, or backward to the input."""
    count, matrices = _of_width(r)
    rows, seen = _strips(r)
    inputs, outputs, tiles = r[L.IN], r[L.CHANNELS], r[L.GROUPS]
    source = matrices.output.T if back else matrices.input
    target = matrices.input.T if back else matrices.output
    flops = _input_pixels(r) // OUTPUTS * inputs * operations(source)
    flops += 2 * count * tiles * seen * inputs * _pieces(r) * outputs
    flops += rows * tiles * outputs * (operations(target) + (r[L.TAPS] - 1 if back else OUTPUTS))
    pixels = outputs * _output_pixels(r, rows, back)
    masked = pixels if r[L.MODE] == L.MASKED else 0
    edge = 0 if back else r[L.X_ROWS] * (r[L.TAPS] - 1)
    read = inputs * (_input_pixels(r) + edge) + masked
    packed = count * inputs * outputs * r[L.KERNEL_ROWS] * _pieces(r)
    return r.cost(flops, read, pixels, parameters_read=packed)


def gradient(r: Row) -> Cost:
    """The cost of one block's gradient of transformed weights."""
    count, matrices = _of_width(r)
    rows, _ = _strips(r)
    inputs, outputs, tiles = r[L.IN], r[L.CHANNELS], r[L.GROUPS]
    weights = count * inputs * outputs * r[L.KERNEL_ROWS] * _pieces(r)
    flops = _input_pixels(r) // OUTPUTS * inputs * operations(matrices.input)
    flops += rows * tiles * outputs * operations(matrices.output.T) + 2 * rows * tiles * weights
    read = inputs * (_input_pixels(r) + r[L.X_ROWS] * (r[L.TAPS] - 1))
    read += outputs * rows * OUTPUTS * tiles
    return r.cost(flops, read, 0, partial=weights * r[L.SHARES])


def weights(r: Row) -> Cost:
    """The cost of transforming rows of kernels."""
    count, matrices = _of_width(r)
    flops = operations(matrices.weight) * r[L.IN]
    return Cost(flops, FLOAT_BYTES * r[L.TAPS] * r[L.IN], FLOAT_BYTES * count * r[L.IN])


def reduction(r: Row) -> Cost:
    """The cost of the sum over blocks, and its transform to weight gradients."""
    count, matrices = _of_width(r)
    read = count * r[L.IN] * r.blocks * r[L.SHARES]
    flops = read + operations(matrices.weight.T) * r[L.IN]
    return Cost(flops, FLOAT_BYTES * read, FLOAT_BYTES * r[L.TAPS] * r[L.IN])


def _tile(r: Row) -> str:
    return gradient_tile(r, r[L.IN] * r[L.KERNEL_ROWS] * _pieces(r))


def sizes(r: Row) -> str:
    """Channels and tiles."""
    return f"{r[L.IN]} to {r[L.CHANNELS]}, {_strips(r)[0] * r[L.GROUPS]} tiles"


K_WINOGRAD1D_WEIGHTS = numbered(
    kernels.winograd1d_weights,
    "Winograd 1-D weights",
    weights,
    sizes_of(L.IN),
    gradients=("x",),
    touches=reach.weights,
    before_backward=True,
)
K_WINOGRAD1D, K_WINOGRAD1D_DILATED = (
    numbered(
        kernels.winograd1d,
        "Winograd 1-D",
        partial(product, back=False),
        sizes,
        product_tile,
        fixed={"back": False, "dilated": dilated},
        touches=partial(reach.product, back=False, dilated=dilated),
        speed=0.72,
        strength_reduction=False,
    )
    for dilated in (False, True)
)
K_WINOGRAD1D_TRANSPOSED = numbered(
    kernels.winograd1d,
    "Winograd 1-D transposed",
    partial(product, back=True),
    sizes,
    product_tile,
    fixed={"back": True, "dilated": False},
    gradients=("x",),
    touches=partial(reach.product, back=True),
    strength_reduction=False,
)
K_WINOGRAD1D_GRADIENT, K_WINOGRAD1D_DILATED_GRADIENT = (
    numbered(
        kernels.winograd1d_gradient,
        "Winograd 1-D gradient",
        gradient,
        sizes,
        _tile,
        fixed={"dilated": dilated},
        gradients=("weight",),
        touches=partial(reach.gradient_of_weights, dilated=dilated),
        strength_reduction=False,
    )
    for dilated in (False, True)
)
K_WINOGRAD1D_REDUCE = numbered(
    kernels.winograd1d_reduce,
    "Winograd 1-D sum",
    reduction,
    sizes_of(L.IN),
    gradients=("weight",),
    touches=reach.reduction,
)
