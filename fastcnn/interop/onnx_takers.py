"""Import of ONNX nodes that change the view of samples, or are layers only in some cases."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from fastcnn import layers
from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.interop.onnx_bounds import take_bounds
from fastcnn.interop.onnx_constants import type_name
from fastcnn.interop.onnx_file import FileNode
from fastcnn.interop.onnx_map_readers import of_maps
from fastcnn.interop.onnx_norms import last_norm, softmax_axis
from fastcnn.interop.onnx_parts import take_gather, take_slice, take_split
from fastcnn.interop.onnx_products import (
    by_channel,
    scaled,
    shifted,
    take_bias,
    take_gemm,
    take_mat_mul,
)
from fastcnn.interop.onnx_reductions import take_extreme, take_reduction
from fastcnn.interop.onnx_resampling import take_pad, take_resize
from fastcnn.interop.onnx_shapes import reshaped, squeezed, unsqueezed
from fastcnn.interop.onnx_views import View
from fastcnn.interop.onnx_wiring import MOST_REPEATED, Samples, Wiring, broadcast

# -- views -------------------------------------------------------------------------------------


def _look(w: Wiring, node: FileNode, view: View) -> None:
    w.samples[node.output] = Samples(w.value(node.inputs[0]).layer, view)


def _whole(w: Wiring, node: FileNode) -> Samples:
    """A node's first input, for a reshape: a view repeats whole dimensions only."""
    value = w.value(node.inputs[0])
    if not value.view.is_expanded:
        return value
    index = w.layer(node.inputs[0])
    return Samples(index, View.of(w.own_shape(index)))


def _reshape(w: Wiring, node: FileNode) -> None:
    value = _whole(w, node)
    wanted = w.numbers_of(node.inputs[1])
    if wanted is None:
        raise ConfigurationError("its shape must be known in advance")
    shape = reshaped(node, value.shape, wanted, w.file.batch)
    w.samples[node.output] = Samples(value.layer, value.view.reshaped(shape))


def _flatten(w: Wiring, node: FileNode) -> None:
    value = _whole(w, node)
    given = node.integer("axis", 1)
    axis = given + (len(value.shape) + 1) * (given < 0)
    if not 1 <= axis <= len(value.shape) or math.prod(value.shape[: axis - 1]) != 1:
        raise ConfigurationError(
            f"a Flatten of samples of {value.shape} with axis={given} makes rows that are not "
            "samples"
        )
    size = math.prod(value.shape)
    if value.view == View.of(w.own_shape(value.layer)):
        # A layer even if there is nothing to flatten.
        w.append(node, layers.Flatten(), node.inputs[0])
    else:
        w.samples[node.output] = Samples(value.layer, value.view.reshaped((size,)))


def _transpose(w: Wiring, node: FileNode) -> None:
    view = w.value(node.inputs[0]).view
    rank = len(view.dims) + 1
    order = node.integers("perm", tuple(range(rank))[::-1])
    if sorted(order) != list(range(rank)):
        raise ConfigurationError(f"perm={order} for {rank} dimensions")
    if order[0]:
        raise ConfigurationError(f"perm={order} moves the samples")
    _look(w, node, view.transposed([axis - 1 for axis in order[1:]]))


def _by(shape: Callable[[FileNode, Shape], Shape]) -> Callable[[Wiring, FileNode], None]:
    """A reader of a node that only changes the shape of samples."""

    def take(w: Wiring, node: FileNode) -> None:
        view = w.value(node.inputs[0]).view
        _look(w, node, view.reshaped(shape(node, view.shape)))

    return take


def _expand(w: Wiring, node: FileNode) -> None:
    value, wanted = w.value(node.inputs[0]), w.numbers_of(node.inputs[1])
    if wanted is None or len(wanted.values) != len(value.shape) + 1:
        raise ConfigurationError("it expands to a shape that is not known, or has more dimensions")
    first, *sizes = wanted.values
    if first not in (None, 1, w.file.batch) or None in sizes:
        raise ConfigurationError("it repeats samples")
    shape = tuple(int(size or 0) for size in sizes)
    if min(shape, default=1) < 1:
        raise ConfigurationError(f"it expands to {shape}")
    _look(w, node, value.view.expanded(shape))


def _tile(w: Wiring, node: FileNode) -> None:
    value, repeats = w.value(node.inputs[0]), w.numbers_of(node.inputs[1])
    if repeats is None or len(repeats.values) != len(value.shape) + 1 or repeats.values[0] != 1:
        raise ConfigurationError("it repeats samples, or as often as is not known in advance")
    counts = [int(count or 0) for count in repeats.values[1:]]
    pairs = list(zip(value.shape, counts, strict=True))
    if any(count < 1 or (size > 1 and count > 1) for size, count in pairs):
        raise ConfigurationError(f"it repeats {value.shape} by {tuple(counts)}")
    _look(w, node, value.view.expanded(tuple(size * count for size, count in pairs)))


