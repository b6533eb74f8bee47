"""Lowers convolutions and transposed convolutions to rows, with the operations fused to them."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.lanes.convolution import rows as conv_rows
from fastcnn.backends.lanes.convolution.algorithm import Part
from fastcnn.backends.lanes.convolution.algorithms import gradient_halo
from fastcnn.backends.lanes.convolution.channel_direct.sums import Sum
from fastcnn.backends.lanes.convolution.direct.records import K_BIAS_GRADIENT
from fastcnn.backends.lanes.convolution.task import Task
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.elements import copy
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.norm import K_NORM_JOIN
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.pool import K_UNPOOL, winner_row
from fastcnn.backends.lanes.planning import rows
from fastcnn.backends.lanes.planning.buffers import Buffer, map_shape
from fastcnn.backends.lanes.planning.grouping import Group

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward


def _forward(walk: "Forward", group: Group) -> None:
    """Convolution, with the operations fused to it."""
    planner, x, y = walk.planner, walk.values[group.source], walk.output(group)
    columns = {"relu": int(group.relu), "bias": rows.parameter_offset(planner, group, "bias")}
    if group.pooled:
        winners = planner.like(y, passing=planner.winners_pass(group))
        walk.winners[group.target] = winners
        columns |= winners.columns("m") | {"mode": L.POOLED}
    if group.adds:
        columns |= _summand(walk, group, y).columns("m") | {"mode": L.ADDED}
    strips = _strips(walk, group)
    if strips:
        sums = planner.for_each_block(2 * y.channels * len(strips))
        walk.moments[group.target] = sums
        columns |= sums | {"moments": 1}
    task = _named_task(walk, group, "convolution")
    conv_rows.product(task, x, y, group.pooled, **columns)
    if len(strips) > 1:
        count = {"channels": y.channels, "taps": len(strips)}
        values = row(K_NORM_JOIN, tap_table=planner.table(strips), **count, **sums)
        planner.emit(f"{group.node.name}: sums of strips", values)


def _summand(walk: "Forward", group: Group, y: Buffer) -> Buffer:
    """The map that is added to a convolution, in the layout of its output."""
    other = walk.values[group.sources[1]]
    if (other.row, other.channel) == (y.row, y.channel):
        return other
    made = walk.planner.like(y, passing=not group.whole)
    copy(walk.planner, group.node.name, other, made)
    return made


def _strips(walk: "Forward", group: Group) -> list[int]:
    """Pixels of each part of a convolution's output whose moments batch normalisation reads."""
    planner = walk.planner
    readers = planner.readers.get(group.target, [])
    norms = [reader for reader in readers if reader.node.takes_batch_statistics(planner.training)]
    if len(norms) != 1 or norms[0].source != group.target:
        return []
    return conv_rows.moment_strips(planner.geometry(group.node), group.pooled)


def _transposed(walk: "Forward", group: Group) -> None:
    """Transposed convolution."""
    planner, x, y = walk.planner, walk.values[group.source], walk.output(group)
    columns = {"relu": int(group.relu), "bias": rows.parameter_offset(planner, group, "bias")}
    conv_rows.transpose(_named_task(walk, group, "transposed convolution"), x, y, **columns)


def _named_task(walk: "Forward", group: Group, what: str) -> Task:
    """The task of lowering the group's convolution."""
    planner, name = walk.planner, f"{group.node.name}: {what}{rows.fused(group)}"
    weight = rows.parameter_offset(planner, group, "weight")
    return Task(planner, name, planner.geometry(group.node), weight)


