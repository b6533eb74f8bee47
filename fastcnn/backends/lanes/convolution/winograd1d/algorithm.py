"""F(4, r) along rows: kernels of few columns."""

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import MOST_PRODUCTS, OUTPUTS, points, tiles
from fastcnn.backends.lanes.convolution.winograd1d.geometry import (
    WIDTHS,
    division,
    is_turned,
    phase_columns,
    piece_width,
    pieces,
)
from fastcnn.backends.lanes.planning.buffers import Halo

#: Share of the direct sum's products up to which kernels cut into pieces pay.
MOST_PRODUCTS_OF_PIECES = 0.6
#: The same for the weights' gradient, of rows of images that are cut into parts.
MOST_PRODUCTS_OF_PARTS = 0.4
#: Products of a sum from which it pays, in one column of the kernel and in all; those of kernels of
#: one row, whose transforms serve no other row.
FEWEST_TAPS, FEWEST_IN_ALL, FEWEST_OF_ROW = 5, 20, 9
#: The same with stride along rows: where half of the products are saved, and where fewer are.
FEWEST_STRIDED_TAPS = (10, 64)
#: For the weights' gradient: pairs of channels from which it pays, those of kernels of several
#: rows and five columns, which save more, and of one row; tiles of a strip.
FEWEST_PAIRS, FEWEST_PAIRS_OF_FIVE, FEWEST_PAIRS_OF_ROW, FEWEST_TILES = 64, 18, 192, 8


def _sides(g: ConvGeometry, part: Part) -> tuple[int, int]:
    """Sums of a pixel, and channels that each adds up."""
    inputs, outputs = g.group_inputs, g.out_channels
    return (inputs, outputs) if part == Part.TRANSPOSE else (outputs, inputs)


def _fits(g: ConvGeometry, part: Part) -> bool:
    if g.dilation != (1, 1) or g.groups != 1 or max(g.stride) > 2:
        return False
    # The input's gradient of a stride has rows and columns of several kinds.
    if part is Part.TRANSPOSE and g.stride != (1, 1):
        return False
    columns = phase_columns(g)
    known = columns in WIDTHS or columns > max(WIDTHS)
    return known and not g.transposed and division(g, part).most > 0


def _pays(g: ConvGeometry, part: Part) -> bool:
    sums, summands = _sides(g, part)
    columns = phase_columns(g)
    products = points(piece_width(columns)) * pieces(columns) * g.stride[1]
    along = tiles(g.output[1]) * products / (g.output[1] * g.kernel[1])
    is_strided = g.stride[1] > 1
    is_known = columns in WIDTHS and not is_strided
    if along > (MOST_PRODUCTS if is_known else MOST_PRODUCTS_OF_PIECES):
        return False
    if is_strided and g.group_inputs * g.kernel[0] < FEWEST_STRIDED_TAPS[along > 0.5]:
        return False
    is_row = is_known and g.kernel[0] == 1
    if part == Part.GRADIENT:
        divided = division(g, part)
        strip = divided.most * divided.tiles
        if divided.parts > 1 and not is_strided and along > MOST_PRODUCTS_OF_PARTS:
            return False
        fewest = FEWEST_PAIRS_OF_FIVE if is_known and columns == 5 else FEWEST_PAIRS
        fewest = FEWEST_PAIRS_OF_ROW if is_row else fewest
        return sums * summands >= fewest and strip >= FEWEST_TILES
    taps = summands * g.kernel[0]
    return (
        taps >= (FEWEST_OF_ROW if is_row else FEWEST_TAPS) and taps * g.kernel[1] >= FEWEST_IN_ALL
    )


def _sides_of_rows(g: ConvGeometry, part: Part, inputs: int, padding: int) -> Halo:
    """Zeros that the tiles of a part's rows read before and after rows of its input."""
    columns = phase_columns(g)
    count = division(g, part).all_tiles + pieces(columns) - 1
    seen = g.stride[1] * (OUTPUTS * count + piece_width(columns) - 1) - padding
    return (0, 0, max(0, padding), max(0, seen - inputs))


def _input_halo(g: ConvGeometry) -> Halo:
    # Parts of a row of the one need not be those of the other.
    parts = (Part.PRODUCT, Part.GRADIENT)
    return max(_sides_of_rows(g, part, g.input[1], g.padding[1]) for part in parts)


def _gradient_halo(g: ConvGeometry, part: Part) -> Halo:
    if part is Part.TRANSPOSE and is_turned(g):
        return _sides_of_rows(g, part, g.output[1], g.kernel[1] - 1 - g.padding[1])
    return (0, 0, 0, OUTPUTS * division(g, part).all_tiles - g.output[1])


WINOGRAD_1D = Algorithm("winograd1d", _fits, _pays, _input_halo, _gradient_halo)
