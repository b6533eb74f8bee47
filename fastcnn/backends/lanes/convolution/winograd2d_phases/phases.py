"""The phases of a convolution with stride 2, as channels of one with stride 1.

With stride 2 the even rows of the padded input are multiplied with the even rows of the kernel, and
the odd ones with the odd rows; likewise for columns. These four phases are four times as many input
channels of a convolution of stride 1, whose kernel is half as large: 2x2 for kernels of 3x3 and
4x4, 3x3 for those of 5x5 and 6x6. In the transpose they are output channels.

The smaller half of an odd kernel lacks its last row, or column. Padded with zeros, its transform is
zero at the point of infinity, and so is that of its mirror image at the point 0: these products are
omitted.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry, halo_of
from fastcnn.backends.lanes.convolution.winograd import EXACT, OUTPUTS, tile_starts, transforms
from fastcnn.backends.lanes.planning.buffers import Halo

#: The transforms, by the width of half a kernel.
MATRICES = {2: transforms(2, (0, 1, -1, 2)), 3: transforms(3, EXACT)}
#: Whether the rows, and columns, of each phase are odd. In this order the phases of even rows are
#: adjacent, and those of even columns as well.
PHASES = ((0, 1), (0, 0), (1, 0), (1, 1))
EVEN_ROWS, EVEN_COLUMNS = (0, 1), (1, 2)


def half(g: ConvGeometry) -> int:
    """The width of half a kernel, or 0 if there are no transforms for it."""
    rows, columns = (-(-side // 2) for side in g.kernel)
    plain = g.groups == 1 and g.stride == (2, 2) and g.dilation == (1, 1)
    return rows if plain and rows == columns and rows in MATRICES else 0


def lacks(g: ConvGeometry, phase: tuple[int, int]) -> tuple[bool, bool]:
    """Whether a phase's part of the kernel lacks its last row, and its last column."""
    rows, columns = (bool(side % 2 and odd) for side, odd in zip(g.kernel, phase, strict=True))
    return rows, columns


def phases_of_products(g: ConvGeometry) -> np.ndarray:
    """First phase, and number of phases, of each product of the forward pass; (products, 2)."""
    side = half(g) + OUTPUTS - 1
    found = []
    for i in range(side):
        for j in range(side):
            chosen = set(range(len(PHASES)))
            if i == side - 1 and g.kernel[0] % 2:
                chosen &= set(EVEN_ROWS)
            if j == side - 1 and g.kernel[1] % 2:
                chosen &= set(EVEN_COLUMNS)
            found.append((min(chosen), len(chosen)))
    return np.array(found)


def products_of_phase(g: ConvGeometry, phase: tuple[int, int]) -> np.ndarray:
    """Whether each product of a phase of the transpose is not zero."""
    side = half(g) + OUTPUTS - 1
    kept = np.ones((side, side), np.int64)
    rows, columns = lacks(g, phase)
    kept[: int(rows)] = 0
    kept[:, : int(columns)] = 0
    return kept.ravel()


class Stretch(NamedTuple):
    """The rows (or columns) of one phase of the input: ``first``, ``first + 2``, ..."""

    first: int
    pixels: int
    #: First row of the output's gradient that its first tile reads.
    source: int


def stretch(g: ConvGeometry, axis: int, odd: int) -> Stretch:
    """A phase of the input along an axis; it counts from the padded border."""
    first = (odd + g.padding[axis]) % 2
    source = (first + g.padding[axis]) // 2 - half(g) + 1
    return Stretch(first, (g.input[axis] - first + 1) // 2, source)


def transposed_phases(g: ConvGeometry) -> Iterator[tuple[tuple[int, int], Stretch, Stretch]]:
    """The phases of the input that have pixels."""
    for phase in PHASES:
        rows, columns = (stretch(g, axis, odd) for axis, odd in enumerate(phase))
        if rows.pixels > 0 and columns.pixels > 0:
            yield phase, rows, columns


def input_halo(g: ConvGeometry) -> Halo:
    """Padding of the input that whole tiles read."""

    def sides(axis: int) -> tuple[int, int]:
        last = 2 * (int(tile_starts(g.output[axis])[-1]) + half(g) + OUTPUTS - 2) + 1
        return max(0, g.padding[axis]), max(0, last - g.padding[axis] - g.input[axis] + 1)

    return halo_of(sides)


def transposed_halo(g: ConvGeometry) -> Halo:
    """Padding of the output's gradient that the transpose's tiles read."""

    def sides(axis: int) -> tuple[int, int]:
        before = after = 0
        for found in (stretch(g, axis, odd) for odd in (0, 1)):
            if found.pixels > 0:
                last = int(tile_starts(found.pixels)[-1]) + half(g) + OUTPUTS - 2
                before = max(before, -found.source)
                after = max(after, found.source + last - g.output[axis] + 1)
        return before, after

    return halo_of(sides)