def _backward(walk: "Backward", group: Group, grad: Buffer) -> None:
    task = _task(walk, group)
    g = task.g
    trains, needed = walk.trains(group, "weight"), walk.is_needed(group.source)
    x = walk.values[group.source]
    chooses = group.pooled and conv_rows.chooses_pixels(g, x)
    sums_own = conv_rows.sums_own_gradient(g) and not chooses
    weights = 0 if sums_own else g.out_channels * g.taps
    partial, bias = walk.partial(group, weights, g.out_channels)
    if trains and not group.pooled and conv_rows.are_made_together(g):
        grad = walk.rectify(group, grad)
        _reduce(walk, group, partial, bias, weights, g.out_channels)
        place = weights if walk.needs_sums(group) else -1
        columns = partial | {"bias": place} | walk.mask(group)
        conv_rows.gradients(task, x, grad, walk.wanted(group), **columns)
        return
    # Direct sums read pooled gradients if they select pixels, or if no other row needs all pixels.
    meets = bool(group.pooled and weights and trains and (chooses or not needed))
    parts = [Part.GRADIENT] * (trains and not meets) + [Part.TRANSPOSE] * needed
    reads = group.pooled and conv_rows.unpools(g, parts)
    sums = trains and walk.needs_sums(group) and (reads if meets else conv_rows.sums_biases(g))
    if meets:
        winners, place = walk.winners[group.target], weights if sums else -1
        conv_rows.weight_gradient(task, x, grad, winners, partial, place)
    sent: dict[str, int] = {}
    if reads and (sums or not walk.needs_sums(group)):
        sent = walk.winners[group.target].columns("m")
    elif group.pooled:
        grad, sums = _before_pooling(walk, group, grad, bias), False
    else:
        grad = walk.rectify(group, grad)
        if not sums:
            _bias_gradient(walk, group, grad, bias)
    if meets or not trains:
        pass
    elif weights:
        place = weights if sums else -1
        conv_rows.weight_gradient(task, x, grad, None, partial, place)
    else:
        places = {"biases": bias} if sums else {}
        places |= {"winners": sent} if sent else {}
        target = task._replace(weight=rows.gradient_offset(walk.planner, group, "weight"))
        conv_rows.summed_weight_gradient(target, x, grad, **places)
    _reduce(walk, group, partial, bias, weights, g.out_channels)
    grad_x = walk.wanted(group)
    if grad_x is not None:
        task = task._replace(name=f"{task.name}: input gradient")
        conv_rows.transpose(task, grad, grad_x, **sent, **walk.mask(group))


def _task(walk: "Backward", group: Group) -> Task:
    """The task of lowering the group's convolution."""
    planner, node = walk.planner, group.node
    weight = rows.parameter_offset(planner, group, "weight")
    return Task(planner, node.name, planner.geometry(node), weight)


def _transposed_gradient(walk: "Backward", group: Group, grad: Buffer) -> None:
    task = _task(walk, group)
    sums_own = conv_rows.sums_own_gradient(task.g)
    count = 0 if sums_own else task.g.out_channels * task.g.taps
    channels = group.node.output_shape[0]
    partial, bias = walk.partial(group, count, channels)
    grad = walk.rectify(group, grad)
    _bias_gradient(walk, group, grad, bias)
    if walk.trains(group, "weight"):
        x = walk.values[group.source]
        if sums_own:
            target = task._replace(weight=rows.gradient_offset(walk.planner, group, "weight"))
            conv_rows.summed_weight_gradient(target, grad, x)
        else:
            conv_rows.weight_gradient(task, grad, x, None, partial, -1)
    _reduce(walk, group, partial, bias, count, channels)
    grad_x = walk.wanted(group)
    if grad_x is not None:
        task = task._replace(name=f"{task.name}: input gradient")
        conv_rows.product(task, grad, grad_x, False, **walk.mask(group))


def _bias_gradient(walk: "Backward", group: Group, grad: Buffer, bias: dict[str, int]) -> None:
    if walk.needs_sums(group):
        columns = rows.element_columns(walk.planner, y=grad) | bias
        walk.planner.emit(f"{group.node.name}: bias gradient", row(K_BIAS_GRADIENT, **columns))


