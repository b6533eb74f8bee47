"""Direct sums over the whole batch: for small maps of many channels, which have many weights."""

from math import prod

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd2d_batch.algorithm import FEWEST_PAIRS
from fastcnn.backends.lanes.planning.buffers import LANES, NO_HALO

#: Output channels computed together; the remaining channels are computed one by one.
ROWS = 8
#: Pixels of either map up to which the algorithm is applicable, with a table entry for each pair,
#: and up to which it measured faster.
MOST_PIXELS, FEW_PIXELS = 16, 4


def _pixels(g: ConvGeometry) -> int:
    return int(max(prod(g.input), prod(g.output)))


def _fits(g: ConvGeometry, part: Part) -> bool:
    if g.transposed or g.groups != 1 or _pixels(g) > MOST_PIXELS:
        return False
    return part != Part.GRADIENT or (g.group_inputs % LANES == 0 and g.out_channels % ROWS == 0)


def _pays(g: ConvGeometry, part: Part) -> bool:
    return g.group_inputs * g.out_channels >= FEWEST_PAIRS and _pixels(g) <= FEW_PIXELS


DIRECT_BATCH = Algorithm(
    "direct_batch",
    _fits,
    _pays,
    input_halo=lambda g: NO_HALO,
    gradient_halo=lambda g, part: NO_HALO,
    shares_batch=True,
)