def _identity(w: Wiring, node: FileNode) -> None:
    _look(w, node, w.value(node.inputs[0]).view)


def _cast(w: Wiring, node: FileNode) -> None:
    kind = node.integer("to", 0)
    if kind != w.file.element_type:
        raise ConfigurationError(
            f"a Cast of samples from {type_name(w.file.element_type)} to {type_name(kind)} is not "
            "supported: a model has a single type"
        )
    _identity(w, node)


# -- sums, products, parts ---------------------------------------------------------------------


def _join(kind: Callable[[], layers.Layer]) -> Callable[[Wiring, FileNode], None]:
    """A reader of a sum, a difference or a product of samples."""

    def take(w: Wiring, node: FileNode) -> None:
        first, *others = (w.value(name) for name in node.inputs)
        w.samples[node.output] = first
        for other in others:
            _join_two(w, node, kind(), (w.samples[node.output], other))

    return take


def _join_two(
    w: Wiring, node: FileNode, layer: layers.Layer, values: tuple[Samples, Samples]
) -> None:
    largest = broadcast(values)
    # The layer itself may broadcast what an Expand has repeated.
    plain = [Samples(value.layer, value.view.unexpanded()) for value in values]
    order = w.order(*plain)
    sources = tuple(w.arranged(value, node) if order is None else value.layer for value in plain)
    order = order or tuple(range(len(largest)))
    with suppress(ShapeError):
        view = View.of(layer.output_shape(*map(w.own_shape, sources))).transposed(order)
        if view.shape == largest:
            w.add(node, [layer], sources, view)
            return
    whole = [Samples(value.layer, value.view.expanded(largest)) for value in values]
    w.add(node, [layer], tuple(w.arranged(value, node) for value in whole))


def _constant_of(w: Wiring, node: FileNode) -> tuple[int, np.ndarray] | None:
    """The index of a constant input, and its values, in the model's type."""
    for place, name in enumerate(node.inputs):
        if name in w.file.constants:
            array = w.file.constants[name]
            if array.dtype.kind == "f":
                return place, node.weight(place)
            raise ConfigurationError(f"its constant {name!r} has another type than the samples")
    return None


def _affine(node: FileNode, place: int, constant: np.ndarray) -> tuple[float, np.ndarray, bool]:
    """Factor, constant, and whether it is multiplied by rather than added."""
    if node.kind == "Add":
        return 1.0, constant, False
    if node.kind == "Sub":
        return (1.0, -constant, False) if place else (-1.0, constant, False)
    if node.kind == "Mul":
        return 1.0, constant, True
    if place == 0:
        raise ConfigurationError("a constant divided by samples is not supported")
    if not np.all(constant):
        raise ConfigurationError("it divides by 0")
    return 1.0, np.float32(1.0) / constant, True


def _arithmetic(kind: Callable[[], layers.Layer] | None) -> Callable[[Wiring, FileNode], None]:
    """A reader of Add, Sub, Mul or Div of samples, or of samples and constants."""

    def take(w: Wiring, node: FileNode) -> None:
        found = _constant_of(w, node)
        if found is None:
            if kind is None:
                raise ConfigurationError("samples divided by samples are not supported")
            _join(kind)(w, node)
            return
        place, constant = found
        source = node.inputs[1 - place]
        if node.kind == "Add" and take_bias(w, node, source, constant):
            return
        index, order = w.ordered(node, source)
        own = w.own_shape(index)
        factor, numbers, multiplies = _affine(node, place, by_channel(constant, order, own))
        w.file.constants.claim(4 * max(len(numbers), 0 if multiplies else 2 * own[0]))
        made = scaled(numbers) if multiplies else shifted(factor, numbers, own)
        w.add(node, made, (index,), View.of(own).transposed(order))

    return take


def _negative(w: Wiring, node: FileNode) -> None:
    index, order = w.ordered(node, node.inputs[0])
    own = w.own_shape(index)
    made = scaled(np.array([-1.0], np.float32))
    w.add(node, made, (index,), View.of(own).transposed(order))


def _prelu(w: Wiring, node: FileNode) -> None:
    """Read a PRelu with channels last: others are found by their formula."""
    index, order = w.ordered(node, node.inputs[0])
    own = w.own_shape(index)
    slopes = by_channel(node.weight(1), order, own)
    layer = layers.PReLU(len(slopes))
    layer.parameters["weight"][...] = slopes
    w.add(node, [layer], (index,), View.of(own).transposed(order))


def _power(w: Wiring, node: FileNode) -> None:
    exponent = node.constant(1) if node.inputs[1] in w.file.constants else None
    if exponent is None or exponent.size != 1 or exponent.ndim > 1 or exponent.item() not in (1, 2):
        raise ConfigurationError("powers other than the square are not supported")
    value = w.value(node.inputs[0])
    if exponent.item() == 1:
        _look(w, node, value.view)
    elif value.view.is_expanded:
        raise ConfigurationError("it takes the square of what an Expand has repeated")
    else:
        w.add(node, [layers.Multiply()], (value.layer,) * 2, value.view)