def _before_pooling(walk: "Backward", group: Group, pooled: Buffer, bias: dict[str, int]) -> Buffer:
    """The gradient of a convolution's own output, from that after the fused pooling."""
    planner, node = walk.planner, group.node
    halo = gradient_halo(planner.geometry(node))
    grad = planner.buffer(node.output_shape, halo, passing=not group.whole)
    h, w = rows.windows_of_two(*node.output_shape[1:])
    planner.emit(
        f"{node.name}: gradients of pooling and bias",
        row(
            K_UNPOOL,
            **grad.channel_columns("x"),
            **pooled.channel_columns("y"),
            **walk.winners[group.target].columns("m"),
            channels=grad.channels,
            positions=len(h) // 4,
            x_table=planner.table(grad.at(h, w)),
            y_table=planner.table(pooled.pixels()),
            **bias,
        ),
    )
    return grad


def _reduce(
    walk: "Backward",
    group: Group,
    partial: dict[str, int],
    bias: dict[str, int],
    weights: int,
    biases: int,
) -> None:
    """Plan the sums of the gradients over blocks."""
    if weights and walk.trains(group, "weight"):
        target = rows.gradient_offset(walk.planner, group, "weight")
        walk.sum_blocks(group, target, partial, weights)
    if walk.trains(group, "bias"):
        walk.sum_blocks(group, rows.gradient_offset(walk.planner, group, "bias"), bias, biases)


def _channels(walk: "ChannelForward", group: Group) -> None:
    """Convolution, with the operations fused to it."""
    planner, g = walk.planner, walk.planner.geometry(group.node)
    y = walk.output(group)
    if group.pooled:
        shape = (g.out_channels, *g.output)
        target = planner.buffer(shape) if group.whole else planner.reused(shape)
        conv_rows.product_by_channels(planner, g, _sum(walk, group, g.out_channels, target))
        _pooled(walk, group, target, y)
        planner.release(target)
    else:
        conv_rows.product_by_channels(planner, g, _sum(walk, group, g.out_channels, y))


def _transposed_channels(walk: "ChannelForward", group: Group) -> None:
    """Transposed convolution."""
    g = walk.planner.geometry(group.node)
    work = _sum(walk, group, g.group_inputs * g.groups, walk.output(group))
    conv_rows.transpose_by_channels(walk.planner, g, work)


def _sum(walk: "ChannelForward", group: Group, outputs: int, y: Buffer) -> Sum:
    """The sum that a convolution's rows compute."""
    weight = walk.planner.parameter(group, "weight")
    assert weight is not None
    what = "transposed convolution" if group.operation == "conv_transpose2d" else "convolution"
    # A depthwise kernel works lane by lane.
    alone = group.node.arguments["groups"] > 1
    passing = not group.whole
    x = walk.usual(group.source, passing) if alone else walk.values[group.source]
    channels = np.arange(map_shape(group.node.input_shapes[0])[0])
    return Sum(
        f"{group.node.name}: {what}" + rows.fused(group),
        x,
        y,
        weight,
        walk.bias(group, outputs),
        walk.rectifier(group),
        walk.usual(group.sources[1], passing) if group.adds else None,
        channels if alone else walk.lanes[group.source],
        group.whole,
    )


def _pooled(walk: "ChannelForward", group: Group, x: Buffer, y: Buffer) -> None:
    """2x2 max pooling of a convolution's output."""
    h, w = rows.grid(y.height, y.width)
    down, along = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    windows = x.at(2 * h[:, None] + down, 2 * w[:, None] + along)
    walk.planner.emit(
        f"{group.node.name}: 2x2 max pooling", winner_row(walk.planner, x, y, None, windows)
    )


lowered("conv2d", forward=_forward, backward=_backward, channels=_channels)
lowered(
    "conv_transpose2d",
    forward=_transposed,
    backward=_transposed_gradient,
    channels=_transposed_channels,
)
