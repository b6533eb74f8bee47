"""Lowers fully connected layers to rows."""

from typing import TYPE_CHECKING

from fastcnn.backends.lanes.convolution.channels import rows as channel_rows
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.linear import (
    K_LINEAR,
    K_LINEAR_BACKWARD,
    K_LINEAR_BIAS_GRADIENT,
    K_LINEAR_JOIN,
    K_OUTER,
    K_TRANSPOSE,
)
from fastcnn.backends.lanes.kernels.linear_tiles import OUTER_ROOM
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.planning.buffers import LANES, NO_HALO, Buffer
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported
from fastcnn.backends.lanes.planning.planner import FITS_BESIDE
from fastcnn.backends.lanes.planning.rows import fused, gradient_offset, parameter_offset

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward

#: Maximum groups of inputs of a large linear layer, and minimum inputs of a group.
MOST_GROUPS, LEAST_INPUTS = 8, 256


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
    if (group.target, "weight") in planner.gradients and planner.backward:
        # Rows of inputs for the weight gradient, transposed here because no barrier is needed. Rows
        # must not all map to the same cache sets.
        width = -(-inputs // 64) * 64 + LANES
        transposed = planner.allocate(planner.blocks * LANES * width)
        planner.transposed[group.target] = width, transposed
        planner.emit(
            f"{group.node.name}: transpose input",
            row(K_TRANSPOSE, **x.columns("x"), **sizes, y=transposed, out=width),
            group.whole,
            apart=False,
        )
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
    gradients = []
    if walk.trains(group, "weight"):
        width, transposed = planner.transposed[group.target]
        columns = grad.columns("y") | {
            "x": transposed,
            "extra": width,
            "w": gradient_offset(planner, group, "weight"),
            "m": planner.allocate(OUTER_ROOM * planner.workers),
            "m_slot": OUTER_ROOM,
            "groups": planner.grouped.get(offset, 1),
        }
        gradients.append((f"{node.name}: weight gradient", row(K_OUTER, **columns, **sizes)))
    if walk.trains(group, "bias"):
        bias = gradient_offset(planner, group, "bias")
        values = row(K_LINEAR_BIAS_GRADIENT, **grad.columns("y"), bias=bias, **sizes)
        gradients.append((f"{node.name}: bias gradient", values))

    def emit_gradients() -> None:
        for index, (name, values) in enumerate(gradients):
            planner.emit(name, values, whole=True, apart=index == 0)

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
            ),
            group.whole,
            apart=later or not gradients,
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
