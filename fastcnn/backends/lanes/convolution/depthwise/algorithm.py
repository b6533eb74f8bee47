"""Depthwise convolution: direct sums, one input channel per group."""

from fastcnn.backends.lanes.convolution.algorithm import Algorithm, Part
from fastcnn.backends.lanes.convolution.direct.algorithm import DIRECT
from fastcnn.backends.lanes.convolution.direct.gradient_kernels import TAP_BLOCK
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry

#: Outputs per channel from which on register tiles of several outputs are faster.
MANY_OUTPUTS = 4


def _fits(g: ConvGeometry, part: Part) -> bool:
    single = g.group_inputs == 1 and g.groups > 1
    return single and part != Part.GRADIENT and g.taps <= TAP_BLOCK


def _pays(g: ConvGeometry, part: Part) -> bool:
    return g.group_outputs < MANY_OUTPUTS


DEPTHWISE = Algorithm("depthwise", _fits, _pays, DIRECT.input_halo, DIRECT.gradient_halo)
