"""F(4x4, 3x3) over many blocks at a time: for channels whose weights do not fit in the cache."""

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import is_plain, tiles
from fastcnn.backends.lanes.convolution.winograd2d.algorithm import WINOGRAD_2D
from fastcnn.backends.lanes.planning.buffers import LANES

#: Minimum channel pairs for which transformed weights should be read once for many blocks, and
#: maximum tiles of a map for which that saves time.
FEWEST_PAIRS, MOST_TILES = 128 * 256, 16
#: Maximum tiles of a map for the weight gradient.
MOST_TILES_OF_GRADIENT = 4


def _fits(g: ConvGeometry, part: Part) -> bool:
    if g.transposed or not is_plain(g):
        return False
    if part == Part.GRADIENT and (g.group_inputs % LANES or g.out_channels % LANES):
        return False
    return WINOGRAD_2D.fits(g, part)


def _pays(g: ConvGeometry, part: Part) -> bool:
    across, down = (tiles(size) for size in g.output)
    many = g.group_inputs * g.out_channels >= FEWEST_PAIRS
    most = MOST_TILES_OF_GRADIENT if part == Part.GRADIENT else MOST_TILES
    return many and across * down <= most and WINOGRAD_2D.pays(g, part)


WINOGRAD_2D_BATCH = Algorithm(
    "winograd2d_batch",
    _fits,
    _pays,
    WINOGRAD_2D.input_halo,
    WINOGRAD_2D.gradient_halo,
    shares_batch=True,
    adds=True,
)
