"""F(4, r) along rows: for kernels of three or more columns, from few channels on."""

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import (
    MOST_PRODUCTS,
    OUTPUTS,
    flipped_padding,
    points,
    tiles,
)
from fastcnn.backends.lanes.convolution.winograd1d import geometry
from fastcnn.backends.lanes.planning.buffers import Halo

#: Share of the direct sum's products up to which kernels divided into pieces pay.
MOST_PRODUCTS_OF_PIECES = 0.6
#: The same for the weight gradient if rows of images are divided into parts.
MOST_PRODUCTS_OF_PARTS = 0.4
#: Minimum products of a sum, in one kernel column and in total, and for kernels of one row, whose
#: transforms are not shared by other rows.
FEWEST_TAPS, FEWEST_IN_ALL, FEWEST_OF_ROW = 5, 20, 9
#: With dilation: share of the direct sum's products, minimum products of a sum, and minimum weights
#: for the weight gradient.
MOST_PRODUCTS_OF_PHASES, FEWEST_OF_PHASES, FEWEST_WEIGHTS_OF_PHASES = 0.53, 112, 8192
#: The same for stride 2 along rows: if half of the products are saved, and if fewer are.
FEWEST_STRIDED_TAPS = (10, 64)
#: For the weight gradient: minimum channel pairs in general, for kernels of several rows and five
#: columns, which save more, and for kernels of one row; minimum tiles of a strip.
FEWEST_PAIRS, FEWEST_PAIRS_OF_FIVE, FEWEST_PAIRS_OF_ROW, FEWEST_TILES = 64, 18, 192, 8


def _sides(g: ConvGeometry, part: Part) -> tuple[int, int]:
    """Number of output and of input channels of a part's sums."""
    inputs, outputs = g.group_inputs, g.out_channels
    return (inputs, outputs) if part == Part.TRANSPOSE else (outputs, inputs)


def _fits(g: ConvGeometry, part: Part) -> bool:
    if g.groups != 1 or max(g.stride) > 2:
        return False
    if g.dilation != (1, 1) and not (geometry.is_sequence(g) and g.stride == (1, 1)):
        return False
    # A strided input gradient has several phases of rows and columns.
    if part is Part.TRANSPOSE and g.stride != (1, 1):
        return False
    columns = geometry.phase_columns(g)
    known = columns in geometry.WIDTHS or columns > max(geometry.WIDTHS)
    return known and not g.transposed and geometry.division(g, part).most > 0


def _pays(g: ConvGeometry, part: Part) -> bool:
    sums, summands = _sides(g, part)
    columns = geometry.phase_columns(g)
    products = points(geometry.piece_width(columns)) * geometry.pieces(columns) * g.stride[1]
    rows, width = geometry.map_size(g, g.output)
    along = rows * tiles(width) * products / (g.output[0] * g.output[1] * g.kernel[1])
    if g.dilation[1] > 1:
        taps = summands * g.kernel[1]
        found, fewest = taps, FEWEST_OF_PHASES
        if part == Part.GRADIENT:
            found, fewest = sums * taps, FEWEST_WEIGHTS_OF_PHASES
        return found >= fewest and along <= MOST_PRODUCTS_OF_PHASES
    is_strided = g.stride[1] > 1
    is_known = columns in geometry.WIDTHS and not is_strided
    if along > (MOST_PRODUCTS if is_known else MOST_PRODUCTS_OF_PIECES):
        return False
    if is_strided and g.group_inputs * g.kernel[0] < FEWEST_STRIDED_TAPS[along > 0.5]:
        return False
    is_row = is_known and g.kernel[0] == 1
    if part == Part.GRADIENT:
        divided = geometry.division(g, part)
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
    """Padding that the tiles of a part's rows read before and after the rows of its input."""
    columns = geometry.phase_columns(g)
    count = geometry.division(g, part).all_tiles + geometry.pieces(columns) - 1
    apart = g.stride[1] * g.dilation[1]
    seen = apart * (OUTPUTS * count + geometry.piece_width(columns) - 1) - padding
    return (0, 0, max(0, padding), max(0, seen - inputs))


def _input_halo(g: ConvGeometry) -> Halo:
    # Rows may be divided differently in the two parts.
    parts = (Part.PRODUCT, Part.GRADIENT)
    return max(_sides_of_rows(g, part, g.input[1], g.padding[1]) for part in parts)


def _gradient_halo(g: ConvGeometry, part: Part) -> Halo:
    if part is Part.TRANSPOSE and geometry.is_turned(g):
        return _sides_of_rows(g, part, g.output[1], flipped_padding(g)[1])
    return (0, 0, 0, g.dilation[1] * OUTPUTS * geometry.division(g, part).all_tiles - g.output[1])


WINOGRAD_1D = Algorithm("winograd1d", _fits, _pays, _input_halo, _gradient_halo)
