"""Winograd's F(4, r) along the rows of an image, taken in strips of rows; see winograd.py.

The products at each point become one convolution down the columns.
"""

from typing import NamedTuple

import numpy as np

from fastcnn.backends.lanes.convolution.geometry import WORTH_APART, ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import points, tiles

#: Kernel widths for which there are kernels.
WIDTHS = (3, 5)
#: Vectors of a strip's transforms, which stay in the second-level cache.
STRIP = 12 * 1024


def strip_rows(g: ConvGeometry, inputs: int, outputs: int) -> int:
    """Rows of a strip whose transforms, of both sides, stay in the cache: an even number."""
    row = points(g.kernel[1]) * tiles(g.output[1])
    most = (STRIP // row - (g.kernel[0] - 1) * inputs) // (inputs + outputs)
    return max(0, min(most, max(g.input[0], g.output[0]) + 1)) // 2 * 2


class Strip(NamedTuple):
    """Rows of a convolution's output that are computed together.

    Attributes
    ----------
    first, rows : int
        Which.
    low, high : int
        The first kernel row through which they see any input, and the one after the last.
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
