"""Import of means, sums and extremes, over dimensions of samples or of several values."""

import math

import numpy as np

from fastcnn import layers
from fastcnn.errors import ConfigurationError
from fastcnn.interop.onnx_bounds import take_bounds
from fastcnn.interop.onnx_file import FileNode
from fastcnn.interop.onnx_map_readers import of_maps
from fastcnn.interop.onnx_products import scaled
from fastcnn.interop.onnx_views import View, is_reshaped
from fastcnn.interop.onnx_wiring import Samples, Wiring, broadcast


def take_reduction(w: Wiring, node: FileNode) -> None:
    """Read a mean, a sum, a maximum or a minimum over dimensions of samples."""
    axes, keep = node.whole_numbers("axes", 1), node.integer("keepdims", 1)
    node.expect(noop_with_empty_axes=0)
    value = w.value(node.inputs[0])
    shape, rank = value.shape, len(value.shape) + 1
    if keep not in (0, 1):
        raise ConfigurationError(f"keepdims={keep}")
    places = {axis % rank - 1 for axis in axes or () if -rank <= axis < rank}
    if not axes or len(places) < len(axes) or -1 in places:
        raise ConfigurationError(f"it reduces axes {axes} of samples of {shape}")
    left = [size for place, size in enumerate(shape) if place not in places]
    if not keep and not left:
        raise ConfigurationError(f"it leaves samples of {shape} without a dimension")
    made = _reduced(w, node, value, places)
    view = made.view if keep else made.view.reshaped(tuple(left))
    w.samples[node.output] = Samples(made.layer, view)


def take_extreme(w: Wiring, node: FileNode) -> None:
    """Read a Max or Min of several samples, or of samples and numbers."""
    if len(node.inputs) == 1 or any(name in w.file.constants for name in node.inputs):
        take_bounds(w, node)
        return
    values = [w.value(name) for name in node.inputs]
    shape = broadcast(values)
    order = w.order(*values) if {value.shape for value in values} == {shape} else None
    sources = [value.layer for value in values]
    if order is None:
        order = tuple(range(len(shape)))
        whole = [Samples(value.layer, value.view.expanded(shape)) for value in values]
        sources = [w.arranged(value, node) for value in whole]
    own = w.own_shape(sources[0])
    w.add(node, [layers.Concat()], tuple(sources))
    joined = w.samples[node.output]
    view = joined.view.reshaped((len(values), *own))
    made = _reduced(w, node, Samples(joined.layer, view), {0})
    w.samples[node.output] = Samples(made.layer, made.view.reshaped(own).transposed(order))


def _reduced(w: Wiring, node: FileNode, value: Samples, places: set[int]) -> Samples:
    """The value with some dimensions reduced to a size of 1, by a pooling layer."""
    if value.view.is_expanded:
        index = w.arranged(value, node)
        value = Samples(index, View.of(w.own_shape(index)))
    index, own, order = value.layer, w.own_shape(value.layer), w.order(value)
    pixels = set() if order is None else {place for place in places if order[place]}
    if pixels and pixels != places:
        return _reduced(w, node, _reduced(w, node, value, pixels), places - pixels)
    pooling = "AvgPool" if node.kind in ("ReduceMean", "ReduceSum") else "MaxPool"
    count = math.prod(value.shape[place] for place in places)
    kept = tuple(1 if place in places else size for place, size in enumerate(value.shape))
    if order is None or not pixels or len(own) > 3:
        # As a map with one channel: its rows or columns are reduced.
        try:
            index, rows = _as_rows(w, node, value, places)
        except ConfigurationError:
            if order is not None:
                raise
            # Such as pixels of shuffled channels.
            index = w.arranged(value, node)
            return _reduced(w, node, Samples(index, View.of(w.own_shape(index))), places)
        layer: layers.Layer = of_maps(pooling, (1, 1, 1))(rows)
        view = View.of(kept)
    else:
        reduced = {order[place] for place in places}
        window = tuple(own[axis] if axis in reduced else 1 for axis in range(1, len(own)))
        is_global = len(reduced) == len(own) - 1
        layer = of_maps(f"Global{pooling}", own)() if is_global else of_maps(pooling, own)(window)
        view = View.of(layer.output_shape(own)).transposed(order)
    factor = {"Sum": count, "Min": -1}.get(node.kind[-3:])
    after = [] if factor is None else scaled(np.array([factor], np.float32))
    before = after if factor == -1 else []
    w.add(node, [*before, layer, *after], (index,), view)
    return w.samples[node.output]


def _as_rows(
    w: Wiring, node: FileNode, value: Samples, places: set[int]
) -> tuple[int, tuple[int, int]]:
    """A layer with one channel, and the window of the elements to be reduced in it."""
    kept = [place for place in range(len(value.shape)) if place not in places]
    count = math.prod(value.shape[place] for place in places)
    left = math.prod(value.shape[place] for place in kept)
    view = value.view.transposed([*kept, *places]).reshaped((1, left, count))
    window = (1, count)
    if not is_reshaped(View.of(w.own_shape(value.layer)), view):
        view = value.view.transposed([*places, *kept]).reshaped((1, count, left))
        window = (count, 1)
    return w.arranged(Samples(value.layer, view), node), window
