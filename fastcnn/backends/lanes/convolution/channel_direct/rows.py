"""Lowers convolutions of few samples to rows with a channel in each lane, and packs weights."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from fastcnn.backends.lanes.convolution.channel_direct import records
from fastcnn.backends.lanes.convolution.channel_direct.kernels import channels_of_dot
from fastcnn.backends.lanes.convolution.channel_direct.sums import Sum, biases, packed
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry, stretch, without_zeros
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.planning.buffers import LANES, lane_blocks
from fastcnn.backends.lanes.planning.channel_planner import ChannelPlanner, PlanarBuffer
from fastcnn.backends.lanes.planning.rows import grid


def convolution(planner: ChannelPlanner, g: ConvGeometry, work: Sum) -> None:
    """Add the rows of a convolution."""
    kh, kw = grid(*g.kernel)
    taps = kh * g.dilation[0] * work.x.row + kw * g.dilation[1] * work.x.pixel
    h, w = grid(*g.output)
    positions = Positions(h, w, work.x.at(*g.first_pixels(h, w)))
    if g.group_inputs == g.group_outputs == 1 and g.groups > 1:
        work.weight = work.weight.reshape(g.out_channels, -1)
        depthwise(planner, work, positions.places, taps)
    else:
        work.weight = work.weight.reshape(g.out_channels, g.group_inputs, -1)
        _direct(planner, g.groups, work, taps, positions)


def transposed(planner: ChannelPlanner, g: ConvGeometry, work: Sum) -> None:
    """Add the rows of a transposed convolution: one for each phase of the stride, and further ones
    where borders read much padding; ``g`` is the corresponding convolution."""
    of_group = work.weight.reshape(g.groups, g.group_outputs, g.group_inputs, *g.kernel)
    weight = of_group.swapaxes(1, 2).reshape(-1, g.group_outputs, *g.kernel)
    parts = [
        [
            (first, piece)
            for first in range(min(g.stride[axis], g.input[axis]))
            for piece in without_zeros(stretch(g, axis, first), g.output[axis])
        ]
        for axis in (0, 1)
    ]
    for (top, rows), (left, columns) in product(*parts):
        h, w = (part.ravel() for part in np.meshgrid(rows.steps, columns.steps, indexing="ij"))
        positions = Positions(top + h * g.stride[0], left + w * g.stride[1], work.x.at(h, w))
        kernel = weight[:, :, rows.kernel][..., columns.kernel]
        shifts = rows.shift[:, None] * work.x.row + columns.shift * work.x.pixel
        if not shifts.size:
            # A sum over one zero weight.
            kernel, shifts = np.zeros((*weight.shape[:2], 1)), np.zeros(1, np.int64)
        kernel = kernel.reshape(*weight.shape[:2], -1)
        made = replace(work, weight=kernel)
        _direct(planner, g.groups, made, shifts.ravel(), positions)


@dataclass(frozen=True)
class Positions:
    """Pixels of Y, and the offsets in X to which those of taps are added."""

    h: np.ndarray
    w: np.ndarray
    places: np.ndarray


def _columns(planner: ChannelPlanner, work: Sum, at: "Positions") -> dict[str, int]:
    """Columns and tables of some positions of Y."""
    y, m = work.y, work.added
    found: dict[str, int] = {
        **work.columns("x", work.x),
        **work.columns("y", y),
        **work.size(planner, len(at.h)),
        "x_table": work.table(planner, work.x, at.places, 1),
        "y_channel": y.channel,
        "y_table": work.table(planner, y, y.at(at.h, at.w), 1),
        "relu": work.relu,
        "m": -1,
    }
    if m is None:
        return found | {"m_table": work.table(planner, y, np.zeros(len(at.h)), 1)}
    found |= work.columns("m", m)
    return found | {"m_channel": m.channel, "m_table": work.table(planner, m, m.at(at.h, at.w), 1)}


def _direct(
    planner: ChannelPlanner, groups: int, work: Sum, taps: np.ndarray, positions: Positions
) -> None:
    """Add rows of direct sums over some taps of each channel.

    The weight has the shape (outputs, inputs of a group, taps). Groups that do not fill vectors
    have a row for each vector of outputs, in which the weights of other groups are zero.
    """
    outputs, inputs, _ = work.weight.shape
    each = outputs // groups
    x_group = 0
    if groups > 1 and not inputs % LANES == each % LANES == 0:
        for block, first in enumerate(range(0, outputs, LANES)):
            last = min(first + LANES, outputs)
            low, high = first // each, (last - 1) // each + 1
            weight = np.zeros((last - first, (high - low) * inputs, len(taps)), np.float32)
            for output in range(first, last):
                start = (output // each - low) * inputs
                weight[output - first, start : start + inputs] = work.weight[output]
            part = work.part(block, weight)
            part.lanes = work.lanes[low * inputs : high * inputs]
            _direct(planner, 1, part, taps, positions)
        return
    if groups == 1 and _pays_by_dots(work):
        _dots(planner, work, taps, positions)
        return
    if groups > 1:
        x_group = lane_blocks(inputs) * work.x.channel
    taps = (work.channels()[:inputs, None] + taps).ravel()
    _emit(planner, work, work.weight.reshape(groups, each, -1), taps, positions, x_group)


def _pays_by_dots(work: Sum) -> bool:
    """Whether lanes should hold input channels, because there are few output channels."""
    outputs, inputs, taps = work.weight.shape
    if isinstance(work.x, PlanarBuffer) or not np.array_equal(work.lanes, np.arange(inputs)):
        return False
    dots = outputs * (lane_blocks(inputs) * taps + records.SUM)
    return dots < inputs * taps * lane_blocks(outputs) and outputs <= LANES


def _dots(planner: ChannelPlanner, work: Sum, taps: np.ndarray, positions: "Positions") -> None:
    """Add a row whose lanes hold input channels."""
    outputs, inputs, count = work.weight.shape
    blocks, used = lane_blocks(inputs), inputs % LANES or LANES
    padded = np.zeros((outputs, blocks * LANES, count), np.float32)
    padded[:, :inputs] = work.weight
    by_tap = padded.reshape(outputs, blocks, LANES, count).transpose(1, 3, 0, 2)
    vectors = by_tap.reshape(blocks * count, outputs, LANES)
    parts, c = [], 0
    while c < outputs:
        rows = channels_of_dot(outputs - c)
        parts.append(vectors[:, c : c + rows].ravel())
        c += rows
    columns = _columns(planner, work, positions) | {"in": used, "out": outputs}
    # All channels are in one vector.
    columns |= {"y_channel": 0, "m_channel": 0}
    planner.emit(
        work.name,
        row(
            records.K_CHANNEL_DOT,
            **columns,
            w=planner.weight(np.concatenate(parts)),
            bias=planner.weight(work.bias),
            taps=blocks * count,
            extra=(blocks if used == LANES else blocks - 1) * count,
            tap_table=planner.table(np.arange(blocks)[:, None] * work.x.channel + taps),
        ),
        work.whole,
    )


def linear(planner: ChannelPlanner, work: Sum, taps: np.ndarray) -> None:
    """Add the row of a fully connected layer; ``taps`` are the offsets of its inputs."""
    once = np.zeros(1, np.int64)
    _emit(planner, work, work.weight[None], taps, Positions(once, once, once))


def _emit(
    planner: ChannelPlanner,
    work: Sum,
    of_groups: np.ndarray,
    taps: np.ndarray,
    positions: Positions,
    x_group: int = 0,
) -> None:
    """Add the row for weights of shape (groups, outputs, taps)."""
    groups, each, _ = of_groups.shape
    planner.emit(
        work.name,
        row(
            records.K_CHANNEL_CONV,
            **_columns(planner, work, positions),
            w=planner.weight(np.concatenate([packed(part) for part in of_groups])),
            bias=biases(planner, work.bias, groups),
            groups=groups,
            channels=lane_blocks(each),
            taps=len(taps),
            tap_table=planner.table(taps),
            x_group=x_group,
        ),
        work.whole,
    )


def depthwise(planner: ChannelPlanner, work: Sum, places: np.ndarray, taps: np.ndarray) -> None:
    """Add the row of a depthwise convolution, with bias.

    Parameters
    ----------
    work : Sum
        Its weights have the shape (channels, taps).
    places, taps : ndarray
        Offsets of each position's first tap, and of the taps relative to it.
    """
    _, count = work.weight.shape
    padded = np.zeros((work.x.channels * LANES, count), np.float32)
    padded[work.lanes] = work.weight
    bias = np.zeros(work.x.channels * LANES)
    bias[work.lanes] = work.bias
    planner.emit(
        work.name,
        row(
            records.K_CHANNEL_DEPTHWISE,
            **_columns(planner, work, Positions(*grid(work.y.height, work.y.width), places)),
            w=planner.weight(padded.reshape(-1, LANES, count).transpose(0, 2, 1)),
            bias=planner.weight(bias),
            channels=work.x.channels,
            taps=count,
            tap_table=planner.table(taps),
            x_channel=work.x.channel,
        ),
    )
