"""Rows of convolutions with a channel in each lane; weights are packed as they are made."""

from dataclasses import dataclass

import numpy as np

from fastcnn.backends.lanes.convolution.channels.kernels import UNIT_BLOCKS, blocks_of_tile
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.convolution.winograd import OUTPUTS, STAGGER, tiles
from fastcnn.backends.lanes.convolution.winograd2d.tiles import MATRICES, PRODUCTS
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.channel_planner import (
    ChannelPlanner,
    PlanarBuffer,
    lane_blocks,
    pays_by_winograd,
)
from fastcnn.backends.lanes.planning.grouping import Unsupported
from fastcnn.backends.lanes.planning.rows import grid

#: Most tiles of a strip of Winograd's transforms.
STRIP = 16


@dataclass
class Sum:
    """What a row computes: products with X, plus ``bias``, plus ``added``, rectified, into Y.

    Attributes
    ----------
    name : str
        For people.
    weight, bias : ndarray
    added : Buffer or None
    """

    name: str
    x: Buffer
    y: Buffer
    weight: np.ndarray
    bias: np.ndarray
    relu: bool = False
    added: Buffer | None = None


def packed(matrix: np.ndarray) -> np.ndarray:
    """Weights (outputs, taps) in the order in which tiles read them, outputs padded to blocks."""
    outputs, taps = matrix.shape
    blocks = lane_blocks(outputs)
    padded = np.zeros((blocks * LANES, taps), np.float32)
    padded[:outputs] = matrix
    parts, c = [], 0
    while c < blocks:
        rows = blocks_of_tile(blocks - c)
        parts.append(padded[c * LANES : (c + rows) * LANES].T.ravel())
        c += rows
    return np.concatenate(parts)


def biases(planner: ChannelPlanner, values: np.ndarray, groups: int = 1) -> int:
    """Place of biases, each group's padded to whole vectors."""
    each = values.reshape(groups, -1)
    padded = np.zeros((groups, lane_blocks(each.shape[1]) * LANES))
    padded[:, : each.shape[1]] = each
    return planner.weight(padded)


def convolution(planner: ChannelPlanner, g: ConvGeometry, work: Sum) -> None:
    """Add the row of a convolution.

    Raises
    ------
    Unsupported
        If its groups do not fill vectors.
    """
    if pays_by_winograd(g):
        _winograd(planner, g, work)
    elif g.groups == 1 or g.group_inputs % LANES == g.group_outputs % LANES == 0:
        _direct(planner, g, work)
    elif g.group_inputs == g.group_outputs == 1:
        work.weight = work.weight.reshape(g.out_channels, -1)
        h, w = grid(*g.output)
        kh, kw = grid(*g.kernel)
        taps = kh * g.dilation[0] * work.x.row + kw * g.dilation[1] * work.x.pixel
        depthwise(planner, work, work.x.at(*g.first_pixels(h, w)), taps)
    else:
        raise Unsupported(f"{g.groups} groups of {g.group_outputs} channels in lanes")


def _columns(planner: ChannelPlanner, work: Sum) -> dict[str, int]:
    """Columns and tables of all positions of Y."""
    y = work.y
    h, w = grid(y.height, y.width)
    found: dict[str, int] = {
        **work.x.columns("x"),
        **y.columns("y"),
        "y_channel": y.channel,
        "positions": len(h),
        "y_table": planner.table(y.at(h, w), 1),
        "relu": int(work.relu),
        "m": -1,
        "m_table": planner.table(np.zeros(len(h)), 1),
    }
    if work.added is not None:
        m = work.added
        found |= m.columns("m")
        found |= {"m_channel": m.channel, "m_table": planner.table(m.at(h, w), 1)}
    return found


def _direct(planner: ChannelPlanner, g: ConvGeometry, work: Sum) -> None:
    x = work.x
    c, kh, kw = (part.ravel() for part in np.mgrid[: g.group_inputs, : g.kernel[0], : g.kernel[1]])
    taps = kh * g.dilation[0] * x.row + kw * g.dilation[1] * x.pixel
    if isinstance(x, PlanarBuffer):
        taps += c * x.channel
    else:
        taps += c // LANES * x.channel + c % LANES
    each = work.weight.reshape(g.groups, g.group_outputs, -1)
    planner.emit(
        work.name,
        row(
            L.K_CHANNEL_CONV,
            **_columns(planner, work),
            w=planner.weight(np.concatenate([packed(part) for part in each])),
            bias=biases(planner, work.bias, g.groups),
            groups=g.groups,
            channels=lane_blocks(g.group_outputs),
            taps=len(taps),
            tap_table=planner.table(taps),
            x_table=planner.table(x.at(*g.first_pixels(*grid(*g.output))), 1),
            x_group=lane_blocks(g.group_inputs) * x.channel if g.groups > 1 else 0,
        ),
    )


