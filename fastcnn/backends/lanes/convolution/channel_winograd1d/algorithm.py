"""F(4, r) along rows with a channel in each lane."""

from math import prod

from fastcnn.backends.lanes.convolution.algorithm import ChannelAlgorithm
from fastcnn.backends.lanes.convolution.channel_winograd1d.geometry import fits, halo, operations

CHANNEL_WINOGRAD_1D = ChannelAlgorithm(
    "winograd1d",
    fits,
    operations,
    halo,
    kernel=lambda g: prod(g.kernel),
    # Samples do not share rows.
    few_pixels=0,
)
