"""Weight gradients whose vectors hold input channels: no horizontal sums, small accumulators."""

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.buffers import LANES, NO_HALO

#: Output channels computed together.
ROWS = 8


def _fits(g: ConvGeometry, part: Part) -> bool:
    whole = g.group_inputs % LANES == 0 and g.out_channels % ROWS == 0
    return part == Part.GRADIENT and g.groups == 1 and not g.transposed and whole


INPUT_LANES = Algorithm(
    "input_lanes",
    _fits,
    pays=lambda g, part: True,
    input_halo=ConvGeometry.input_halo,
    gradient_halo=lambda g, part: NO_HALO,
    sums_biases=lambda g: True,
)
