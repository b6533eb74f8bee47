"""Divides the samples of a small batch into bands of rows, so that they fill all lanes.

A batch of four has four samples in sixteen lanes. Up to some layer, each sample's maps are divided
into bands of adjacent rows, one in each lane. Before a convolution or a pooling whose windows reach
into adjacent bands, each band is extended by rows of its neighbours, and padding by rows is
omitted. After the last of these layers, the bands are united to whole samples.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes.planning.buffers import LANES
from fastcnn.operations import OPERATIONS, Elementwise

#: Costs of copying a vector, and of one whose lanes are gathered, in multiply-adds of vectors.
COPY, GATHER = 20, 100
#: Fewest multiply-adds of a sample, and the most that may be left of all costs.
LEAST, MOST = 1_000_000, 0.8
#: Operations, besides element-wise ones, that treat each pixel by itself.
POINTWISE = ("batch_norm", "add", "subtract", "multiply", "concat", "narrow")

Parameters = Mapping[str, tuple[int, tuple[int, ...]]]


@dataclass(frozen=True)
class Reach:
    """Rows of its neighbours that a node needs of a band, and what is beyond the map."""

    above: int = 0
    below: int = 0
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
    best, least = 0, MOST * sum(costs)
    bands = 2
    while bands * batch <= LANES:
        cost = _cost_in_bands(graph, costs, _reaches(graph, bands, parameters), bands)
        if cost < least:
            best, least = bands, cost
        bands *= 2
    if not best:
        return Banded(graph)
    return _Divided(graph, best, _reaches(graph, best, parameters)).result()


def _kernel(node: Node, parameters: Parameters) -> tuple[int, ...]:
    _, shape = parameters[node.parameters["weight"]]
    return shape[2:]


def _cost(node: Node, parameters: Parameters) -> float:
    """Multiply-adds of a node, or what takes as long."""
    if node.operation in ("conv2d", "conv_transpose2d", "linear"):
        _, (_, inputs, *kernel) = parameters[node.parameters["weight"]]
        return float(prod(node.output_shape) * inputs * prod(kernel))
    return 4.0 * prod(node.output_shape)


def _cost_in_bands(
    graph: Graph, costs: list[float], reaches: dict[int, Reach], bands: int
) -> float:
    """The same for the whole network, if the nodes of ``reaches`` are in bands."""
    total = GATHER * prod(graph.input_shape) / bands
    readers = graph.consumers()
    for index, (node, cost) in enumerate(zip(graph.nodes, costs, strict=True)):
        if index not in reaches:
            total += cost
            continue
        total += cost / bands
        above, below = reaches[index].above, reaches[index].below
        if above or below:
            channels, height, width = node.input_shapes[0]
            total += channels * width * (COPY * height / bands + GATHER * (above + below))
        outside = [reader for reader in readers[index] if reader not in reaches]
        if not readers[index] or not all(_averages_all(graph.nodes[each]) for each in outside):
            total += GATHER * prod(node.output_shape)
    return total


def _averages_all(node: Node) -> bool:
    """Whether a node averages all pixels of each channel."""
    if node.operation not in ("avg_pool2d", "adaptive_avg_pool2d"):
        return False
    # An average pooling may have padding, or windows that leave pixels out.
    size = node.arguments.get("kernel_size", node.input_shapes[0][1:])
    return node.output_shape[1:] == (1, 1) and size == node.input_shapes[0][1:]


def _reaches(graph: Graph, bands: int, parameters: Parameters) -> dict[int, Reach]:
    """The nodes that can be in bands, from the input on."""
    found: dict[int, Reach] = {}
    if graph.input_shape[1] % bands:
        return found
    for index, node in enumerate(graph.nodes):
        shapes = (*node.input_shapes, node.output_shape)
        fits = all(len(shape) == 3 and shape[1] % bands == 0 for shape in shapes)
        if fits and all(source == INPUT or source in found for source in node.inputs):
            reach = _reach(node, bands, parameters)
            if reach is not None:
                found[index] = reach
    return found


def _reach(node: Node, bands: int, parameters: Parameters) -> Reach | None:
    """The rows that a node needs of adjacent bands; None if it cannot be in bands."""
    same = all(shape[1:] == node.output_shape[1:] for shape in node.input_shapes)
    if isinstance(OPERATIONS[node.operation], Elementwise) or node.operation in POINTWISE:
        joins = node.operation in ("concat", "narrow")
        same = same and (joins or all(shape == node.output_shape for shape in node.input_shapes))
        return Reach() if same else None
    arguments = node.arguments
    if node.operation == "conv2d":
        size, padding, fill = _kernel(node, parameters)[0], arguments["padding"][0][0], 0.0
    elif node.operation in ("max_pool2d", "avg_pool2d"):
        size, padding, fill = arguments["kernel_size"][0], arguments["padding"][0], -float("inf")
        if node.operation == "avg_pool2d" and (padding or size != arguments["stride"][0]):
            return None
    else:
        return None
    stride, height = arguments["stride"][0], node.input_shapes[0][1]
    size = arguments.get("dilation", (1, 1))[0] * (size - 1) + 1
    reach = Reach(padding, max(0, size - stride - padding), fill)
    rows = height // bands
    # Every band has as many rows of the output, which begin where its own rows do.
    even = node.output_shape[1] * stride == height
    even = even and (rows + reach.above + reach.below - size) // stride + 1 == rows // stride
    return reach if even and max(reach.above, reach.below) <= rows else None


def _averaging(node: Node, shape: tuple[int, ...]) -> Node:
    """The same average over all pixels of another shape."""
    arguments = dict(node.arguments)
    if "kernel_size" in arguments:
        arguments["kernel_size"] = arguments["stride"] = shape[1:]
    return replace(node, arguments=arguments, input_shapes=(shape,))


class _Divided:
    """The network with some nodes in bands."""

    def __init__(self, graph: Graph, bands: int, reaches: dict[int, Reach]) -> None:
        self._graph = graph
        self._bands = bands
        self._reaches = reaches
        self._nodes: list[Node] = []
        self._in_bands: dict[int, int] = {}
        # New nodes by their operation, source and arguments, and by the old ones.
        self._made: dict[tuple[Any, ...], int] = {}
        self._new: dict[int, int] = {}

    def result(self) -> Banded:
        for index, node in enumerate(self._graph.nodes):
            if index in self._reaches:
                self._new[index] = self._add(self._band_of(node, self._reaches[index]), True)
            elif _averages_all(node) and node.inputs[0] in self._reaches:
                self._new[index] = self._average(node)
            else:
                inputs = tuple(self._whole(source) for source in node.inputs)
                self._new[index] = self._add(replace(node, inputs=inputs))
        self._whole(len(self._graph.nodes) - 1)
        numbers = {new: old for old, new in self._new.items()}
        return Banded(replace(self._graph, nodes=tuple(self._nodes)), self._in_bands, numbers)

    def _add(self, node: Node, in_bands: bool = False) -> int:
        self._nodes.append(node)
        if in_bands:
            self._in_bands[len(self._nodes) - 1] = self._bands
        return len(self._nodes) - 1

    def _between(
        self, name: str, operation: str, source: int, shapes: Iterator[Any], **arguments: Any
    ) -> int:
        """A node that converts another's output, once."""
        key = operation, source, *arguments.items()
        if key not in self._made:
            shape, made = shapes
            settings = {"bands": self._bands} | arguments
            node = Node(name, operation, (source,), settings, {}, (shape,), made)
            self._made[key] = self._add(node, operation != "join_bands")
        return self._made[key]

    def _band(self, shape: tuple[int, ...], more: int = 0) -> tuple[int, ...]:
        return (shape[0], shape[1] // self._bands + more, shape[2])

    def _whole(self, source: int) -> int:
        """The node that has whole samples of a node's output."""
        if source == INPUT or source not in self._reaches:
            return INPUT if source == INPUT else self._new[source]
        node = self._graph.nodes[source]
        shapes = iter((self._band(node.output_shape), node.output_shape))
        return self._between(node.name, "join_bands", self._new[source], shapes)

    def _average(self, node: Node) -> int:
        """The average of the bands' averages."""
        (source,), (shape,) = node.inputs, node.input_shapes
        channels, band = shape[0], self._band(shape)
        of_band = replace(
            _averaging(node, band), inputs=(self._new[source],), output_shape=(channels, 1, 1)
        )
        shapes = iter(((channels, 1, 1), (channels, self._bands, 1)))
        joined = self._between(node.name, "join_bands", self._add(of_band, True), shapes)
        return self._add(replace(_averaging(node, (channels, self._bands, 1)), inputs=(joined,)))

    def _banded(self, source: int) -> int:
        """The node that has bands of a node's output."""
        if source != INPUT:
            return self._new[source]
        shape = self._graph.input_shape
        return self._between("input", "split_bands", INPUT, iter((shape, self._band(shape))))

    def _band_of(self, node: Node, reach: Reach) -> Node:
        """A node in bands."""
        inputs = [self._banded(source) for source in node.inputs]
        shapes = [self._band(shape) for shape in node.input_shapes]
        arguments = dict(node.arguments)
        if reach.above or reach.below:
            more = reach.above + reach.below
            around = shapes[0], self._band(node.input_shapes[0], more)
            rows = {"above": reach.above, "below": reach.below, "fill": reach.fill}
            inputs[0] = self._between(node.name, "extend_bands", inputs[0], iter(around), **rows)
            shapes[0] = around[1]
            _, along = arguments["padding"]
            none = (0, 0) if node.operation == "conv2d" else 0
            arguments["padding"] = (none, along)
        return replace(
            node,
            inputs=tuple(inputs),
            input_shapes=tuple(shapes),
            output_shape=self._band(node.output_shape),
            arguments=arguments,
        )
