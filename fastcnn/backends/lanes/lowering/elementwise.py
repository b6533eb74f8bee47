"""Lowers element-wise operations to rows."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.elements import K_REPEAT_LAST
from fastcnn.backends.lanes.kernels.formula_table import formula_kernel
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.windows import adaptive, spread_columns
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, channels_of
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import element_columns, gradient_offset
from fastcnn.codegen.identity import is_own
from fastcnn.operations import OPERATIONS, Elementwise

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward


def formula_columns(planner: Planner, group: Group, what: str) -> dict[str, int]:
    """Columns that select an element-wise operation's formula, and its settings."""
    record, arguments = elementwise(group.operation), group.node.arguments
    _, numbers = record.formula_of(arguments)
    columns = {"scale": planner.constant([*numbers, 0.0])}
    for name in record.parameters:
        offset, (size,) = planner.parameters[group.node.parameters[name]]
        columns |= {"w": offset, "mode": int(size > 1)}
    return columns | {"kernel": formula_kernel(record, arguments, what)}


def elementwise(operation: str) -> Elementwise:
    """The record of an element-wise operation."""
    record = OPERATIONS[operation]
    assert isinstance(record, Elementwise)
    return record


def _forward(walk: "Forward", group: Group) -> None:
    """A function of each element, in place if nothing else needs the input."""
    x = walk.values[group.source]
    formula, _ = elementwise(group.operation).formula_of(group.node.arguments)
    if walk.planner.backward and not is_own(formula.value):
        # A user's formula may be infinite or NaN at the zeros of idle lanes, and so would be its
        # product with their gradient, which is 0.
        columns = element_columns(walk.planner, x=x)
        walk.planner.emit(f"{group.node.name}: idle lanes", row(K_REPEAT_LAST, **columns))
    if _overwrites(walk.planner, group, x):
        walk.values[group.target] = x
    y = walk.output(group)
    columns = element_columns(walk.planner, x=x, y=y)
    columns |= formula_columns(walk.planner, group, "value")
    walk.planner.emit(f"{group.node.name}: {group.operation}", row(**columns))


def _overwrites(planner: Planner, group: Group, x: Buffer) -> bool:
    """Whether an operation may write its output over its input."""
    source, target, maker = group.source, group.target, planner.makers.get(group.source)
    alone = len(planner.readers[source]) == 1 and maker is not None
    if not alone or any(map(planner.is_joined, (source, target))):
        return False
    assert maker is not None
    record = OPERATIONS[maker.operation]
    if record.renames or planner.halo(target) != x.halo:
        return False
    if planner.value_passes(source) and not planner.value_passes(target):
        return False
    if not planner.backward:
        return not planner.keep
    unread = not (record.gradient_reads_output or maker.relu or maker.pooled)
    return planner.turns and unread and OPERATIONS[group.operation].gradient_reads_output


def _backward(walk: "Backward", group: Group, grad: Buffer) -> None:
    by_output = OPERATIONS[group.operation].gradient_reads_output
    seen = walk.values[group.target if by_output else group.source]
    _parameter_gradient(walk, group, grad, seen)
    grad_x = walk.wanted(group)
    if grad_x is None:
        return
    name = f"{group.node.name}: gradient of {group.operation}"
    pooling = walk.averaged.get(group.target)
    if pooling is None:
        columns = formula_columns(walk.planner, group, "gradient")
        columns |= element_columns(walk.planner, x=grad_x, y=grad, m=seen)
    else:
        name += f" + {adaptive(pooling)}average pooling"
        columns = formula_columns(walk.planner, group, "averaged_gradient")
        columns |= spread_columns(walk.planner, pooling, grad, x=grad_x, m=seen)
    walk.planner.emit(name, row(**columns))


def _parameter_gradient(walk: "Backward", group: Group, grad: Buffer, x: Buffer) -> None:
    """The gradient of an element-wise operation's parameter, if it has one."""
    for name, key in group.node.parameters.items():
        if not walk.trains(group, name):
            continue
        _, (size,) = walk.planner.parameters[key]
        partial, _ = walk.partial(group, size, 0)
        columns = formula_columns(walk.planner, group, "parameter")
        columns |= element_columns(walk.planner, y=grad, m=x) | partial
        walk.planner.emit(f"{group.node.name}: gradient of its parameter", row(**columns))
        walk.sum_blocks(group, gradient_offset(walk.planner, group, name), partial, size)


def _channels(walk: "ChannelForward", group: Group) -> None:
    """A function of each element."""
    planner, x = walk.planner, walk.values[group.source]
    columns = formula_columns(planner, group, "value")
    parameters = elementwise(group.operation).parameters
    lanes = walk.lanes.get(group.source)
    values = [planner.parameter(group, name) for name in parameters]
    of_channels = any(value is not None and value.size > 1 for value in values)
    if lanes is None and of_channels:
        x = walk.usual(group.source)
        lanes = np.arange(x.channels * LANES)[: channels_of(planner.shape(group.source))]
        y = walk.keep(group.target, planner.value_buffer(group.target), lanes)
    else:
        y = _same_layout(walk, group, x)
    for value in values:
        assert value is not None
        if of_channels:
            vectors = np.zeros(x.channels * LANES, np.float32)
            vectors[lanes] = value
            columns |= {"w": planner.weight(vectors), "mode": L.FOR_LANES}
        else:
            columns |= {"w": planner.weight(value), "mode": L.FOR_ALL}
    columns |= element_columns(planner, x=x, y=y)
    planner.emit(f"{group.node.name}: {group.operation}", row(**columns))


def _same_layout(walk: "ChannelForward", group: Group, x: Buffer) -> Buffer:
    """The buffer of an operation that keeps the layout, also of a flattened map."""
    if _overwrites(walk.planner, group, x):
        walk.rename(group)
        return x
    if group.source in walk.lanes:
        return walk.output(group)
    made = walk.planner.like(x, walk.planner.value_passes(group.target))
    walk.values[group.target], walk.places[group.target] = made, walk.places[group.source]
    return made


lowered("elementwise", forward=_forward, backward=_backward, channels=_channels, keeps_lanes=True)
