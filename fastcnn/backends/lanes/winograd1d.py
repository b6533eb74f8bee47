"""Winograd's F(4, r) along the rows of an image: its matrices, and the division into strips.

Four neighbouring outputs of a row are ``A^T [(G g) * (B^T d)]`` for r weights g and the r + 3
inputs d that they see, with r + 3 multiplications instead of 4 r: the sum of polynomial products at
r + 2 points and infinity (Winograd, 1980, Arithmetic Complexity of Computations, chapter III; Lavin
and Gray, 2016, Fast Algorithms for Convolutional Neural Networks, section 3). The elementwise
products become one convolution down the columns for each point.
"""

from fractions import Fraction
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np

from fastcnn.backends.lanes.conv_geometry import WORTH_APART, ConvGeometry

#: Outputs of a tile.
OUTPUTS = 4
#: Kernel widths for which there are transforms.
WIDTHS = (3, 5)
#: The points at which polynomials are multiplied, besides infinity: r + 2 of them are taken. Small
#: powers of two in pairs keep rounding errors small and share additions.
POINTS = (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))
#: Vectors of a strip's transforms, which stay in the second-level cache.
STRIP = 12 * 1024

Matrix = np.ndarray


class Transforms(NamedTuple):
    """The matrices of F(4, r).

    Attributes
    ----------
    weight : ndarray, shape (r + 3, r)
        ``G``.
    input : ndarray, shape (r + 3, r + 3)
        ``B^T``.
    output : ndarray, shape (4, r + 3)
        ``A^T``.
    """

    weight: Matrix
    input: Matrix
    output: Matrix


def points(width: int) -> int:
    """Products of a tile."""
    return width + OUTPUTS - 1


@cache
def transforms(width: int) -> Transforms:
    """The matrices for kernels of some width."""
    finite = [Fraction(point) for point in POINTS[: points(width) - 1]]
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
    """Coefficients of the polynomial with these roots, the constant one first."""
    found = np.array([Fraction(1)], object)
    for root in roots:
        found = np.append(0, found) - root * np.append(found, 0)
    return list(found)


def factors(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Two sparser matrices ``(second, first)`` whose product a matrix is.

    The rows of two opposite points differ in the signs of every other column: they are the sum and
    the difference of two rows. In a transposed matrix these are columns.
    """
    rows = _paired(matrix)
    if rows is not None:
        return rows
    columns = _paired(matrix.T)
    if columns is not None:
        return columns[1].T, columns[0].T
    return np.eye(len(matrix)), matrix


def operations(matrix: Matrix) -> int:
    """Additions and multiplications of a product with a vector, by its factors."""
    count = 0
    for factor in factors(matrix):
        kept = factor != 0
        times = kept & (abs(factor) != 1)
        count += int(kept.sum() + times.sum()) - len(factor)
    return count


def _paired(matrix: Matrix) -> tuple[Matrix, Matrix] | None:
    """The factors if neighbouring rows are pairs."""
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


def tiles(g: ConvGeometry) -> int:
    """Tiles of an output row; the last may reach beyond it."""
    return -(-g.output[1] // OUTPUTS)


def strip_rows(g: ConvGeometry, inputs: int, outputs: int) -> int:
    """Rows of a strip whose transforms, of both sides, stay in the cache: an even number."""
    row = points(g.kernel[1]) * tiles(g)
    most = (STRIP // row - (g.kernel[0] - 1) * inputs) // (inputs + outputs)
    return max(0, min(most, max(g.input[0], g.output[0]) + 1)) // 2 * 2


class Strip(NamedTuple):
    """Rows of a convolution's output that are computed together.

    Attributes
    ----------
    first, rows : int
        Which.
    low, high : int
        The first kernel row through which they see any input, and the one behind the last.
    window : int
        The same number for neighbours that read the points of the same rows, made once.
    """

    first: int
    rows: int
    low: int
    high: int
    window: int


def strips(
    rows: int, inputs: int, kernel: int, before: int, most: int, parts: int = 1
) -> list[Strip]:
    """All of an output's rows, in strips of at most ``most``, and ``parts`` of them if it can be.

    Rows at the borders go apart by pairs if they meet many of the ``before`` zeros above the
    input's rows, or of those below.
    """
    y = np.arange(rows)
    low, high = (before - y).clip(0, kernel), (inputs + before - y).clip(0, kernel)
    if (high - low).sum() >= (1 - WORTH_APART) * kernel * rows:
        low[:], high[:] = 0, kernel
    highest = min(most, -(-rows // (2 * parts)) * 2)
    found: list[list[int]] = []
    for i in range(0, rows, 2):
        pair = slice(i, min(i + 2, rows))
        seen = [int(low[pair].min()), int(high[pair].max())]
        if found and found[-1][2:] == seen and found[-1][1] + 2 <= highest:
            found[-1][1] += pair.stop - i
        else:
            found.append([i, pair.stop - i, *seen])
    windows: list[int] = []
    start = 0
    for first, count, above, below in found:
        if not windows or first + count + below - 1 - start > most + kernel - 1:
            start = first + above
            windows.append(len(windows) and windows[-1] + 1)
        else:
            windows.append(windows[-1])
    return [Strip._make([*strip, number]) for strip, number in zip(found, windows, strict=True)]
