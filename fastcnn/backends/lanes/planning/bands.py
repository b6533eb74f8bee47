"""Divides the samples of a small batch into bands of rows, so that they fill all lanes.

A batch of four has four samples in sixteen lanes. Up to some layer, each sample's maps are divided
into bands of adjacent rows, one in each lane; maps of one row are divided into bands of columns.

There are two ways. Before a convolution or a pooling whose windows reach into adjacent bands, each
band is extended by rows of its neighbours, and padding by rows is omitted; where a layer's maps
have too few rows, adjacent bands are united, in the end to whole samples. In a chain of layers
without padding, the bands of the input may overlap instead, so that each has all that its rows of
the chain's output depend on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd, prod
from typing import Any, NamedTuple

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes.planning.buffers import LANES
from fastcnn.operations import OPERATIONS, Elementwise

#: Costs of copying a vector, and of one whose lanes are gathered, in multiply-adds of vectors.
COPY, GATHER = 30, 100
#: Fewest multiply-adds of a sample, and the most that may be left of all costs.
LEAST, MOST = 1_000_000, 0.8
#: Operations, besides element-wise ones, that treat each pixel by itself.
POINTWISE = ("batch_norm", "add", "subtract", "multiply", "concat", "narrow")

#: Axes of a map along which it may be divided.
ROWS, COLUMNS = 1, 2

Parameters = Mapping[str, tuple[int, tuple[int, ...]]]
#: The nodes that read each node's output.
Readers = Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class Cut:
    """How samples or bands are divided into bands, each of which begins ``step`` after another."""

    axis: int
    each: int
    step: int


@dataclass(frozen=True)
class Extension:
    """By how many rows, or columns, of its neighbours a band is extended."""

    axis: int
    bands: int
    above: int
    below: int
    #: What is beyond the map.
    fill: float


@dataclass(frozen=True)
class Place:
    """A node in bands: their number, their size, and what they need of their input's neighbours.

    The size is in rows, or in columns of maps of one row.
    """

    bands: int
    size: int
    above: int = 0
    below: int = 0
    #: What is beyond the map.
    fill: float = 0.0


@dataclass(frozen=True)
class Division:
    """The nodes that are in bands."""

    axis: int
    places: Mapping[int, Place]
    #: Where bands of the input overlap: their size, and where the second one begins.
    overlapping: tuple[int, int] | None = None

    def of_input(self, shape: tuple[int, ...], bands: int) -> tuple[int, int]:
        """The size of the input's bands, and where the second one begins."""
        return self.overlapping or (shape[self.axis] // bands,) * 2

    def band(self, shape: tuple[int, ...], size: int) -> tuple[int, ...]:
        """The shape of a band."""
        return (*shape[: self.axis], size, *shape[self.axis + 1 :])


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
    axis = ROWS if graph.input_shape[ROWS] > 1 else COLUMNS
    best, least, readers = None, MOST * sum(costs), graph.consumers()
    chain = _chain(graph, axis, readers, parameters)
    for bands in range(2, LANES // batch + 1):
        found = _with_neighbours(graph, axis, bands, parameters)
        for division in (found, *_overlapping(graph, axis, bands, chain)):
            if division.places:
                cost = _cost_in_bands(graph, readers, costs, division)
                if cost < least:
                    best, least = division, cost
    return _Divided(graph, best).result() if best else Banded(graph)


def _kernel(node: Node, parameters: Parameters) -> tuple[int, ...]:
    """Rows and columns of a node's kernel; that of a sequence has one row."""
    _, shape = parameters[node.parameters["weight"]]
    return (1, *shape[2:])[-2:]


def _cost(node: Node, parameters: Parameters) -> float:
    """Multiply-adds of a node, or what takes as long."""
    if node.operation in ("conv2d", "conv_transpose2d", "linear"):
        _, (_, each, *kernel) = parameters[node.parameters["weight"]]
        transposed = node.operation == "conv_transpose2d"
        shape = node.input_shapes[0] if transposed else node.output_shape
        return float(prod(shape) * each * prod(kernel))
    return 4.0 * prod(node.output_shape)


def _cost_in_bands(graph: Graph, readers: Readers, costs: list[float], division: Division) -> float:
    """The same for the whole network, if some nodes are in bands."""
    axis, places, total = division.axis, division.places, 0.0
    for index, (node, cost) in enumerate(zip(graph.nodes, costs, strict=True)):
        place = places.get(index)
        if place is None:
            total += cost
            continue
        # Tiles of few rows are less efficient.
        slower = 1 + 1 / place.size**2 if node.operation == "conv2d" else 1
        total += cost * place.size / node.output_shape[axis] * slower
        if place.above or place.below:
            shape = node.input_shapes[0]
            copied = COPY * shape[axis] / place.bands + GATHER * (place.above + place.below)
            total += copied * prod(shape) / shape[axis]
        outside = [reader for reader in readers[index] if reader not in places]
        averaged = all(_averages_all(graph.nodes[each]) for each in outside)
        if not readers[index] or not averaged or (outside and division.overlapping):
            total += GATHER * prod(node.output_shape)
    for source, found in readers.items():
        shape = graph.input_shape if source == INPUT else graph.nodes[source].output_shape
        own = places[source].bands if source in places else 0
        for bands in {places[reader].bands for reader in found if reader in places} - {own}:
            size, _ = division.of_input(shape, bands)
            total += GATHER * prod(shape) * size / shape[axis]
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


def _with_neighbours(graph: Graph, axis: int, most: int, parameters: Parameters) -> Division:
    """The nodes that can be in bands, from the input on, each in as many as possible."""
    found: dict[int, Place] = {}
    for index, node in enumerate(graph.nodes):
        if not all(source == INPUT or source in found for source in node.inputs):
            continue
        # Each input's bands are united in whole numbers.
        own = gcd(*(most if source == INPUT else found[source].bands for source in node.inputs))
        for bands in (number for number in range(own, 1, -1) if own % number == 0):
            place = _place(node, axis, bands, parameters)
            if place is not None:
                found[index] = place
                break
    return Division(axis, found)


def _place(node: Node, axis: int, bands: int, parameters: Parameters) -> Place | None:
    """A node in some bands, extended by their neighbours; None if that is not possible."""
    shapes = (*node.input_shapes, node.output_shape)
    if not all(len(shape) == 3 and shape[axis] % bands == 0 for shape in shapes):
        return None
    result, height = node.output_shape[axis] // bands, node.input_shapes[0][axis]
    same = all(shape[1:] == node.output_shape[1:] for shape in node.input_shapes)
    if isinstance(OPERATIONS[node.operation], Elementwise) or node.operation in POINTWISE:
        joins = node.operation in ("concat", "narrow")
        same = same and (joins or all(shape == node.output_shape for shape in node.input_shapes))
        return Place(bands, result) if same else None
    window = _window(node, axis, parameters)
    if window is None:
        return Place(bands, result) if _enlarges(node, axis, parameters) else None
    if node.operation == "avg_pool2d" and (any(window.padding) or window.size != window.stride):
        return None
    rows, above = height // bands, window.padding[0]
    below = max(0, window.size - window.stride - above)
    # Every band has as many rows of the output, which begin where its own rows do.
    even = node.output_shape[axis] * window.stride == height
    even = even and (rows + above + below - window.size) // window.stride + 1 == result
    fill = 0.0 if node.operation == "conv2d" else -float("inf")
    return Place(bands, result, above, below, fill) if even and max(above, below) <= rows else None


class Window(NamedTuple):
    """The rows on which one row of an output depends, and from one to the next."""

    size: int
    stride: int
    #: Before and after the map.
    padding: tuple[int, int] = (0, 0)


def _window(node: Node, axis: int, parameters: Parameters) -> Window | None:
    """The window of a convolution or a pooling; None for other nodes."""
    arguments, along = node.arguments, axis - 1
    if node.operation == "conv2d":
        size, padding = _kernel(node, parameters)[along], arguments["padding"][along]
    elif node.operation in ("max_pool2d", "avg_pool2d"):
        size, padding = arguments["kernel_size"][along], (arguments["padding"][along],) * 2
    else:
        return None
    dilation = arguments.get("dilation", (1, 1))[along]
    return Window(dilation * (size - 1) + 1, arguments["stride"][along], padding)


def _overlapping(
    graph: Graph, axis: int, bands: int, chain: Sequence[Window]
) -> Iterator[Division]:
    """Divisions of the first layers of a chain without padding, up to each of its layers."""
    for end in range(len(chain)):
        whole = graph.nodes[end].output_shape[axis]
        size = step = -(-whole // bands)
        if size * (bands - 1) >= whole:
            continue  # nothing is left for the last band
        places = {}
        for index in range(end, -1, -1):
            places[index] = Place(bands, size)
            window = chain[index]
            size, step = (size - 1) * window.stride + window.size, step * window.stride
        yield Division(axis, places, (size, step))


def _chain(graph: Graph, axis: int, readers: Readers, parameters: Parameters) -> list[Window]:
    """The windows of the first nodes, each of which reads only the one before, without padding."""
    found: list[Window] = []
    for index, node in enumerate(graph.nodes):
        if node.inputs != (index - 1,) or (index and len(readers[index - 1]) > 1):
            break
        (shape,) = node.input_shapes
        if isinstance(OPERATIONS[node.operation], Elementwise):
            window = Window(1, 1) if shape == node.output_shape else None
        else:
            window = _window(node, axis, parameters)
        if window is None or len(shape) != 3 or any(window.padding):
            break
        if node.output_shape[axis] != (shape[axis] - window.size) // window.stride + 1:
            break
        found.append(window)
    return found


def _averaging(node: Node, shape: tuple[int, ...]) -> Node:
    """The same average over all pixels of another shape."""
    arguments = dict(node.arguments)
    if "kernel_size" in arguments:
        arguments["kernel_size"] = arguments["stride"] = shape[1:]
    return replace(node, arguments=arguments, input_shapes=(shape,))


def _enlarges(node: Node, axis: int, parameters: Parameters) -> bool:
    """Whether each row of the output depends on one row of the input, several on the same."""
    arguments, along = node.arguments, axis - 1
    if node.operation == "conv_transpose2d":
        size, stride = _kernel(node, parameters)[along], arguments["stride"][along]
        alone = arguments["padding"][along] == (0, 0) and arguments["output_padding"][along] == 0
        return size == stride and alone and arguments["dilation"][along] == 1
    nearest = node.operation == "interpolate" and arguments["mode"] == "nearest"
    return nearest and node.output_shape[axis] % node.input_shapes[0][axis] == 0


class _Divided:
    """The network with some nodes in bands."""

    def __init__(self, graph: Graph, division: Division) -> None:
        self._graph = graph
        self._division = division
        self._places = division.places
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
            elif _averages_all(node) and self._is_divided(node.inputs[0]):
                self._new[index] = self._average(node)
            else:
                inputs = tuple(self._of(source) for source in node.inputs)
                self._new[index] = self._add(replace(node, inputs=inputs))
        self._of(len(self._graph.nodes) - 1)
        numbers = {new: old for old, new in self._new.items()}
        return Banded(replace(self._graph, nodes=tuple(self._nodes)), self._in_bands, numbers)

    def _is_divided(self, source: int) -> bool:
        """Whether a node's bands are of one size and do not leave the map."""
        return source in self._places and self._division.overlapping is None

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
            node = Node(name, operation, (source,), more, {}, (shape,), made)
            self._made[key] = self._add(node, bands)
        return self._made[key]

    def _of(self, source: int, bands: int = 1) -> int:
        """The node that has a node's output in some bands, or as whole samples."""
        axis, shape = self._division.axis, self._shape(source, bands)
        if source == INPUT:
            if bands == 1:
                return INPUT
            whole = self._graph.input_shape
            cut = Cut(axis, bands, self._division.of_input(whole, bands)[1])
            return self._between("input", "split_bands", INPUT, (whole, shape), bands, cut=cut)
        own = self._places[source].bands if source in self._places else 1
        if own == bands:
            return self._new[source]
        name, shapes = self._graph.nodes[source].name, (self._shape(source, own), shape)
        cut = Cut(axis, own // bands, shapes[0][axis])
        return self._between(name, "join_bands", self._new[source], shapes, bands, cut=cut)

    def _shape(self, source: int, bands: int) -> tuple[int, ...]:
        """The shape of a node's output in some bands."""
        division, place = self._division, self._places.get(source)
        nodes = self._graph.nodes
        shape = self._graph.input_shape if source == INPUT else nodes[source].output_shape
        if bands == 1:
            return shape
        if source == INPUT:
            size, _ = division.of_input(shape, bands)
        elif place is not None and place.bands == bands:
            size = place.size
        else:
            size = shape[division.axis] // bands
        return division.band(shape, size)

    def _average(self, node: Node) -> int:
        """The average of the bands' averages."""
        (source,) = node.inputs
        bands = self._places[source].bands
        shape = self._shape(source, bands)
        of_band = replace(
            _averaging(node, shape), inputs=(self._new[source],), output_shape=(shape[0], 1, 1)
        )
        shapes = (shape[0], 1, 1), (shape[0], bands, 1)
        averages, cut = self._add(of_band, bands), Cut(ROWS, bands, 1)
        joined = self._between(node.name, "join_bands", averages, shapes, 1, cut=cut)
        return self._add(replace(_averaging(node, shapes[1]), inputs=(joined,)))

    def _band_of(self, node: Node, place: Place) -> Node:
        """A node in bands."""
        axis, bands = self._division.axis, place.bands
        inputs = [self._of(source, bands) for source in node.inputs]
        shapes = [self._shape(source, bands) for source in node.inputs]
        arguments = dict(node.arguments)
        if place.above or place.below:
            size = shapes[0][axis] + place.above + place.below
            around = self._division.band(shapes[0], size)
            more = Extension(axis, bands, place.above, place.below, place.fill)
            inputs[0] = self._between(
                node.name, "extend_bands", inputs[0], (shapes[0], around), bands, extension=more
            )
            shapes[0] = around
            padding = list(arguments["padding"])
            padding[axis - 1] = (0, 0) if node.operation == "conv2d" else 0
            arguments["padding"] = tuple(padding)
        return replace(
            node,
            inputs=tuple(inputs),
            input_shapes=tuple(shapes),
            output_shape=self._division.band(node.output_shape, place.size),
            arguments=arguments,
        )
