"""The records of convolution algorithms: where they are applicable, and where they are fast."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

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


class Samples(NamedTuple):
    """For what an algorithm with a channel in each lane is chosen."""

    #: Whether there is one sample; more share the reading of weights.
    alone: bool
    #: Bytes of weights that a core reads in the time of a vector operation.
    bytes_an_operation: int


@dataclass(frozen=True)
class ChannelAlgorithm:
    """A convolution algorithm with a channel in each lane, for a session's few samples.

    ``rows.py`` in the folder ``channel_NAME`` lowers it to rows.
    """

    #: That of the algorithm with a sample in each lane.
    name: str
    #: ``fits(g)``: whether it can compute a convolution.
    fits: Callable[[ConvGeometry], bool]
    #: ``operations(g, samples)``: vector operations of one sample; infinite if it does not fit, or
    #: is not fast.
    operations: Callable[[ConvGeometry, Samples], float]
    #: ``halo(g, workers)``: zero padding of the input that it reads.
    halo: Callable[[ConvGeometry, int], Halo]
    #: ``kernel(g)``: weights of an input and an output channel.
    kernel: Callable[[ConvGeometry], int]
    #: Pixels of a map up to which reading weights takes longer than using them once.
    few_pixels: int
    #: ``more_bytes(g)``: bytes of its weights that count in addition to the model's own.
    more_bytes: Callable[[ConvGeometry], int] = lambda g: 0
    #: Whether it also reads maps of scalars.
    reads_planes: bool = False
