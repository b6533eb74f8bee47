"""Import of ONNX nodes that select channels or pixels: Split, Gather and Slice."""

import math
from collections.abc import Sequence

from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_file import FileNode
from fastcnn.interop.onnx_map_readers import of_maps
from fastcnn.interop.onnx_views import View
from fastcnn.interop.onnx_wiring import Samples, Wiring
from fastcnn.layers import Flatten, Layer, MaxPool2d, Narrow, Unflatten


def take_split(w: Wiring, node: FileNode) -> None:
    """Read a Split of channels, rows or columns."""
    axis = node.integer("axis", 0)
    count = node.integer("num_outputs", len(node.outputs))
    if count != len(node.outputs):
        raise ConfigurationError(f"num_outputs={count}, it has {len(node.outputs)}")
    index, order = w.ordered(node, node.inputs[0])
    own = w.own_shape(index)
    axis += (len(order) + 1) * (axis < 0)
    if not 1 <= axis <= len(order):
        raise ConfigurationError(f"axis={axis}: it splits batches")
    place = order[axis - 1]
    sizes: tuple[int, ...] | None = None
    if node.has("split"):
        sizes = node.integers("split", None)
    elif node.input(1):
        sizes = _known(w, node.inputs[1], "sizes")
    if sizes is None:
        step = -(-own[place] // count)
        sizes = tuple(min(step, own[place] - first) for first in range(0, own[place], step))
    if len(sizes) != count or sum(sizes) != own[place] or min(sizes) < 1:
        raise ConfigurationError(f"it splits samples of {own} into {sizes} along axis {axis}")
    first, parts = 0, list(map(range, own))
    for size, output in zip(sizes, node.outputs, strict=True):
        parts[place] = range(first, first + size)
        _cut(w, node, index, order, parts, output)
        first += size


def _known(w: Wiring, name: str, what: str) -> tuple[int, ...]:
    """The integers of an input, all of which must be known."""
    numbers = w.numbers_of(name)
    if numbers is None or None in numbers.values:
        raise ConfigurationError(f"its {what} must be known")
    return tuple(int(value or 0) for value in numbers.values)


def _cut(
    w: Wiring,
    node: FileNode,
    index: int,
    order: tuple[int, ...],
    parts: Sequence[range],
    output: str,
) -> None:
    """Take a part of a layer's output, given for each of its dimensions."""
    own = w.own_shape(index)
    layers: list[Layer] = []
    channels, *pixels = parts
    if (size := channels.stop - channels.start) < own[0]:
        layers.append(Narrow(channels.start, size))
    sides = [(-part.start, part.stop - size) for part, size in zip(parts, own, strict=True)]
    cut = tuple(side for pair in sides[:0:-1] for side in pair)
    if any(cut):
        layers.append(of_maps("ZeroPad", own)(cut))
    steps = tuple(part.step for part in pixels)
    if any(step > 1 for step in steps):  # windows of one pixel
        layers.append(of_maps("MaxPool", own)(1, stride=steps))
    shape = tuple(map(len, parts))
    if channels.step > 1:  # as rows of one channel
        rows = Unflatten(1, (1, size, math.prod(shape[1:])))
        layers += [Flatten(), rows, MaxPool2d(1, stride=(channels.step, 1)), Flatten()]
        layers += [Unflatten(1, shape)] if pixels else []
    view = View.of(shape).transposed(order)
    w.samples[output] = Samples(index, view)
    if layers:
        w.add(node, layers, (index,), view, output)


def take_gather(w: Wiring, node: FileNode) -> bool:
    """Read a Gather of one index or of adjacent ones; returns whether it was one."""
    if node.inputs[0] not in w.samples or node.inputs[1] not in w.file.constants:
        return False
    indices = w.file.constants[node.inputs[1]]
    if indices.dtype.kind != "i" or indices.ndim > 1:
        return False
    one = indices.ndim == 0
    index, order = w.ordered(node, node.inputs[0])
    own, rank = w.own_shape(index), len(order) + 1
    axis = node.given.get("axis", 0)
    axis += rank * (axis < 0)
    if not 1 <= axis < rank:
        raise ConfigurationError(f"axis={axis}: it takes some of the samples")
    size = own[order[axis - 1]]
    places = indices.reshape(-1).tolist()
    if not places or not all(-size <= place < size for place in places):
        raise ConfigurationError(f"it takes {places[:9]} of {size} along axis {axis}")
    first, count = places[0] % size, len(places)
    if [place % size for place in places] != list(range(first, first + count)):
        if order[axis - 1] != 0:
            return False
        raise ConfigurationError(f"it takes the channels {places[:9]}, which are not consecutive")
    node.integer("axis", 0)
    parts = list(map(range, own))
    parts[order[axis - 1]] = range(first, first + count)
    _cut(w, node, index, order, parts, node.output)
    if one:
        value = w.samples[node.output]
        left = [each for place, each in enumerate(value.shape, start=1) if place != axis]
        if not left:
            raise ConfigurationError("it leaves samples without a dimension")
        w.samples[node.output] = Samples(value.layer, value.view.reshaped(tuple(left)))
    return True


def take_slice(w: Wiring, node: FileNode) -> None:
    """Read a Slice of channels, rows and columns."""
    parts: list[tuple[int, ...]] = []
    for place, name in enumerate(("starts", "ends", "axes", "steps"), start=1):
        if node.has(name):
            parts.append(node.integers(name, None, least=-(2**63)))
        elif node.input(place):
            parts.append(_known(w, node.inputs[place], name))
        else:
            parts.append(())
    starts, ends, axes, steps = parts
    axes = axes or tuple(range(len(starts)))
    steps = steps or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ConfigurationError("its starts, ends, axes and steps differ in length")
    index, order = w.ordered(node, node.inputs[0])
    own = w.own_shape(index)
    rank = len(own) + 1
    axes = tuple(axis + rank * (axis < 0) for axis in axes)
    if len(set(axes)) < len(axes) or 0 in steps:
        raise ConfigurationError(f"it takes axes {axes} in steps of {steps}")
    taken = list(map(range, own))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis == 0 and (start, step) == (0, 1) and end >= 2**31 - 1:
            continue
        if not 1 <= axis < rank:
            raise ConfigurationError(f"it takes some of the samples, axis={axis}")
        place = order[axis - 1]
        part = range(*slice(start, end, step).indices(own[place]))
        if not part or step < 1:
            raise ConfigurationError(
                f"it takes {part.start} to {part.stop} of axis {axis} in steps of {step}, which "
                "must be above 0"
            )
        taken[place] = part
    _cut(w, node, index, order, taken, node.output)
