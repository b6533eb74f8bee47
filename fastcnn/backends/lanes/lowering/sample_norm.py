"""Lowers normalisation within samples to rows."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.channel_sets import channel_set_rows
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.sample_norm import K_GRADIENT, K_NORM, K_PARAMETERS
from fastcnn.backends.lanes.kernels.sets import group_sets, set_columns
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import (
    fused,
    gradient_offset,
    parameter_offset,
    stored_eps,
)
from fastcnn.backends.sample_sets import Sets

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward


def _forward(walk: "Forward", group: Group) -> None:
    planner, node = walk.planner, group.node
    x, y, sets = walk.values[group.source], walk.output(group), group_sets(group)
    columns = set_columns(planner, sets, sets.axes, x=x, y=y)
    columns |= _weight_columns(planner, group, sets)
    place = -1
    if planner.backward:
        place = walk.kept[group.target] = planner.allocate(_block(sets) * planner.blocks)
    planner.emit(
        f"{node.name}: {group.operation}" + fused(group),
        row(
            K_NORM,
            **columns,
            extra=place,
            extra_block=_block(sets),
            scale=planner.constant([stored_eps(node)]),
            relu=int(group.relu),
        ),
    )


def _backward(walk: "Backward", group: Group, grad: Buffer) -> None:
    planner, node, sets = walk.planner, group.node, group_sets(group)
    x, grad = walk.values[group.source], walk.rectify(group, grad)
    statistics = {"extra": walk.kept[group.target], "extra_block": _block(sets)}
    name = f"{node.name}: gradient of {group.operation}"
    _parameter_rows(walk, group, grad, sets, statistics)
    grad_x = walk.wanted(group)
    if grad_x is not None:
        columns = set_columns(planner, sets, sets.axes, x=x, y=grad, z=grad_x)
        columns |= _weight_columns(planner, group, sets) | statistics
        planner.emit(name, row(K_GRADIENT, **columns))


def _parameter_rows(
    walk: "Backward", group: Group, grad: Buffer, sets: Sets, statistics: dict[str, int]
) -> None:
    """The gradients of weight and bias: sums over a block, then over blocks."""
    planner, count = walk.planner, sets.weights
    offsets = {name: gradient_offset(planner, group, name) for name in ("weight", "bias")}
    if max(offsets.values()) < 0:
        return
    others = tuple(axis for axis in range(len(sets.view)) if axis not in sets.weighted)
    columns = set_columns(planner, sets, others, x=walk.values[group.source], y=grad)
    columns["groups"] = 0
    numbers = np.concatenate(sets.number(sets.set_numbers(), others))
    partial = planner.for_each_block(2 * count)
    planner.emit(
        f"{group.node.name}: gradients of weight and bias",
        row(
            K_PARAMETERS,
            **columns,
            **statistics,
            out=count,
            m=partial["extra"],
            m_block=partial["extra_block"],
            m_table=planner.table(numbers),
            w=offsets["weight"],
            bias=offsets["bias"],
        ),
    )
    for target in offsets.values():
        if target >= 0:
            walk.sum_blocks(group, target, partial, count)
            partial = partial | {"extra": partial["extra"] + count}


def _channels(walk: "ChannelForward", group: Group) -> None:
    scale = walk.planner.constant([stored_eps(group.node)])
    channel_set_rows(walk, group, relu=int(group.relu), mode=_mode(group), scale=scale)


def _block(sets: Sets) -> int:
    """Floats of a block's statistics."""
    return 2 * LANES * sets.count


def _weight_columns(planner: Planner, group: Group, sets: Sets) -> dict[str, int]:
    """Columns of the weights, and of the weight of each member of each set."""
    columns = {
        "w": parameter_offset(planner, group, "weight"),
        "bias": parameter_offset(planner, group, "bias"),
        "mode": _mode(group),
    }
    numbers = np.concatenate(sets.number(sets.weight_numbers(), sets.axes))
    return columns | {"m_table": planner.table(numbers)}


def _mode(group: Group) -> int:
    return L.AROUND_ZERO if group.operation == "rms_norm" else L.CENTRED


lowered(
    "layer_norm",
    "layer_norm2d",
    "group_norm",
    "rms_norm",
    forward=_forward,
    backward=_backward,
    channels=_channels,
)
