"""Lowers convolutions of few samples by Winograd's F(4x4, 3x3), a channel in each lane."""

import numpy as np

from fastcnn.backends.lanes.convolution.channel_direct.kernels import WHOLE
from fastcnn.backends.lanes.convolution.channel_direct.sums import Sum, biases, packed
from fastcnn.backends.lanes.convolution.channel_winograd2d.algorithm import STRIP
from fastcnn.backends.lanes.convolution.channel_winograd2d.records import (
    K_CHANNEL_WINOGRAD,
    K_CHANNEL_WINOGRAD_DILATED,
)
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import STAGGER, first_outputs, outputs_left
from fastcnn.backends.lanes.convolution.winograd2d.strided import (
    transform_of,
    transformed_weights,
    weights_of_products,
)
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, lane_blocks, whole
from fastcnn.backends.lanes.planning.channel_planner import ChannelPlanner

#: Bytes of weights up to which threads should divide tiles, at least 8 each, rather than outputs.
SMALL_BYTES = 1 << 19


def convolution(planner: ChannelPlanner, g: ConvGeometry, work: Sum) -> None:
    """Add the row of a convolution."""
    transform = transform_of(g)
    assert transform is not None
    x, y, m = work.x, work.y, work.added
    inputs, blocks, in_blocks = g.group_inputs, lane_blocks(g.out_channels), x.channels
    different = transformed_weights(work.weight, transform)
    each = blocks * LANES * inputs
    first = first_outputs(g.output, g.dilation)
    (h, w), (down, along) = first.T, g.dilation
    packs = _packs(len(h), blocks, planner.workers, len(different) * each)
    weights = np.zeros((len(different), each + STAGGER), np.float32)
    for k, matrix in enumerate(different):
        weights[k, :each] = packed(matrix, packs)
    left = outputs_left(g.output, first, g.dilation)
    many = planner.blocks if work.whole else 1
    strip = STRIP if work.whole else min(STRIP, whole(len(h), WHOLE))
    columns: dict[str, int] = {"in": inputs, "down": transform.stride, "m": -1}
    columns["s_table"] = planner.table(weights_of_products(transform) * weights.shape[1])
    if m is not None:
        columns |= work.columns("m", m) | {"m_channel": m.channel, "m_row": down * m.row}
        columns["m_table"] = work.table(planner, m, m.at(h, w), 0)
    corners = x.at(*g.first_pixels(h, w))
    values = row(
        K_CHANNEL_WINOGRAD if g.dilation == (1, 1) else K_CHANNEL_WINOGRAD_DILATED,
        **work.columns("x", x),
        **work.columns("y", y),
        **work.size(planner, len(h)),
        **columns,
        relu=work.relu,
        w=planner.weight(weights),
        bias=biases(planner, work.bias),
        groups=packs,
        channels=blocks,
        extra=in_blocks,
        taps=strip,
        x_table=work.table(planner, x, corners, 0),
        y_table=work.table(planner, y, y.at(h, w), 0),
        strip_table=planner.table(np.tile(left, (many, 1))),
        tap_table=planner.table(work.lanes // LANES * strip * LANES + work.lanes % LANES),
        x_channel=x.channel,
        x_row=down * x.row,
        y_channel=y.channel,
        y_row=down * y.row,
        spacing=along * x.pixel,
    )
    room = transform.products * ((in_blocks + blocks) * strip * LANES + 2 * STAGGER) + LANES
    planner.emit(work.name, planner.with_scratch(values, room), work.whole)


def _packs(count: int, blocks: int, workers: int, size: int) -> int:
    """Parts into which outputs are divided if ``count`` tiles are too few for the threads.

    All transformed weights together have ``size`` floats.
    """
    enough = STRIP // 2 if 4 * size <= SMALL_BYTES else STRIP
    return min(blocks, workers) if count < enough * workers else 1