def _concat(w: Wiring, node: FileNode) -> None:
    """Read a Concat of samples, or of shapes."""
    first = node.inputs[0]
    if first in w.numbers or first in w.file.constants:
        w.compute(node)
        return
    values = [w.value(name) for name in node.inputs]
    rank = len(values[0].shape) + 1
    axis = node.integer("axis", 1)
    axis += rank * (axis < 0)
    order = w.order(*values)
    if order is None:
        order = tuple(range(rank - 1))
        sources = tuple(w.layer(name) for name in node.inputs)
    else:
        sources = tuple(value.layer for value in values)
    if not 1 <= axis < rank:
        raise ConfigurationError(f"axis={axis}: it joins samples with others")
    if len(values) == 1:
        _look(w, node, values[0].view)
        return
    if order[axis - 1]:
        _concat_pixels(w, node, sources, order[axis - 1])
    else:
        w.add(node, [layers.Concat()], sources)
    joined = w.samples[node.output]
    w.samples[node.output] = Samples(joined.layer, joined.view.transposed(order))


def _concat_pixels(w: Wiring, node: FileNode, sources: Sequence[int], axis: int) -> None:
    """Join rows or columns of layers' outputs, as a sum of what zeros extend to the whole."""
    if len(sources) > MOST_REPEATED:
        raise ConfigurationError(f"it joins {len(sources)} maps")
    shapes = [w.own_shape(source) for source in sources]
    first, whole = 0, sum(shape[axis] for shape in shapes)
    for source, shape in zip(sources, shapes, strict=True):
        sides = [(0, 0)] * (len(shape) - 1)
        sides[axis - 1] = first, whole - first - shape[axis]
        zeros = of_maps("ZeroPad", shape)(tuple(n for pair in reversed(sides) for n in pair))
        before = w.samples.get(node.output)
        w.add(node, [zeros], (source,))
        if before is not None:
            w.add(node, [layers.Add()], (before.layer, w.samples[node.output].layer))
        first += shape[axis]


# -- layers that read dimensions in another order ----------------------------------------------


def _last_norm(w: Wiring, node: FileNode) -> bool:
    """Read a LayerNormalization or softmax over last channels; returns whether it was one."""
    value = w.samples.get(node.inputs[0])
    order = None if value is None else w.order(value)
    if value is None or order is None or len(order) < 2 or order == tuple(range(len(order))):
        return False
    own = w.own_shape(value.layer)
    rank = len(order) + 1
    layer: layers.Layer
    if node.kind in ("Softmax", "LogSoftmax"):
        axis = softmax_axis(node)
        axis += rank * (axis < 0)
        if node.file.opset < 13 and axis != rank - 1:
            raise ConfigurationError("a softmax over several axes")
        if not 1 <= axis < rank:
            raise ConfigurationError(f"a softmax over axis {axis}")
        kind = layers.Softmax if node.kind == "Softmax" else layers.LogSoftmax
        layer = kind(1 + order[axis - 1])
    else:
        if len(own) != 3 or order[-1] != 0 or node.integer("axis", -1) not in (-1, rank - 1):
            raise ConfigurationError(
                f"a normalisation of samples of {own} in the order {order}: only that over "
                "channels is supported"
            )
        layer = w.described(node, last_norm(node, own), own)
    w.add(node, [layer], (value.layer,), value.view)
    return True


#: Readers of operators that change the view of samples, or are layers only in some cases.
TAKERS: dict[str, Callable[[Wiring, FileNode], None]] = {
    "Add": _arithmetic(layers.Add),
    "Cast": _cast,
    "Clip": take_bounds,
    "Concat": _concat,
    "Div": _arithmetic(None),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gemm": take_gemm,
    "Identity": _identity,
    "MatMul": take_mat_mul,
    "Max": take_extreme,
    "Min": take_extreme,
    "Mul": _arithmetic(layers.Multiply),
    "Neg": _negative,
    "PRelu": _prelu,
    "Pad": take_pad,
    "Pow": _power,
    "ReduceMax": take_reduction,
    "ReduceMean": take_reduction,
    "ReduceMin": take_reduction,
    "ReduceSum": take_reduction,
    "Reshape": _reshape,
    "Resize": take_resize,
    "Slice": take_slice,
    "Split": take_split,
    "Squeeze": _by(squeezed),
    "Sub": _arithmetic(layers.Subtract),
    "Sum": _join(layers.Add),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _by(unsqueezed),
    "Upsample": take_resize,
}
#: Readers of special cases, such as channels last; they return whether it was one.
LAST_TAKERS: dict[str, Callable[[Wiring, FileNode], bool]] = {
    "Gather": take_gather,
    "LayerNormalization": _last_norm,
    "LogSoftmax": _last_norm,
    "Softmax": _last_norm,
}
