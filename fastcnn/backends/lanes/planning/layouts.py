"""How the values of a network lie in memory: in whose buffer, and with what zeros around them."""

from fastcnn.backends.graph import INPUT, Graph, Node
from fastcnn.backends.lanes.convolution import algorithms
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.buffers import NO_HALO, Halo, union
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.operations import OPERATIONS


class Layouts:
    """What the planner asks of the network about layouts."""

    graph: Graph
    #: dict of str to (offset, shape). Where each parameter stands in the flat array.
    parameters: dict[str, tuple[int, tuple[int, ...]]]
    #: Whether gradients are wanted.
    backward: bool
    #: By the last node of each group.
    makers: dict[int, Group]
    #: Who reads a node's output, or the input.
    readers: dict[int, list[Group]]
    #: dict of int to (int, int). By node whose output lies in that of another: the latter, and the
    #: first channel.
    parts: dict[int, tuple[int, int]]

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a node's output, or of the input."""
        return self.graph.input_shape if index == INPUT else self.graph.nodes[index].output_shape

    def _together(self, index: int) -> list[int]:
        """The nodes whose outputs are parts of one buffer with that of a node."""

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
        """Whether the gradient of a node's output may stand in a buffer of another halo."""
        if index == INPUT or self.makers[index].pooled:
            return False
        return OPERATIONS[self.makers[index].operation].any_layout

    def geometry(self, node: Node) -> ConvGeometry:
        """Sizes of a convolution; of a transposed one, those of the convolution it transposes."""
        return ConvGeometry(node, self.parameters[node.parameters["weight"]][1])

    def halo(self, index: int) -> Halo:
        """Zeros around a node's output that its neighbours read, it or its gradient."""
        halo = NO_HALO
        for other in self._laid_out_as(index):
            halo = union(halo, self._own_halo(other))
        return halo

    def _laid_out_as(self, index: int) -> list[int]:
        """A node, those that share its buffer, and those that a convolution adds into one."""
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
        """Zeros that the maker of a node's output reads around its gradient."""
        maker: Group | None = self.makers.get(index)
        if maker is None or maker.pooled:
            return NO_HALO
        if maker.operation == "conv2d":
            return algorithms.gradient_halo(self.geometry(maker.node))
        if maker.operation == "conv_transpose2d":
            return algorithms.input_halo(self.geometry(maker.node))
        return NO_HALO
