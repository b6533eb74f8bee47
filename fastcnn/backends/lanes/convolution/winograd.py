"""The matrices of Winograd's F(4, r): convolution with r + 3 multiplications instead of 4 r.

Four adjacent outputs of a row are ``A^T [(G g) * (B^T d)]``, with r weights g and the r + 3 inputs
d of these outputs: polynomials are multiplied by their values at r + 2 points and infinity
(Winograd, 1980, Arithmetic Complexity of Computations, chapter III). For tiles of 4x4 outputs each
matrix acts on rows and columns (Lavin and Gray, 2016, Fast Algorithms for Convolutional Neural
Networks, section 4.1).
"""

from fractions import Fraction
from functools import cache, reduce
from math import prod
from typing import NamedTuple

import numpy as np

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.buffers import LANES

#: Outputs of a tile, in each direction.
OUTPUTS = 4
HALF = Fraction(1, 2)
#: Points of one-dimensional transforms, besides infinity, of which the first r + 2 are used.
#: Opposite points share additions.
PAIRED = (0, 1, -1, 2, -2, HALF, -HALF)
#: Points of two-dimensional transforms with r = 3, where rounding errors multiply: with these
#: points they are smaller.
EXACT = (0, 1, -1, HALF, -2)

#: Floats between equally large parts of transforms, so that they do not map to the same cache sets.
STAGGER = LANES

Matrix = np.ndarray


class Transforms(NamedTuple):
    """The matrices of F(4, r)."""

    #: Shape (r + 3, r). ``G``.
    weight: Matrix
    #: Shape (r + 3, r + 3). ``B^T``.
    input: Matrix
    #: Shape (4, r + 3). ``A^T``.
    output: Matrix


def points(width: int) -> int:
    """Products of a tile."""
    return width + OUTPUTS - 1


def tiles(outputs: int) -> int:
    """Tiles that cover a row of outputs; the last may extend beyond it."""
    return -(-outputs // OUTPUTS)


def tile_starts(outputs: int, dilation: int = 1, step: int = OUTPUTS) -> np.ndarray:
    """First output of each tile of a row, in ascending order.

    A tile has the ``step`` next outputs of the same remainder modulo the dilation: those of one
    remainder, a phase, and the inputs they read are an ordinary convolution.
    """
    index = np.arange(outputs)
    return index[index % (step * dilation) < dilation]


def first_outputs(
    size: tuple[int, ...], dilation: tuple[int, ...] = (1, 1), step: int = OUTPUTS
) -> np.ndarray:
    """Row and column of the first output of each tile of a map; int (tiles, 2)."""
    starts = (tile_starts(*sides, step) for sides in zip(size, dilation, strict=True))
    return np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 2)


