"""Selects the algorithm of a convolution with a channel in each lane: that with the least work."""

from fastcnn.backends.lanes.convolution.algorithm import ChannelAlgorithm, Samples
from fastcnn.backends.lanes.convolution.algorithms import forced_algorithm
from fastcnn.backends.lanes.convolution.channel_direct.algorithm import CHANNEL_DIRECT
from fastcnn.backends.lanes.convolution.channel_winograd1d.algorithm import CHANNEL_WINOGRAD_1D
from fastcnn.backends.lanes.convolution.channel_winograd2d.algorithm import CHANNEL_WINOGRAD_2D
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry

#: In order of preference where estimates are equal; the first one computes everything.
CHANNEL_ALGORITHMS: tuple[ChannelAlgorithm, ...] = (
    CHANNEL_DIRECT,
    CHANNEL_WINOGRAD_1D,
    CHANNEL_WINOGRAD_2D,
)


def channel_algorithm(g: ConvGeometry, samples: Samples) -> ChannelAlgorithm:
    """The algorithm that is forced, wherever it fits, or the one with the fewest operations."""
    name = forced_algorithm()
    if name is None:
        return min(CHANNEL_ALGORITHMS, key=lambda found: found.operations(g, samples))
    fitting = (found for found in CHANNEL_ALGORITHMS if found.name == name and found.fits(g))
    return next(fitting, CHANNEL_ALGORITHMS[0])
