"""Winograd's F(4, r) along rows with a channel in each lane: where it pays, and its strips.

As in ``winograd1d``, the products at each point form one convolution down the columns, and wide
kernels are divided into pieces that share the transforms of their inputs. The rows of a strip
follow each other without gaps, so the sums of all its tiles are one matrix product; those of the
tiles between two rows, under the further pieces, are not used.
"""

import math
from typing import NamedTuple

from fastcnn.backends.lanes.convolution.algorithm import Samples
from fastcnn.backends.lanes.convolution.channel_direct.kernels import TILE_BLOCKS
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, is_plain, points, tiles
from fastcnn.backends.lanes.convolution.winograd1d.geometry import STRIP, piece_width, pieces
from fastcnn.backends.lanes.planning.buffers import LANES, Halo

#: Minimum columns of the kernel, and products of a sum.
FEWEST_COLUMNS, FEWEST_TAPS = 3, 32
#: Vector operations of a tile's transforms for each of its points, and their time in products.
OF_POINT, TRANSFORMING = 8, 2
#: Bytes of weights that a core reads from its cache in the time of a vector operation.
BYTES_AN_OPERATION = 16
#: Minimum tiles of a part of a row that is divided for more threads.
FEW_TILES = 8


class Division(NamedTuple):
    """How a map is divided into strips."""

    #: Tiles of a part of a row, parts of a row, and rows of the highest strip.
    tiles: int
    parts: int
    rows: int

    def strips(self, height: int) -> int:
        """Number of strips of a map."""
        return self.parts * -(-height // self.rows)


def fits(g: ConvGeometry) -> bool:
    """Whether a convolution's geometry is supported."""
    is_supported = is_plain(g) and g.kernel[1] >= FEWEST_COLUMNS and not g.transposed
    return is_supported and _division(g, 1) is not None


def taps(g: ConvGeometry) -> int:
    """Products of a sum at each point."""
    return int(g.group_inputs * g.kernel[0] * pieces(g.kernel[1]))


def division(g: ConvGeometry, workers: int) -> Division:
    """How a convolution that fits is divided."""
    found = _division(g, workers)
    assert found is not None
    return found


def _division(g: ConvGeometry, workers: int) -> Division | None:
    """Strips whose transforms stay in the second-level cache, one for each thread if possible."""
    (height, width), (down, columns) = g.output, g.kernel
    inputs, outputs = -(-g.group_inputs // LANES), min(TILE_BLOCKS, -(-g.out_channels // LANES))
    products, more, along = points(piece_width(columns)), pieces(columns) - 1, tiles(width)
    for parts in range(1, along + 1):
        each = -(-along // parts)
        line = products * (each + more)
        rows = (STRIP - line * inputs * (down - 1)) // (line * (inputs + outputs))
        # Each strip transforms ``down - 1`` rows of the input that the next one transforms again.
        if rows >= min(height, down):
            break
    else:
        return None
    parts = -(-along // each)
    count = -(-height // min(rows, height))
    if parts * count < workers:
        count = max(count, min(workers, height // down))
    if parts * count < workers and each >= FEW_TILES * workers:
        each = -(-along // workers)
        parts = -(-along // each)
    return Division(each, parts, -(-height // count))


def operations(g: ConvGeometry, samples: Samples) -> float:
    """Vector operations of one sample; infinite if the algorithm does not fit, or is not fast."""
    if not fits(g) or taps(g) < FEWEST_TAPS:
        return math.inf
    divided = division(g, 1)
    (height, width), columns = g.output, g.kernel[1]
    inputs, outputs = -(-g.group_inputs // LANES), -(-g.out_channels // LANES)
    products, pitch = points(piece_width(columns)), divided.tiles + pieces(columns) - 1
    weights = products * taps(g) * outputs
    strips = divided.strips(height)
    rows = strips * (divided.rows + g.kernel[0] - 1)
    made = OF_POINT * products * pitch * rows * inputs
    made += OF_POINT * products * tiles(width) * height * outputs
    read = reading(4 * LANES * weights, strips, samples.bytes_an_operation)
    return weights * strips * divided.rows * pitch + TRANSFORMING * made + read


def reading(size: int, strips: float, bytes_an_operation: int) -> float:
    """Vector operations in the time of reading weights: only the first strip's may be far."""
    first = min(strips, 1)
    return size * (first / bytes_an_operation + (strips - first) / BYTES_AN_OPERATION)


def halo(g: ConvGeometry, workers: int) -> Halo:
    """Padding of the input that whole tiles read."""
    divided = division(g, workers)
    (top, left), columns = g.padding, g.kernel[1]
    below = g.output[0] + g.kernel[0] - 1 - top - g.input[0]
    count = divided.tiles * divided.parts + pieces(columns) - 1
    right = OUTPUTS * count + piece_width(columns) - 1 - left - g.input[1]
    return (max(0, top), max(0, below), max(0, left), max(0, right))