def outputs_left(
    size: tuple[int, ...], first: np.ndarray, dilation: tuple[int, ...] = (1, 1)
) -> np.ndarray:
    """Rows and columns of a map that are in the phase of each tile, from its first one on."""
    left: np.ndarray = -((first - np.array(size)) // np.array(dilation))
    return left


@cache
def transforms(width: int, of: tuple[int | Fraction, ...] = PAIRED) -> Transforms:
    """The matrices for kernels of a given width, from the first of the given points."""
    finite = [Fraction(point) for point in of[: points(width) - 1]]
    size = points(width)
    weight, inputs, output = (
        np.zeros(shape, object) for shape in ((size, width), (size, size), (OUTPUTS, size))
    )
    for i, point in enumerate(finite):
        others = finite[:i] + finite[i + 1 :]
        scale = prod(point - other for other in others)
        weight[i] = [point**k / scale for k in range(width)]
        inputs[i, :-1] = _with_roots(others)
        output[:, i] = [point**k for k in range(OUTPUTS)]
    weight[-1, -1] = output[-1, -1] = Fraction(1)
    inputs[-1] = _with_roots(finite)
    return Transforms(*(matrix.astype(np.float64) for matrix in (weight, inputs, output)))


def _with_roots(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of the polynomial with these roots, constant term first."""
    found = np.array([Fraction(1)], object)
    for root in roots:
        found = np.append(0, found) - root * np.append(found, 0)
    return list(found)


def factors(matrix: Matrix) -> tuple[Matrix, ...]:
    """Sparser matrices whose product is the given matrix; the last one is applied first.

    The rows of two opposite points differ in the signs of every other column: they are the sum and
    the difference of two rows. In a transposed matrix the same holds for columns.
    """
    for found in (_EXACT_INPUT, _EXACT_INPUT_TRANSPOSED):
        if np.array_equal(reduce(np.matmul, found), matrix):
            return found
    rows = _paired(matrix)
    if rows is not None:
        return rows
    columns = _paired(matrix.T)
    if columns is not None:
        return columns[1].T, columns[0].T
    return np.eye(len(matrix)), matrix


def operations(matrix: Matrix) -> int:
    """Additions and multiplications of a matrix-vector product, by its factors."""
    count = 0
    for factor in factors(matrix):
        kept = factor != 0
        times = kept & (abs(factor) != 1)
        count += int(kept.sum() + times.sum()) - len(factor)
    return count


def _paired(matrix: Matrix) -> tuple[Matrix, Matrix] | None:
    """The factors, if adjacent rows are such pairs."""
    first, second = matrix.copy(), np.eye(len(matrix))
    found = False
    i = 0
    while i + 1 < len(matrix):
        even, odd = (matrix[i] + matrix[i + 1]) / 2, (matrix[i] - matrix[i + 1]) / 2
        if even.any() and odd.any() and not (even * odd).any():
            first[i], first[i + 1] = even, odd
            second[i : i + 2, i : i + 2] = [[1, 1], [1, -1]]
            found = True
            i += 1
        i += 1
    return (second, first) if found else None


#: Factors of the input matrix at the points ``EXACT``: differences of pixels, sums of these, and
#: sums and differences for 1 and -1. There are 14 vector operations instead of 20, of which eight
#: are additions, which a Zen 5 executes in parallel with multiplications.
_EXACT_INPUT = (
    np.array([[1, 0, 0, 0, 0, 0],
              [0, 1, 1, 0, 0, 0],
              [0, 1, -1, 0, 0, 0],
              [0, 0, 0, 1, 0, 0],
              [0, 0, 0, 0, 1, 0],
              [0, 0, 0, 0, 0, 1]], np.float64),
    np.array([[1, 1.5, 1, 0, 0, 0],
              [1, 0, 0, 0, 0, 1.5],
              [0, 1, 0, 0, 1.5, 0],
              [1, 2, 0, 0, 0, 0],
              [1, -0.5, 0, 0, 0, 0],
              [1.5, -1, 0, 1, 0, 0]]),
    np.array([[0, 0, -1, 0, 1, 0],
              [0, -1, 0, 1, 0, 0],
              [1, 0, -1, 0, 0, 0],
              [0, 0, 0, -1, 0, 1],
              [0, 0, 1, 0, 0, 0],
              [0, 0, 0, 1, 0, 0]], np.float64),
)  # fmt: skip
#: The factors of its transpose.
_EXACT_INPUT_TRANSPOSED = (
    np.array([[1, 0, 0, 0, 0, 0],
              [0, 0, 1, 0, 0, 0],
              [-2, -1, 0, 0, 1.5, 0],
              [0, 0, -1, 1.5, 0, -1],
              [1, 1, 0, 0, 0, 0],
              [0, 0, 0, 0, 0, 1]]),
    np.array([[1, 0, 0, 0, 0, 0],
              [0, 1, 0, 1, 1, 1.5],
              [-1.5, 0, -1, -2, 0.5, 1],
              [0, 1, 0, 0, 0, 0],
              [0, 0, 1, 0, 0, 0],
              [0, 0, 0, 0, 0, 1]]),
    _EXACT_INPUT[0].T,
)  # fmt: skip

#: Share of the direct sum's products up to which transforms pay.
MOST_PRODUCTS = 0.7


def is_plain(g: ConvGeometry) -> bool:
    """Whether a convolution has neither stride, dilation nor groups."""
    return bool(g.stride == g.dilation == (1, 1) and g.groups == 1)


def flipped_padding(g: ConvGeometry) -> tuple[int, ...]:
    """Padding with which the product of the flipped kernel is the transpose."""
    sides = zip(g.kernel, g.dilation, g.padding, strict=True)
    return tuple((kernel - 1) * dilation - padding for kernel, dilation, padding in sides)


def beyond_output(g: ConvGeometry, axis: int) -> int:
    """Pixels by which whole tiles extend beyond the output."""
    last = tile_starts(g.output[axis], g.dilation[axis])[-1]
    return int(last + g.dilation[axis] * (OUTPUTS - 1) + 1 - g.output[axis])
