"""Direct convolution: sums over taps, for every geometry."""

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.buffers import NO_HALO, Halo


def _gradient_halo(g: ConvGeometry, part: Part) -> Halo:
    return g.gradient_halo() if part == Part.TRANSPOSE else NO_HALO


DIRECT = Algorithm(
    "direct",
    fits=lambda g, part: True,
    pays=lambda g, part: True,
    input_halo=ConvGeometry.input_halo,
    gradient_halo=_gradient_halo,
    adds=True,
    sums_biases=lambda g: True,
)
