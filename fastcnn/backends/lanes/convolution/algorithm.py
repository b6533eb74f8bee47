"""The record of a convolution algorithm: where it is applicable, and where it is fast."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.buffers import Halo


class Part(Enum):
    """A part of a convolution: forward, its input's gradient, its weights' gradient.

    For a transposed convolution the first two are exchanged.
    """

    PRODUCT = "product"
    TRANSPOSE = "transpose"
    GRADIENT = "gradient"

    def title(self, g: ConvGeometry) -> str:
        """What it is in a network."""
        if self is Part.GRADIENT:
            return "weight gradient"
        return "input gradient" if (self is Part.PRODUCT) == g.transposed else "forward"


@dataclass(frozen=True)
class Algorithm:
    """A convolution algorithm; ``rows.py`` in the folder of its name lowers it to rows."""

    #: Also the name of its folder.
    name: str
    #: ``fits(g, part)``: whether it can compute this part of a convolution.
    fits: Callable[[ConvGeometry, Part], bool]
    #: ``pays(g, part)``: whether it measured faster than the algorithms after it in the list; asked
    #: only of what fits.
    pays: Callable[[ConvGeometry, Part], bool]
    #: ``input_halo(g)``: zero padding of the input that the product and weight gradient read.
    input_halo: Callable[[ConvGeometry], Halo]
    #: ``gradient_halo(g, part)``: zero padding of the output's gradient that the transpose, or the
    #: weight gradient, reads.
    gradient_halo: Callable[[ConvGeometry, Part], Halo]
    #: Whether its rows process the whole batch, divided among all threads.
    shares_batch: bool = False
    #: Whether the product's rows can add another map to their output before storing it.
    adds: bool = False
    #: ``pools(g)``: whether the product's rows can also compute 2x2 max pooling of the output.
    pools: Callable[[ConvGeometry], bool] = lambda g: True
    #: ``sums_biases(g)``: whether its weight-gradient rows also compute the bias gradient.
    sums_biases: Callable[[ConvGeometry], bool] = lambda g: False
    #: ``unpools(g)``: whether its rows of both gradients read the gradient of the 2x2 max pooling
    #: that follows, and route it to the maxima on the fly. They then sum the bias gradient, too.
    unpools: Callable[[ConvGeometry], bool] = lambda g: False