def depthwise(planner: ChannelPlanner, work: Sum, places: np.ndarray, taps: np.ndarray) -> None:
    """Add a row in which each channel has a kernel, and a bias.

    Parameters
    ----------
    work : Sum
        With weights of shape (channels, taps).
    places, taps : ndarray
        Places of the first tap of each position, and of taps from there.
    """
    channels, count = work.weight.shape
    padded = np.zeros((lane_blocks(channels) * LANES, count), np.float32)
    padded[:channels] = work.weight
    planner.emit(
        work.name,
        row(
            L.K_CHANNEL_DEPTHWISE,
            **_columns(planner, work),
            w=planner.weight(padded.reshape(-1, LANES, count).transpose(0, 2, 1)),
            bias=biases(planner, work.bias),
            channels=work.x.channels,
            taps=count,
            tap_table=planner.table(taps),
            x_table=planner.table(places, 1),
            x_channel=work.x.channel,
        ),
    )


def _winograd(planner: ChannelPlanner, g: ConvGeometry, work: Sum) -> None:
    x, y, m = work.x, work.y, work.added
    inputs, blocks, in_blocks = g.group_inputs, lane_blocks(g.out_channels), x.channels
    made = MATRICES.weight @ work.weight.astype(np.float64) @ MATRICES.weight.T
    products = made.reshape(g.out_channels, inputs, PRODUCTS).transpose(2, 0, 1)
    each = blocks * LANES * inputs
    apart = each + STAGGER
    weights = np.zeros((PRODUCTS, apart), np.float32)
    for k in range(PRODUCTS):
        weights[k, :each] = packed(products[k])
    h, w = grid(tiles(g.output[0]), tiles(g.output[1]))
    left = np.stack([g.output[0] - OUTPUTS * h, g.output[1] - OUTPUTS * w], axis=1)
    strip, across = _division(len(h), blocks, planner.workers)
    columns: dict[str, int] = {"in": inputs, "out": apart, "m": -1}
    if m is not None:
        columns |= m.columns("m") | {"m_channel": m.channel, "m_row": m.row}
        columns["m_table"] = planner.table(m.at(OUTPUTS * h, OUTPUTS * w))
    values = row(
        L.K_CHANNEL_WINOGRAD,
        **x.columns("x"),
        **y.columns("y"),
        **columns,
        relu=int(work.relu),
        w=planner.weight(weights),
        bias=biases(planner, work.bias),
        groups=across,
        channels=blocks,
        extra=in_blocks,
        taps=strip,
        positions=len(h),
        x_table=planner.table(x.at(OUTPUTS * h - g.padding[0], OUTPUTS * w - g.padding[1])),
        y_table=planner.table(y.at(OUTPUTS * h, OUTPUTS * w)),
        strip_table=planner.table(left),
        tap_table=planner.table(np.arange(inputs)),
        v_table=planner.table(np.arange(strip) * in_blocks * LANES, 1),
        s_table=planner.table(np.arange(strip) * LANES, 1),
        x_channel=x.channel,
        x_row=x.row,
        y_channel=y.channel,
        y_row=y.row,
    )
    room = PRODUCTS * ((in_blocks + blocks) * strip * LANES + 2 * STAGGER) + LANES
    planner.emit(work.name, planner.with_scratch(values, room))


def _division(count: int, blocks: int, workers: int) -> tuple[int, int]:
    """Tiles of a strip, and parts of the outputs, such that threads find two units each."""
    strip = min(STRIP, -(-count // (2 * workers)) if count >= 2 * workers else count)
    strip = -(-strip // 4) * 4
    strips = -(-count // strip)
    across = min(-(-blocks // UNIT_BLOCKS), max(1, 2 * workers // strips))
    return strip, across
