"""Decides the layout of a network's values: whose buffer they are in, and their halo."""

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes.convolution import algorithms
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.buffers import NO_HALO, Halo, union
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.operations import OPERATIONS


class Layouts:
    """The planner's questions about layouts."""

    graph: Graph
    #: dict of str to (offset, shape). Position of each parameter in the flat array.
    parameters: dict[str, tuple[int, tuple[int, ...]]]
    #: Whether gradients are computed.
    backward: bool
    #: The group of each last node.
    makers: dict[int, Group]
    #: The groups that read a node's output, or the input.
    readers: dict[int, list[Group]]
    #: dict of int to (int, int). By node whose output is part of another's: the latter, and the
    #: first channel.
    parts: dict[int, tuple[int, int]]

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a node's output, or of the input."""
        return self.graph.input_shape if index == INPUT else self.graph.nodes[index].output_shape

    def _together(self, index: int) -> list[int]:
        """The nodes whose outputs are parts of the same buffer as a node's."""

        def whole(part: int) -> int:
            while part in self.parts:
                part = self.parts[part][0]
            return part

        found = whole(index)
        return [found, *(part for part in self.parts if whole(part) == found)]

    def is_joined(self, index: int) -> bool:
        """Whether a node's output is a part of another's, or has parts."""
        return len(self._together(index)) > 1

    def takes_any_layout(self, index: int) -> bool:
        """Whether the gradient of a node's output may be in a buffer with another halo."""
        if index == INPUT or self.makers[index].pooled:
            return False
        return OPERATIONS[self.makers[index].operation].any_layout

    def geometry(self, node: Node) -> ConvGeometry:
        """Sizes of a convolution; of a transposed one, those of the convolution it transposes."""
        return ConvGeometry(node, self.parameters[node.parameters["weight"]][1])

    def halo(self, index: int) -> Halo:
        """Padding of a node's output, or its gradient, that its readers and its own group read."""
        halo = NO_HALO
        for other in self._laid_out_as(index):
            halo = union(halo, self._own_halo(other))
        return halo

    def _laid_out_as(self, index: int) -> list[int]:
        """A node, those that share its buffer, and those that a convolution adds to one of them."""
        found = [index]
        for one in found:
            alike, maker = self._together(one), self.makers.get(one)
            if maker and self._adds_map(maker):
                alike.append(maker.sources[1])
            alike += [
                reader.target
                for reader in self.readers.get(one, [])
                if self._adds_map(reader) and reader.sources[1] == one
            ]
            found += [other for other in dict.fromkeys(alike) if other not in found]
        return found

    def _adds_map(self, group: Group) -> bool:
        return group.adds and group.operation == "conv2d"

    def _own_halo(self, index: int) -> Halo:
        halo = NO_HALO
        for reader in self.readers.get(index, []):
            if reader.operation == "conv2d" and reader.source == index:
                halo = union(halo, algorithms.input_halo(self.geometry(reader.node)))
            elif reader.operation == "conv_transpose2d":
                halo = union(halo, algorithms.gradient_halo(self.geometry(reader.node)))
        return union(halo, self.gradient_halo(index)) if self.backward else halo

    def gradient_halo(self, index: int) -> Halo:
        """Padding of the gradient of a node's output that the node's own backward pass reads."""
        maker: Group | None = self.makers.get(index)
        if maker is None or maker.pooled:
            return NO_HALO
        if maker.operation == "conv2d":
            return algorithms.gradient_halo(self.geometry(maker.node))
        if maker.operation == "conv_transpose2d":
            return algorithms.input_halo(self.geometry(maker.node))
        return NO_HALO
