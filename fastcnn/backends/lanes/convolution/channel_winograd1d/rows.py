"""Lowers convolutions by F(4, r) along rows, with a channel in each lane."""

import numpy as np

from fastcnn.backends.lanes.convolution.channel_direct.kernels import TILE_BLOCKS, WHOLE
from fastcnn.backends.lanes.convolution.channel_direct.sums import Sum, biases, packed
from fastcnn.backends.lanes.convolution.channel_winograd1d.geometry import division
from fastcnn.backends.lanes.convolution.channel_winograd1d.records import K_CHANNEL_ROWS
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import STAGGER, points, transforms
from fastcnn.backends.lanes.convolution.winograd1d.geometry import cut, piece_width, pieces
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, lane_blocks, whole
from fastcnn.backends.lanes.planning.channel_planner import ChannelPlanner


def convolution(planner: ChannelPlanner, g: ConvGeometry, work: Sum) -> None:
    """Add the row of a convolution."""
    divided = division(g, planner.workers)
    x, y, m = work.x, work.y, work.added
    (height, columns), blocks = g.kernel, lane_blocks(g.out_channels)
    count, width = pieces(columns), piece_width(columns)
    products, pitch = points(width), divided.tiles + count - 1
    lines = divided.rows + height - 1
    # Channels of a vector follow each other: their scalars are in the same cache lines.
    kh, piece, c = (part.ravel() for part in np.mgrid[:height, :count, : g.group_inputs])
    vector, lane = np.divmod(work.lanes[c], LANES)
    order = np.lexsort((lane, piece, kh, vector))
    kh, piece, c, vector, lane = (part[order] for part in (kh, piece, c, vector, lane))
    weight = work.weight.reshape(g.out_channels, g.group_inputs, *g.kernel)
    # (outputs, points, taps): a tile's weights of one point are followed by those of the next.
    made = transforms(width).weight @ cut(weight, columns, 0)[:, c, kh, piece].swapaxes(1, 2)
    is_equal = divided.strips(g.output[0]) % planner.workers == 0
    packs = 1 if is_equal else min(blocks, planner.workers)
    more: dict[str, int] = {"in": len(c), "m": -1}
    if m is not None:
        more |= m.map_columns("m")
    values = row(
        K_CHANNEL_ROWS,
        **x.map_columns("x"),
        **y.map_columns("y"),
        **more,
        relu=work.relu,
        w=planner.weight(packed(made.reshape(g.out_channels, -1), packs)),
        bias=biases(planner, work.bias),
        groups=packs,
        channels=blocks,
        extra=x.channels,
        taps=width,
        kernel_rows=height,
        more_tiles=count - 1,
        across=divided.tiles,
        strip_rows=divided.rows,
        y_rows=g.output[0],
        y_width=g.output[1],
        tap_table=planner.table(((vector * lines + kh) * pitch + piece) * LANES + lane),
    )
    values[L.X] += int(x.at(-g.padding[0], -g.padding[1]))
    values[L.Y] += int(y.at(0, 0))
    if m is not None:
        values[L.M] += int(m.at(0, 0))
    room = x.channels * lines * pitch + TILE_BLOCKS * whole(divided.rows * pitch, WHOLE)
    room = products * (room * LANES + 2 * STAGGER) + LANES
    planner.emit(work.name, planner.with_scratch(values, room), work.whole)
