"""Lowers fully connected layers to rows."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.convolution.channel_direct import rows as channel_rows
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.linear import K_LINEAR, K_LINEAR_BACKWARD, K_LINEAR_JOIN
from fastcnn.backends.lanes.kernels.linear_gradients import (
    K_LINEAR_BIAS_GRADIENT,
    K_OUTER,
    K_TRANSPOSE,
)
from fastcnn.backends.lanes.kernels.linear_tiles import OUTER_ROOM, RUN, STRIP
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.planning.buffers import LANES, NO_HALO, Buffer
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported
from fastcnn.backends.lanes.planning.planner import FITS_BESIDE
from fastcnn.backends.lanes.planning.rows import fused, gradient_offset, parameter_offset

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward
    from fastcnn.backends.lanes.planning.planner import Planner

#: Maximum groups of inputs of a large linear layer, and minimum inputs of a group.
MOST_GROUPS, LEAST_INPUTS = 8, 256
#: Vectors of all blocks' inputs that a part of the backward pass has at most.
MOST_VECTORS = 1024


def _forward(walk: "Forward", group: Group) -> None:
    """Fully connected layer."""
    planner, x, y = walk.planner, walk.values[group.source], walk.output(group)
    if x.halo != NO_HALO or y.halo != NO_HALO:
        raise Unsupported("a linear layer on a padded map")
    outputs, inputs = planner.parameters[group.node.parameters["weight"]][1]
    weight = parameter_offset(planner, group, "weight")
    groups = _input_groups(inputs, outputs) if planner.backward and group.whole else 1
    sizes = {"in_": inputs, "by_block": int(group.by_block)}
    ends = y.columns("y") | {"bias": parameter_offset(planner, group, "bias")}
    ends["relu"] = int(group.relu)
    name, sums = f"{group.node.name}: linear", None
    if groups > 1:
        planner.grouped[weight] = groups
        size = groups * outputs * LANES
        place = planner.allocate(size * planner.blocks)
        of_groups = {"x": place, "x_block": size, "out": outputs, "groups": groups}
        sums = row(K_LINEAR_JOIN, **of_groups, **ends)
        ends = {"y": place, "y_block": size, "bias": -1}
    columns = x.columns("x") | sizes | {"w": weight, "out": outputs, "groups": groups}
    planner.emit(
        name + ("" if groups > 1 else fused(group)), row(K_LINEAR, **columns, **ends), group.whole
    )
    if (group.target, "weight") in planner.gradients and planner.backward and groups == 1:
        # Rows of inputs for the weight gradient, transposed here because no barrier is needed.
        transposed = planner.allocate(-(-inputs // STRIP) * _strip_size(planner))
        planner.transposed[group.target] = transposed
        planner.emit(*_transpose(planner, group, x, extra=transposed), group.whole, apart=False)
    if sums is not None:
        planner.emit(f"{name}, sums" + fused(group), sums)


def _input_groups(inputs: int, outputs: int) -> int:
    """Groups of a linear layer's inputs, which have separate sums.

    With whole groups a thread uses the same weights forward, in both gradients and in the update.
    Other threads need only these sums, not its inputs or weights.
    """
    groups = 1
    if inputs * outputs > FITS_BESIDE:
        while groups < MOST_GROUPS and inputs >= 2 * groups * LEAST_INPUTS:
            groups *= 2
    return groups


def _strip_size(planner: "Planner") -> int:
    """Floats of a transposed strip of inputs."""
    return planner.blocks * LANES * STRIP


def _transpose(
    planner: "Planner", group: Group, x: Buffer, **columns: int
) -> tuple[str, np.ndarray]:
    """The row that transposes a layer's input for its weight gradient."""
    columns |= x.columns("x") | {"out": _strip_size(planner), "by_block": int(group.by_block)}
    inputs = x.channels * x.height * x.width
    return f"{group.node.name}: transpose input", row(K_TRANSPOSE, in_=inputs, **columns)


def update_may_follow(weights: int) -> bool:
    """Whether the update may directly follow the gradient of this many weights.

    All rows that read the weights are then in phases before the gradient.
    """
    return weights > FITS_BESIDE


def _backward(walk: "Backward", group: Group, grad: Buffer) -> None:
    planner, node = walk.planner, group.node
    grad = walk.rectify(group, grad)
    offset, (outputs, inputs) = planner.parameters[node.parameters["weight"]]
    sizes = {"in_": inputs, "out": outputs}
    gradients, parts = [], 0
    if walk.trains(group, "weight"):
        columns = grad.columns("y") | {"extra": _strip_size(planner)}
        columns |= {"w": gradient_offset(planner, group, "weight")}
        values = row(K_OUTER, **columns, **sizes)
        planner.with_scratch(values, OUTER_ROOM)
        if group.target not in planner.transposed:
            strips = -(-inputs // STRIP)
            run = max(1, min(RUN, MOST_VECTORS // (STRIP * planner.blocks)))
            values[L.BY_STRIP] = parts = -(-strips // run)
            name, moved = _transpose(planner, group, walk.values[group.source], by_strip=parts)
            planner.pass_on(moved, values, -(-strips // parts) * _strip_size(planner))
            planner.emit(name, moved, parts)
        else:
            values[L.X] = planner.transposed[group.target]
        gradients.append((f"{node.name}: weight gradient", values))
    if walk.trains(group, "bias"):
        bias = gradient_offset(planner, group, "bias")
        values = row(K_LINEAR_BIAS_GRADIENT, **grad.columns("y"), bias=bias, **sizes)
        gradients.append((f"{node.name}: bias gradient", values))

    def emit_gradients() -> None:
        for index, (name, values) in enumerate(gradients):
            planner.emit(name, values, parts or 1, apart=index == 0 and not parts)

    later = not group.whole or update_may_follow(inputs * outputs)
    if not later:
        emit_gradients()
    grad_x = walk.wanted(group)
    if grad_x is not None:
        sizes = {"in_": outputs, "out": inputs, "by_block": int(group.by_block)}
        planner.emit(
            f"{node.name}: input gradient",
            row(
                K_LINEAR_BACKWARD,
                **grad.columns("x"),
                **grad_x.columns("y"),
                w=offset,
                bias=-1,
                **walk.mask(group),
                **sizes,
                by_strip=parts,
            ),
            parts or group.whole,
            apart=not parts and (later or not gradients),
        )
    if not group.whole:
        planner.reductions += gradients
    elif later:
        emit_gradients()


def _channels(walk: "ChannelForward", group: Group) -> None:
    """Fully connected layer; its input's elements may be at any offsets."""
    planner, x, y = walk.planner, walk.values[group.source], walk.output(group)
    weight = planner.parameter(group, "weight")
    assert weight is not None
    name = f"{group.node.name}: linear" + fused(group)
    work = channel_rows.Sum(
        name, x, y, weight, walk.bias(group, len(weight)), walk.rectifier(group), whole=True
    )
    channel_rows.linear(planner, work, walk.places[group.source])


lowered("linear", forward=_forward, backward=_backward, channels=_channels)
