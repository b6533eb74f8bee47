"""Divides the samples of a small batch into bands of rows, so that they fill all lanes.

A batch of four has four samples in sixteen lanes. Up to some layer, each sample's maps are divided
into bands of adjacent rows, one in each lane. Before a convolution or a pooling whose windows reach
into adjacent bands, each band is extended by rows of its neighbours, and padding by rows is
omitted. Where a layer's maps have too few rows, adjacent bands are united, in the end to whole
samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes.planning.buffers import LANES
from fastcnn.operations import OPERATIONS, Elementwise

#: Costs of copying a vector, and of one whose lanes are gathered, in multiply-adds of vectors.
COPY, GATHER = 30, 100
#: Fewest multiply-adds of a sample, and the most that may be left of all costs.
LEAST, MOST = 1_000_000, 0.8
#: Operations, besides element-wise ones, that treat each pixel by itself.
POINTWISE = ("batch_norm", "add", "subtract", "multiply", "concat", "narrow")

Parameters = Mapping[str, tuple[int, tuple[int, ...]]]


@dataclass(frozen=True)
class Place:
    """A node in bands: their number, and the rows of neighbours that it needs of its input."""

    bands: int
    above: int = 0
    below: int = 0
    #: What is beyond the map.
    fill: float = 0.0


@dataclass(frozen=True)
class Banded:
    """A network of whose nodes some may be in bands."""

    graph: Graph
    #: By node whose samples are in bands: their number.
    bands: Mapping[int, int] = field(default_factory=dict)
    #: The number of each node in the network as it was, where it differs.
    numbers: Mapping[int, int] = field(default_factory=dict)


def in_bands(graph: Graph, batch: int, parameters: Parameters) -> Banded:
    """The same network with its first layers in bands, if that takes less time."""
    costs = [_cost(node, parameters) for node in graph.nodes]
    if len(graph.input_shape) != 3 or len(graph.inputs) > 1 or sum(costs) < LEAST:
        return Banded(graph)
    best, least, bands = {}, MOST * sum(costs), 2
    while bands * batch <= LANES:
        places = _places(graph, bands, parameters)
        cost = _cost_in_bands(graph, costs, places)
        if cost < least:
            best, least = places, cost
        bands *= 2
    return _Divided(graph, best).result() if best else Banded(graph)


def _kernel(node: Node, parameters: Parameters) -> tuple[int, ...]:
    _, shape = parameters[node.parameters["weight"]]
    return shape[2:]


def _cost(node: Node, parameters: Parameters) -> float:
    """Multiply-adds of a node, or what takes as long."""
    if node.operation in ("conv2d", "conv_transpose2d", "linear"):
        _, (_, each, *kernel) = parameters[node.parameters["weight"]]
        transposed = node.operation == "conv_transpose2d"
        shape = node.input_shapes[0] if transposed else node.output_shape
        return float(prod(shape) * each * prod(kernel))
    return 4.0 * prod(node.output_shape)


def _cost_in_bands(graph: Graph, costs: list[float], places: Mapping[int, Place]) -> float:
    """The same for the whole network, if some nodes are in bands."""
    total, readers = 0.0, graph.consumers()
    for index, (node, cost) in enumerate(zip(graph.nodes, costs, strict=True)):
        place = places.get(index)
        if place is None:
            total += cost
            continue
        bands, rows = place.bands, node.output_shape[1] // place.bands
        # Tiles of few rows are less efficient.
        total += cost / bands * (1 + 1 / rows**2 if node.operation == "conv2d" else 1)
        if place.above or place.below:
            channels, height, width = node.input_shapes[0]
            total += (
                channels * width * (COPY * height / bands + GATHER * (place.above + place.below))
            )
        outside = [reader for reader in readers[index] if reader not in places]
        if not readers[index] or not all(_averages_all(graph.nodes[each]) for each in outside):
            total += GATHER * prod(node.output_shape)
    for source, found in readers.items():
        shape = graph.input_shape if source == INPUT else graph.nodes[source].output_shape
        own = places[source].bands if source in places else 0
        for bands in {places[reader].bands for reader in found if reader in places} - {own}:
            total += GATHER * prod(shape) / bands
    return total


def _averages_all(node: Node) -> bool:
    """Whether a node averages all pixels of each channel."""
    if node.operation not in ("avg_pool2d", "adaptive_avg_pool2d"):
        return False
    # A single window may leave pixels out, with padding also one of the map's size.
    whole, given = node.input_shapes[0][1:], node.arguments
    all_of_it = given.get("kernel_size", whole) == whole and not any(given.get("padding", ()))
    average = all_of_it and given.get("divisor_override") is None
    return average and node.output_shape[1:] == (1, 1)


def _places(graph: Graph, most: int, parameters: Parameters) -> dict[int, Place]:
    """The nodes that can be in bands, from the input on, each in as many as possible."""
    found: dict[int, Place] = {}
    for index, node in enumerate(graph.nodes):
        if not all(source == INPUT or source in found for source in node.inputs):
            continue
        bands = min(most if source == INPUT else found[source].bands for source in node.inputs)
        while bands > 1 and index not in found:
            place = _place(node, bands, parameters)
            if place is not None:
                found[index] = place
            bands //= 2
    return found


def _place(node: Node, bands: int, parameters: Parameters) -> Place | None:
    """A node in some bands; None if that is not possible."""
    shapes = (*node.input_shapes, node.output_shape)
    if not all(len(shape) == 3 and shape[1] % bands == 0 for shape in shapes):
        return None
    same = all(shape[1:] == node.output_shape[1:] for shape in node.input_shapes)
    if isinstance(OPERATIONS[node.operation], Elementwise) or node.operation in POINTWISE:
        joins = node.operation in ("concat", "narrow")
        same = same and (joins or all(shape == node.output_shape for shape in node.input_shapes))
        return Place(bands) if same else None
    arguments = node.arguments
    if node.operation == "conv2d":
        size, padding, fill = _kernel(node, parameters)[0], arguments["padding"][0][0], 0.0
    elif node.operation in ("max_pool2d", "avg_pool2d"):
        size, padding, fill = arguments["kernel_size"][0], arguments["padding"][0], -float("inf")
        if node.operation == "avg_pool2d" and (padding or size != arguments["stride"][0]):
            return None
    else:
        return Place(bands) if _enlarges(node, parameters) else None
    stride, height = arguments["stride"][0], node.input_shapes[0][1]
    size = arguments.get("dilation", (1, 1))[0] * (size - 1) + 1
    place = Place(bands, padding, max(0, size - stride - padding), fill)
    rows = height // bands
    # Every band has as many rows of the output, which begin where its own rows do.
    even = node.output_shape[1] * stride == height
    even = even and (rows + place.above + place.below - size) // stride + 1 == rows // stride
    return place if even and max(place.above, place.below) <= rows else None


def _averaging(node: Node, shape: tuple[int, ...]) -> Node:
    """The same average over all pixels of another shape."""
    arguments = dict(node.arguments)
    if "kernel_size" in arguments:
        arguments["kernel_size"] = arguments["stride"] = shape[1:]
    return replace(node, arguments=arguments, input_shapes=(shape,))


def _enlarges(node: Node, parameters: Parameters) -> bool:
    """Whether each row of the output depends on one row of the input, several on the same."""
    arguments = node.arguments
    if node.operation == "conv_transpose2d":
        size, stride = _kernel(node, parameters)[0], arguments["stride"][0]
        alone = arguments["padding"][0] == (0, 0) and arguments["output_padding"][0] == 0
        return size == stride and alone and arguments["dilation"][0] == 1
    nearest = node.operation == "interpolate" and arguments["mode"] == "nearest"
    return nearest and node.output_shape[1] % node.input_shapes[0][1] == 0


class _Divided:
    """The network with some nodes in bands."""

    def __init__(self, graph: Graph, places: dict[int, Place]) -> None:
        self._graph = graph
        self._places = places
        self._nodes: list[Node] = []
        self._in_bands: dict[int, int] = {}
        # New nodes by their operation, source and arguments, and by the old ones.
        self._made: dict[tuple[Any, ...], int] = {}
        self._new: dict[int, int] = {}

    def result(self) -> Banded:
        for index, node in enumerate(self._graph.nodes):
            if index in self._places:
                place = self._places[index]
                self._new[index] = self._add(self._band_of(node, place), place.bands)
            elif _averages_all(node) and node.inputs[0] in self._places:
                self._new[index] = self._average(node)
            else:
                inputs = tuple(self._of(source) for source in node.inputs)
                self._new[index] = self._add(replace(node, inputs=inputs))
        self._of(len(self._graph.nodes) - 1)
        numbers = {new: old for old, new in self._new.items()}
        return Banded(replace(self._graph, nodes=tuple(self._nodes)), self._in_bands, numbers)

    def _add(self, node: Node, bands: int = 1) -> int:
        self._nodes.append(node)
        if bands > 1:
            self._in_bands[len(self._nodes) - 1] = bands
        return len(self._nodes) - 1

    def _between(
        self,
        name: str,
        operation: str,
        source: int,
        shapes: tuple[Any, Any],
        bands: int,
        **more: Any,
    ) -> int:
        """A node that converts another's output, once."""
        key = operation, source, bands, *more.items()
        if key not in self._made:
            shape, made = shapes
            node = Node(name, operation, (source,), {"bands": bands} | more, {}, (shape,), made)
            self._made[key] = self._add(node, bands)
        return self._made[key]

    def _of(self, source: int, bands: int = 1) -> int:
        """The node that has a node's output in some bands, or as whole samples."""
        if source == INPUT:
            if bands == 1:
                return INPUT
            shapes = self._graph.input_shape, _band(self._graph.input_shape, bands)
            return self._between("input", "split_bands", INPUT, shapes, bands, each=bands)
        own = self._places[source].bands if source in self._places else 1
        if own == bands:
            return self._new[source]
        node = self._graph.nodes[source]
        shapes = _band(node.output_shape, own), _band(node.output_shape, bands)
        each = own // bands
        return self._between(node.name, "join_bands", self._new[source], shapes, bands, each=each)

    def _average(self, node: Node) -> int:
        """The average of the bands' averages."""
        (source,), (shape,) = node.inputs, node.input_shapes
        bands, channels = self._places[source].bands, shape[0]
        of_band = replace(
            _averaging(node, _band(shape, bands)),
            inputs=(self._new[source],),
            output_shape=(channels, 1, 1),
        )
        shapes = (channels, 1, 1), (channels, bands, 1)
        averages = self._add(of_band, bands)
        joined = self._between(node.name, "join_bands", averages, shapes, 1, each=bands)
        return self._add(replace(_averaging(node, shapes[1]), inputs=(joined,)))

    def _band_of(self, node: Node, place: Place) -> Node:
        """A node in bands."""
        bands = place.bands
        inputs = [self._of(source, bands) for source in node.inputs]
        shapes = [_band(shape, bands) for shape in node.input_shapes]
        arguments = dict(node.arguments)
        if place.above or place.below:
            around = _band(node.input_shapes[0], bands, place.above + place.below)
            rows = {"above": place.above, "below": place.below, "fill": place.fill}
            inputs[0] = self._between(
                node.name, "extend_bands", inputs[0], (shapes[0], around), bands, **rows
            )
            shapes[0] = around
            _, along = arguments["padding"]
            none = (0, 0) if node.operation == "conv2d" else 0
            arguments["padding"] = (none, along)
        return replace(
            node,
            inputs=tuple(inputs),
            input_shapes=tuple(shapes),
            output_shape=_band(node.output_shape, bands),
            arguments=arguments,
        )


def _band(shape: tuple[int, ...], bands: int, more: int = 0) -> tuple[int, ...]:
    """The shape of a band, with some more rows."""
    return (shape[0], shape[1] // bands + more, shape[2])
