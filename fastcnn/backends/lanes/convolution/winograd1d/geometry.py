"""Winograd's F(4, r) along the rows of an image, in strips of rows; see winograd.py.

The products at each point form one convolution down the columns. A wider kernel is divided into
pieces of four columns, the last of up to five. The inputs of a tile under the next piece are those
of the next tile under this one: all pieces share their transforms, and the convolution at each
point has a column for each piece.

A sequence is one long row, divided into rows that are computed one by one. Image rows that are too
wide for the cache are divided into parts, each of which is a row of the program. So are groups of
input channels of a weight gradient, if a strip of all of them has few tiles to sum over.

A dilated sequence is a map whose rows are its phases: the pixels of one remainder modulo the
dilation, of which an ordinary kernel reads adjacent ones.

With stride 2 along rows, the even columns of the input use one half of the kernel's columns, and
the odd ones the other: they are two channels of a convolution of stride 1.
"""

from typing import NamedTuple

import numpy as np

from fastcnn.backends.lanes.convolution.algorithm import Part
from fastcnn.backends.lanes.convolution.direct.gradient_kernels import CHUNK
from fastcnn.backends.lanes.convolution.geometry import WORTH_APART, ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, points, tiles

#: Widths of pieces for which there are kernels.
WIDTHS = (3, 4, 5)
#: Vectors of a strip's transforms, which stay in the second-level cache.
STRIP = 12 * 1024
#: Channels computed at a time, and vectors of their products, which stay in the first-level cache.
PASS_CHANNELS, PASS = 8, 768
#: Minimum tiles of each row into which a longer sequence is divided.
FEW_TILES = 12
#: Minimum rows of a strip that fit in the cache: for whole rows of images without stride, and for
#: others.
FEWEST_ROWS, FEW_ROWS = 2, 4
#: Tiles of a weight gradient's strip from which on adding the lanes of each sum takes little time,
#: and inputs of a group from which on transforming the output's gradient again does.
ENOUGH_TILES, FEWEST_INPUTS = 32, 12


