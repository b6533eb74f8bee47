"""Pieces of program rows that forward and backward share: tables, packed weights, columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.backends.counter_random import drop_threshold
from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.layout import row

if TYPE_CHECKING:
    from fastcnn.backends.lanes.program import Buffer, Group, Planner

LANES = 16


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of all positions in row-major order."""
    h, w = np.mgrid[:height, :width]
    return h.ravel(), w.ravel()


def windows_of_two(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the order of 2x2 windows, four of each."""
    h, w = grid(height // 2, width // 2)
    offset = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    return (2 * h[:, None] + offset[:, 0]).ravel(), (2 * w[:, None] + offset[:, 1]).ravel()


def fused(group: Group) -> str:
    """What a group does besides its first operation, for its name."""
    return (" + ReLU" if group.relu else "") + (" + 2x2 max pooling" if group.pooled else "")


def bias_offset(planner: Planner, group: Group) -> int:
    """Where a layer's bias stands, or -1."""
    key = group.node.parameters.get("bias")
    return -1 if key is None else planner.parameters[key][0]


def pack(planner: Planner, name: str, groups: int, channels: int, source: np.ndarray) -> int:
    """Plan a packed copy of weights in the order of tiles; returns its offset."""
    from fastcnn.backends.lanes.program import pack_order

    order = pack_order(groups, channels, source)
    offset = planner.allocate(order.size + LANES)
    values = row(L.K_PACK, w=offset, tap_table=planner.table(order), taps=order.size)
    planner.packs.append((f"{name}: pack weights", values))
    return offset


def input_taps(planner: Planner, group: Group, x: Buffer) -> np.ndarray:
    """Offsets of a convolution's taps in its input, in the order of the weights."""
    g = planner.geometry(group.node)
    c, kh, kw = np.mgrid[: g.group_inputs, : g.kernel[0], : g.kernel[1]]
    taps = c * x.channel + kh * g.dilation[0] * x.row + kw * g.dilation[1] * LANES
    return taps.ravel()


#: Floats of a block's input above which a convolution asks ahead for its next positions.
FITS_CACHE = 96 * 1024


def ahead_columns(planner: Planner, taps: np.ndarray, channels: int, x: Buffer) -> dict[str, int]:
    """Columns for prefetching: the furthest tap of each input channel, where that pays."""
    if x.size <= FITS_CACHE or taps.size == 0:
        return {}
    furthest = taps.reshape(channels, -1).max(axis=1)
    return {"in": channels, "extra": planner.table(furthest)}


def taps_of_phase(g: Any, axis: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel indices that reach input rows ``first + m * stride``, and their output row minus m."""
    k = np.arange(g.kernel[axis])
    distance = first + g.padding[axis] - k * g.dilation[axis]
    fits = distance % g.stride[axis] == 0
    return k[fits], distance[fits] // g.stride[axis]


def element_columns(planner: Planner, x: Buffer, y: Buffer) -> dict[str, int]:
    """Columns of a row that goes over all elements of two buffers."""
    return {
        "channels": x.channels,
        "positions": x.height * x.width,
        "x_table": planner.table(x.pixels()),
        "y_table": planner.table(y.pixels()),
        "x_channel": x.channel,
        "y_channel": y.channel,
    }


def dropout_row(planner: Planner, group: Group, x: Buffer, y: Buffer) -> np.ndarray:
    """The row of dropout; the key of its mask is the node's place in the graph."""
    p = group.node.arguments["p"]
    return row(
        L.K_DROPOUT, **x.columns("x"), **y.columns("y"), **element_columns(planner, x, y),
        key=group.target, threshold=drop_threshold(p), scale=planner.constant([1.0 / (1.0 - p)]),
    )  # fmt: skip


def pool_row(
    planner: Planner, kernel: int, group: Group, x: Buffer, y: Buffer, winner: Buffer | None
) -> np.ndarray:
    """The row of a pooling, forward or backward; X is the side of the input."""
    arguments = group.node.arguments
    height, width = arguments["kernel_size"]
    oh, ow = grid(y.height, y.width)
    kh, kw = grid(height, width)
    h = oh[:, None] * arguments["stride"][0] - arguments["padding"][0] + kh
    w = ow[:, None] * arguments["stride"][1] - arguments["padding"][1] + kw
    inside = (h >= 0) & (h < x.height) & (w >= 0) & (w < x.width)
    # Pixels inside first, in order; the rest of a clipped window repeats its first one.
    order = np.argsort(~inside, axis=1, kind="stable")
    offsets = np.take_along_axis(x.at(h, w), order, axis=1)
    kept = np.take_along_axis(inside, order, axis=1)
    offsets = np.where(kept, offsets, offsets[:, :1])
    count = inside.sum(axis=1)
    columns: dict[str, int] = {"in": x.height * x.width}
    if winner is not None:
        columns |= winner.columns("m")
        windows = offsets
    else:
        windows = np.concatenate([count[:, None], offsets], axis=1)
        divisor = height * width if arguments["count_include_pad"] else count
        columns["scale"] = planner.constant(np.broadcast_to(1.0 / divisor, count.shape))
    return row(
        kernel, **x.columns("x"), **y.columns("y"), channels=x.channels, positions=len(oh),
        taps=height * width, tap_table=planner.table(windows),
        x_table=planner.table(x.pixels()), y_table=planner.table(y.pixels()),
        x_channel=x.channel, y_channel=y.channel, **columns,
    )  # fmt: skip
