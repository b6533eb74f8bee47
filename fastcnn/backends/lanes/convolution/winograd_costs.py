"""What the rows of Winograd's convolutions cost: the products and additions that they really do."""

from fastcnn.backends.lanes.convolution.winograd import (
    OUTPUTS,
    Matrix,
    Transforms,
    operations,
    points,
    transforms,
)
from fastcnn.backends.lanes.convolution.winograd1d.kernels import STRIP_WIDTH
from fastcnn.backends.lanes.convolution.winograd2d.tiles import MATRICES, PRODUCTS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.cost import FLOAT_BYTES, Cost, Row


def _both_ways(matrix: Matrix) -> int:
    """Additions and multiplications of ``matrix @ tile @ matrix.T``."""
    return sum(matrix.shape) * operations(matrix)


def _tiles(r: Row) -> tuple[int, int, int]:
    """Input channels, output channels and tiles of a row of F(4x4, 3x3)."""
    return r[L.IN], r[L.CHANNELS], r[L.POSITIONS]


def product(r: Row) -> Cost:
    """Of F(4x4, 3x3) forward, or backward to the input."""
    inputs, outputs, tiles = _tiles(r)
    side = OUTPUTS // 2 if r[L.MODE] == L.POOLED else OUTPUTS
    left = r.table(L.STRIP_TABLE, 2 * tiles).reshape(-1, 2).clip(max=side)
    pixels = outputs * int(left.prod(axis=1).sum())
    flops = 2 * PRODUCTS * inputs * outputs + _row_by_row(MATRICES.input) * inputs
    flops += (_both_ways(MATRICES.output) + OUTPUTS * OUTPUTS) * outputs
    written = pixels * (2 if r[L.MODE] == L.POOLED else 1)
    read = OUTPUTS * OUTPUTS * tiles * inputs + (pixels if r[L.MODE] == L.MASKED else 0)
    return r.cost(tiles * flops, read, written, parameters_read=PRODUCTS * inputs * outputs)


def _row_by_row(matrix: Matrix) -> int:
    """The same where each row of the result combines rows of the tile anew."""
    nonzero = matrix != 0
    combinations = int(nonzero.sum() + (nonzero & (abs(matrix) != 1)).sum()) - len(matrix)
    return matrix.shape[1] * combinations + len(matrix) * operations(matrix)


def gradient(r: Row) -> Cost:
    """Of one block's gradient of transformed weights."""
    inputs, outputs, tiles = _tiles(r)
    flops = 2 * PRODUCTS * inputs * outputs + _row_by_row(MATRICES.input) * inputs
    flops += _row_by_row(MATRICES.output.T) * outputs
    partial = PRODUCTS * inputs * outputs
    pixels = OUTPUTS * OUTPUTS * tiles
    return r.cost(tiles * flops, pixels * (inputs + outputs), 0, partial=partial)


def weight_gradient(r: Row) -> Cost:
    """Of one block's gradient of kernels from that of their transforms."""
    flops, count = _both_ways(MATRICES.weight.T), r[L.IN] * r.blocks
    return Cost(flops * count, FLOAT_BYTES * PRODUCTS * count, FLOAT_BYTES * 9 * count)


def reduction(r: Row) -> Cost:
    """Of the sum over blocks."""
    read = 9 * r[L.IN] * r.blocks
    return Cost(read - 9 * r[L.IN], FLOAT_BYTES * read, FLOAT_BYTES * 9 * r[L.IN])


def sizes(r: Row) -> str:
    """Channels and tiles."""
    inputs, outputs, tiles = _tiles(r)
    return f"{inputs} to {outputs}, {tiles} tiles"


def weights(r: Row) -> Cost:
    """Of transforming kernels."""
    flops = _both_ways(MATRICES.weight) * r[L.IN]
    return Cost(flops, 9 * FLOAT_BYTES * r[L.IN], PRODUCTS * FLOAT_BYTES * r[L.IN])


def _of_width(r: Row) -> tuple[int, Transforms]:
    """Points of a tile, and the transforms, of a row of F(4, r)."""
    return points(r[L.TAPS]), transforms(r[L.TAPS])


def _strips(r: Row) -> tuple[int, int]:
    """Rows of the output, and those rows times the kernel rows through which they see inputs."""
    table = r.table(L.STRIP_TABLE, r[L.POSITIONS] * STRIP_WIDTH).reshape(-1, STRIP_WIDTH)
    return int(table[:, 1].sum()), int((table[:, 1] * (table[:, 3] - table[:, 2])).sum())


def product_1d(r: Row) -> Cost:
    """Of F(4, r) forward, or backward to the input."""
    count, matrices = _of_width(r)
    rows, seen = _strips(r)
    inputs, outputs, tiles = r[L.IN], r[L.CHANNELS], r[L.GROUPS]
    back = r[L.KERNEL] == L.K_WINOGRAD1D_TRANSPOSED
    source = matrices.output.T if back else matrices.input
    target = matrices.input.T if back else matrices.output
    flops = r[L.X_ROWS] * tiles * inputs * operations(source)
    flops += 2 * count * tiles * seen * inputs * outputs
    flops += rows * tiles * outputs * (operations(target) + (r[L.TAPS] - 1 if back else OUTPUTS))
    pixels = outputs * rows * r[L.Y_WIDTH]
    masked = pixels if r[L.MODE] == L.MASKED else 0
    read = inputs * r[L.X_ROWS] * (OUTPUTS * tiles + (0 if back else r[L.TAPS] - 1)) + masked
    packed = count * inputs * outputs * r[L.KERNEL_ROWS]
    return r.cost(flops, read, pixels, parameters_read=packed)


def gradient_1d(r: Row) -> Cost:
    """Of one block's gradient of transformed weights."""
    count, matrices = _of_width(r)
    rows, _ = _strips(r)
    inputs, outputs, tiles = r[L.IN], r[L.CHANNELS], r[L.GROUPS]
    weights = count * inputs * outputs * r[L.KERNEL_ROWS]
    flops = r[L.X_ROWS] * tiles * inputs * operations(matrices.input)
    flops += rows * tiles * outputs * operations(matrices.output.T) + 2 * rows * tiles * weights
    read = inputs * r[L.X_ROWS] * (OUTPUTS * tiles + r[L.TAPS] - 1)
    read += outputs * rows * OUTPUTS * tiles
    return r.cost(flops, read, 0, partial=weights)


def weights_1d(r: Row) -> Cost:
    """Of transforming rows of kernels."""
    count, matrices = _of_width(r)
    flops = operations(matrices.weight) * r[L.IN]
    return Cost(flops, FLOAT_BYTES * r[L.TAPS] * r[L.IN], FLOAT_BYTES * count * r[L.IN])


def reduction_1d(r: Row) -> Cost:
    """Of the sum over blocks, and its transform to weights."""
    count, matrices = _of_width(r)
    read = count * r[L.IN] * r.blocks
    flops = read + operations(matrices.weight.T) * r[L.IN]
    return Cost(flops, FLOAT_BYTES * read, FLOAT_BYTES * r[L.TAPS] * r[L.IN])


def sizes_1d(r: Row) -> str:
    """Channels and tiles."""
    return f"{r[L.IN]} to {r[L.CHANNELS]}, {_strips(r)[0] * r[L.GROUPS]} tiles"
