"""Lowers operations that reshape, concatenate and slice; where possible they add no rows."""

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.kernels.elements import copy
from fastcnn.backends.lanes.kernels.operation import lowered
from fastcnn.backends.lanes.kernels.sampling import backward_sampling, forward_sampling
from fastcnn.backends.lanes.planning.buffers import LANES, NO_HALO, Buffer, channels_of, map_shape
from fastcnn.backends.lanes.planning.channel_planner import PlanarBuffer
from fastcnn.backends.lanes.planning.grouping import Group

if TYPE_CHECKING:
    from fastcnn.backends.lanes.lowering.backward import Backward
    from fastcnn.backends.lanes.lowering.channel_forward import ChannelForward
    from fastcnn.backends.lanes.lowering.forward import Forward


def _flatten(walk: "Forward", group: Group) -> None:
    """A reshape of the same memory, unless the map has a halo."""
    x = y = walk.values[group.source]
    if x.halo != NO_HALO:
        y = walk.planner.buffer(x.shape)
        copy(walk.planner, group.node.name, x, y)
    walk.values[group.target] = y.reshaped(x.channels * x.height * x.width, 1, 1)


def _renamed(walk: "Backward", group: Group, grad: Buffer) -> None:
    walk.renamed(group, grad)


def _same(walk: "ChannelForward", group: Group) -> None:
    walk.rename(group)


def _unflatten(walk: "Forward", group: Group) -> None:
    """A reshape of the same memory, unless the map has a halo."""
    x = walk.values[group.source]
    if x.halo == NO_HALO and walk.planner.halo(group.target) == NO_HALO:
        channels, height, width = map_shape(group.node.output_shape)
        walk.values[group.target] = x.reshaped(channels, height, width)
    else:
        forward_sampling(walk, group)


def _unflatten_gradient(walk: "Backward", group: Group, grad: Buffer) -> None:
    """The same memory, unless the layout differs."""
    if grad.halo == NO_HALO:
        walk.renamed(group, grad)
    else:
        backward_sampling(walk, group, grad)


def _unflatten_channels(walk: "ChannelForward", group: Group) -> None:
    """A vector as a map."""
    numbers = np.arange(len(walk.places[group.source]))
    walk.move_numbers(group, group.source, numbers, numbers)


def _input_part(walk: "Forward", group: Group) -> None:
    """The elements within the input, or a copy into a map with a halo."""
    planner, node = walk.planner, group.node
    part = walk.values[INPUT].part_as(node.arguments["start"], node.output_shape)
    if planner.halo(group.target) == NO_HALO:
        walk.values[group.target] = part
    else:
        copy(planner, node.name, part, walk.output(group))


def _input_part_gradient(walk: "Backward", group: Group, grad: Buffer) -> None:
    """Copy to the part of the whole input's gradient."""
    if not walk.input_gradient:
        return
    if INPUT not in walk.contributions:
        walk.contributions[INPUT] = [walk.planner.like(walk.values[INPUT])]
    (whole,) = walk.contributions[INPUT]
    part = whole.part_as(group.node.arguments["start"], group.node.output_shape)
    copy(walk.planner, group.node.name, grad.reshaped(*part.shape), part)


def _input_part_channels(walk: "ChannelForward", group: Group) -> None:
    """Some of the input's elements."""
    numbers = np.arange(int(np.prod(group.node.output_shape)))
    walk.move_numbers(group, INPUT, group.node.arguments["start"] + numbers, numbers)


def _concat(walk: "Forward", group: Group) -> None:
    """Copies of the inputs that were not written directly to their channels of the output."""
    y, first = walk.output(group), 0
    for source in group.sources:
        x = walk.values[source]
        part = y.part(first, x.channels)
        if walk.planner.parts.get(source) != (group.target, first):
            copy(walk.planner, group.node.name, x, part)
        first += x.channels


def _concat_gradient(walk: "Backward", group: Group, grad: Buffer) -> None:
    """Each input gets its channels of the gradient: in place, if the layout is usable."""
    first, is_shared = 0, grad.offset in walk.shared
    for source in group.sources:
        channels = walk.values[source].channels
        part = grad.part(first, channels)
        if is_shared:
            walk.shared.add(part.offset)
        walk.hand_on(group, source, part)
        first += channels


def _concat_channels(walk: "ChannelForward", group: Group) -> None:
    """Copies of channel blocks; each input begins with a new vector, so lanes may be idle."""
    planner, values, lanes = walk.planner, [], []
    for source in group.sources:
        known = walk.lanes.get(source)
        values.append(walk.usual(source) if known is None else walk.values[source])
        usual = np.arange(channels_of(planner.shape(source)))
        lanes.append(usual if known is None else known)
    firsts = np.cumsum([0, *(x.channels for x in values)])
    _, height, width = (*planner.shape(group.target), 1, 1)[:3]
    halo, passes = planner.halo(group.target), planner.value_passes(group.target)
    y = planner.buffer((int(firsts[-1]) * LANES, height, width), halo, passes)
    together = [first * LANES + each for first, each in zip(firsts[:-1], lanes, strict=True)]
    walk.keep(group.target, y, np.concatenate(together))
    for first, x in zip(firsts[:-1].tolist(), values, strict=True):
        copy(planner, group.node.name, x, y.part(first, x.channels))


def _narrow(walk: "Forward", group: Group) -> None:
    """The channels within the input."""
    walk.output(group)


def _narrow_gradient(walk: "Backward", group: Group, grad: Buffer) -> None:
    """The gradient within the input's gradient, where it may have been written directly."""
    if walk.is_needed(group.source):
        place = walk.place_of_part(group)
        if place.offset != grad.offset:
            copy(walk.planner, group.node.name, grad, place)


def _narrow_channels(walk: "ChannelForward", group: Group) -> None:
    """The channels within the input, in their lanes."""
    x, lanes = walk.values[group.source], walk.lanes.get(group.source)
    start, length = (group.node.arguments[name] for name in ("start", "length"))
    if lanes is None:
        numbers = np.arange(length)
        walk.move_numbers(group, group.source, start + numbers, numbers)
    elif isinstance(x, PlanarBuffer):
        walk.keep(group.target, x.part(start, length), np.arange(length))
    else:
        mine = lanes[start : start + length]
        first, last = int(mine.min()) // LANES, int(mine.max()) // LANES
        walk.keep(group.target, x.part(first, last + 1 - first), mine - first * LANES)


lowered("flatten", forward=_flatten, backward=_renamed, channels=_same)
lowered("unflatten", forward=_unflatten, backward=_unflatten_gradient, channels=_unflatten_channels)
lowered(
    "input_part", forward=_input_part, backward=_input_part_gradient, channels=_input_part_channels
)
lowered("concat", forward=_concat, backward=_concat_gradient, channels=_concat_channels)
lowered("narrow", forward=_narrow, backward=_narrow_gradient, channels=_narrow_channels)