def phase_columns(g: ConvGeometry) -> int:
    """Columns of the kernel that apply to one column of the input."""
    return int(-(-g.kernel[1] // g.stride[1]))


def piece_width(kernel: int) -> int:
    """Columns of the last piece of a kernel; the others have four, as a tile has outputs."""
    if kernel in WIDTHS:
        return kernel
    return OUTPUTS + (kernel % OUTPUTS == 1)


def pieces(kernel: int) -> int:
    """Pieces of a kernel row."""
    return 1 if kernel in WIDTHS else -(-(kernel - piece_width(kernel)) // OUTPUTS) + 1


def cut(kernels: np.ndarray, columns: int, filling: float) -> np.ndarray:
    """Kernel rows of up to ``columns`` columns, in pieces of one width; (..., pieces, width)."""
    width, count = piece_width(columns), pieces(columns)
    found = np.full((*kernels.shape[:-1], count, width), filling, kernels.dtype)
    for piece in range(count):
        first = piece * OUTPUTS
        own = kernels[..., first : first + OUTPUTS if piece + 1 < count else columns]
        found[..., piece, : own.shape[-1]] = own
    return found


def is_sequence(g: ConvGeometry) -> bool:
    """Whether the map has one row, and the kernel no rows outside it."""
    one_row = g.kernel[0] == g.input[0] == g.output[0] == 1
    return bool(one_row and g.stride[0] == 1 and g.padding[0] == 0)


def map_size(g: ConvGeometry, size: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a map, or of the phases of a dilated sequence."""
    dilation = g.dilation[1]
    return (min(dilation, size[1]), -(-size[1] // dilation)) if dilation > 1 else (size[0], size[1])


def is_turned(g: ConvGeometry) -> bool:
    """Whether the input gradient is a convolution with the flipped kernel.

    Otherwise it is the transpose of all steps, which needs no padding around the output's gradient,
    but adds overlapping tiles of a row.
    """
    if is_sequence(g) or pieces(phase_columns(g)) > 1:
        return True
    return _fitting_rows(g, Part.TRANSPOSE, tiles(g.output[1]), g.group_inputs) < FEWEST_ROWS


class Division(NamedTuple):
    """How a part of a convolution is divided."""

    #: Rows of the result, or, for the weight gradient, of the output's gradient.
    rows: int
    #: Tiles of a row, or of a part of it.
    tiles: int
    #: Maximum rows of a strip such that both sides' transforms fit in the cache; 0 if none do.
    most: int
    #: Parts of a row.
    parts: int
    #: Input channels of a weight gradient that are processed at a time.
    inputs: int

    @property
    def all_tiles(self) -> int:
        """Tiles of an image row, including all rows into which a sequence is divided."""
        return self.tiles * self.parts * (self.rows if self.most == 1 else 1)


def division(g: ConvGeometry, part: Part) -> Division:
    """How a part of a convolution is divided."""
    height, width = map_size(g, g.input if part is Part.TRANSPOSE else g.output)
    if part is Part.TRANSPOSE and not is_turned(g):
        width = g.output[1]
    along = tiles(width)
    if is_sequence(g) and g.dilation[1] == 1:
        products, more = points(piece_width(phase_columns(g))), pieces(phase_columns(g)) - 1
        held = g.group_inputs * g.stride[1]
        held += PASS_CHANNELS if part is Part.GRADIENT else g.out_channels
        fitting = max(STRIP // (products * held) - more, FEW_TILES)
        each = -(-along // -(-along // fitting))
        return Division(-(-along // each), each, 1, 1, g.group_inputs)
    inputs = _inputs_together(g, height, along) if part is Part.GRADIENT else g.group_inputs
    most = _fitting_rows(g, part, along, inputs)
    each, fewest = along, FEWEST_ROWS if g.stride == (1, 1) else FEW_ROWS
    for parts in range(2, along + 1):
        if most >= fewest:
            break
        each, fewest = -(-along // parts), min(FEW_ROWS, height)
        most = _fitting_rows(g, part, each, inputs)
    if part is Part.GRADIENT and most * each > CHUNK:
        # Round down to whole chunks of positions.
        most = max(most * each // CHUNK * CHUNK // each, 2)
    return Division(height, each, max(0, most) // 2 * 2, -(-along // each), inputs)


def _inputs_together(g: ConvGeometry, height: int, along: int) -> int:
    """The most input channels of a weight gradient whose strips have enough tiles, if any have."""
    enough = min(ENOUGH_TILES, height * along)
    for groups in range(1, g.group_inputs // FEWEST_INPUTS + 1):
        inputs = -(-g.group_inputs // groups)
        if _fitting_rows(g, Part.GRADIENT, along, inputs) // 2 * 2 * along >= enough:
            return inputs
    return g.group_inputs


def _fitting_rows(g: ConvGeometry, part: Part, each: int, inputs: int) -> int:
    """Rows of a strip with ``each`` tiles whose transforms stay in the cache."""
    products, more = points(piece_width(phase_columns(g))), pieces(phase_columns(g)) - 1
    summands = g.out_channels if part is Part.TRANSPOSE else inputs * g.stride[1]
    down, highest = g.stride[0], max(map_size(g, size)[0] for size in (g.input, g.output)) + 1
    row = products * (each + more) * down * summands
    room = STRIP - products * (each + more) * (g.kernel[0] - down) * summands
    if part is Part.GRADIENT:
        row += products * PASS_CHANNELS * each
    else:
        room -= products * PASS_CHANNELS * pass_rows(products, each, highest) * each
    return int(min(room // row, highest))


def pass_rows(products: int, tiles: int, most: int) -> int:
    """Rows whose products are computed at a time: an even number, for pooling windows."""
    return min(max(PASS // (products * PASS_CHANNELS * tiles) // 2 * 2, 2), most)


class Strip(NamedTuple):
    """Rows of a convolution's output computed together."""

    #: The first row and the number of rows.
    first: int
    rows: int
    #: The first kernel row that reads any input for these rows, and the one after the last.
    low: int
    high: int
    #: Equal for adjacent strips that share the transforms of their rows.
    window: int


def strips(
    rows: int, inputs: int, kernel: int, before: int, most: int, parts: int = 1, down: int = 1
) -> list[Strip]:
    """All rows of an output, in strips of at most ``most``, at least ``parts`` of them if possible.

    Border rows form separate pairs if they read many of the ``before`` zeros above the input's
    rows, or of those below. Output rows are ``down`` rows of the input apart.
    """
    y = down * np.arange(rows)
    low, high = (before - y).clip(0, kernel), (inputs + before - y).clip(0, kernel)
    if (high - low).sum() >= (1 - WORTH_APART) * kernel * rows:
        low[:], high[:] = 0, kernel
    highest = min(most, -(-rows // (2 * parts)) * 2)
    found: list[list[int]] = []
    step = min(2, most)
    for i in range(0, rows, step):
        pair = slice(i, min(i + step, rows))
        seen = [int(low[pair].min()), int(high[pair].max())]
        if found and found[-1][2:] == seen and found[-1][1] + step <= highest:
            found[-1][1] += pair.stop - i
        else:
            found.append([i, pair.stop - i, *seen])
    windows: list[int] = []
    start = 0
    for first, count, above, below in found:
        last = down * (first + count - 1) + below
        if not windows or last - start > down * (most - 1) + kernel:
            start = down * first + above
            windows.append(len(windows) and windows[-1] + 1)
        else:
            windows.append(windows[-1])
    return [Strip._make([*strip, number]) for strip, number in zip(found, windows, strict=True)]
