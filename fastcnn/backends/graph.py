"""A network as plain data: the form in which backends receive it, without layer objects."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

Shape = tuple[int, ...]

#: The network's own input in :attr:`Node.inputs`.
INPUT = -1


@dataclass(frozen=True)
class Node:
    """One operation of a network."""

    #: The layer's path in the model, such as ``"0"`` or ``"block1.conv"``.
    name: str
    #: A key of :data:`fastcnn.operations.OPERATIONS`.
    operation: str
    #: Indices of the nodes that feed this one; :data:`INPUT` is the network's input.
    inputs: tuple[int, ...]
    #: Keyword arguments of the backend function: geometry, rates.
    arguments: Mapping[str, Any]
    #: The operation's parameter names to keys in the model's state, for parameters that exist.
    parameters: Mapping[str, str]
    #: Shape of each input without the batch dimension.
    input_shapes: tuple[Shape, ...]
    #: Shape of the output without the batch dimension.
    output_shape: Shape
    #: Names of arrays that training updates without gradients, such as running statistics, to their
    #: keys in the model's state.
    buffers: Mapping[str, str] = field(default_factory=dict)
    #: Whether training normalises by the running statistics and does not update them.
    frozen_statistics: bool = False

    def takes_batch_statistics(self, training: bool) -> bool:
        """Whether a sample's output depends on all samples of its batch.

        Batch normalisation uses the batch's mean and variance in training, and always if it has no
        running statistics.
        """
        tracked = self.arguments.get("track_running_stats")
        return tracked is not None and ((training and not self.frozen_statistics) or not tracked)

    def tracks(self, training: bool) -> bool:
        """Whether a pass updates the node's running statistics."""
        return bool(self.buffers) and training and not self.frozen_statistics


@dataclass(frozen=True)
class Port:
    """One of several inputs or outputs of a network."""

    name: str
    #: The shape of one sample.
    shape: Shape
    #: Index of its first element in the array that holds all inputs, or all outputs, of a sample.
    start: int = 0

    @property
    def stop(self) -> int:
        """Index after its last element."""
        return self.start + prod(self.shape)


def ports(shapes: Iterable[tuple[str, Shape]]) -> tuple[Port, ...]:
    """Inputs or outputs laid out one after the other."""
    found: list[Port] = []
    for name, shape in shapes:
        found.append(Port(name, tuple(shape), found[-1].stop if found else 0))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order; the last is the output.

    A changed model makes a new graph: a graph object describes one state of the model.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    #: With several inputs, a sample holds all of them, one after the other.
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()

    @property
    def output_shape(self) -> Shape:
        """Shape of the network's output without the batch dimension."""
        return self.nodes[-1].output_shape if self.nodes else self.input_shape

    def batch_statistics(self, training: bool) -> tuple[Node, ...]:
        """The nodes whose output for a sample depends on all samples of its batch."""
        return tuple(node for node in self.nodes if node.takes_batch_statistics(training))

    @cached_property
    def pooled_first(self) -> "Graph":
        """The same network with max pooling moved before a ReLU that feeds it alone.

        ReLU is monotonic, so both orders give the same bits in output and gradients; but the ReLU
        then reads the smaller maps.
        """
        nodes, readers = list(self.nodes), self.consumers()
        for index, node in enumerate(self.nodes[:-1]):
            pool = self.nodes[index + 1]
            if node.operation != "relu" or pool.operation != "max_pool2d":
                continue
            if pool.inputs == (index,) and readers[index] == [index + 1]:
                shape = pool.output_shape
                nodes[index] = replace(pool, inputs=node.inputs)
                nodes[index + 1] = replace(
                    node, inputs=(index,), input_shapes=(shape,), output_shape=shape
                )
        return replace(self, nodes=tuple(nodes))

    def consumers(self) -> dict[int, list[int]]:
        """For each node (and :data:`INPUT`), the nodes that read its output."""
        readers: dict[int, list[int]] = {index: [] for index in range(INPUT, len(self.nodes))}
        for index, node in enumerate(self.nodes):
            for source in node.inputs:
                readers[source].append(index)
        return readers

    def leads_to_parameters(self, keys: Collection[str]) -> set[int]:
        """Nodes whose output depends on any of some parameters, given by their state keys."""
        found: set[int] = set()
        for index, node in enumerate(self.nodes):
            own = any(key in keys for key in node.parameters.values())
            if own or any(source in found for source in node.inputs):
                found.add(index)
        return found
