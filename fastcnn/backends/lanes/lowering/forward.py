"""The forward walk over a network: the buffers of its values, and the rows of input and output."""

from typing import Any

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.kernels.arrays import K_INPUT, K_OUTPUT, K_OUTPUT_GRADIENT
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.shared_forward import SharedForward, lowering_of
from fastcnn.backends.lanes.planning.buffers import Buffer, map_shape
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.operations import OPERATIONS


class Forward(SharedForward):
    """Adds the forward rows of a network, group by group."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.values: dict[int, Buffer] = {}
        #: By node the argmax of each pooling window.
        self.winners: dict[int, Buffer] = {}
        #: By node further results that its backward pass needs.
        self.kept: dict[int, Any] = {}
        #: By node of a convolution whose row also computes its output's moments: their columns.
        self.moments: dict[int, dict[str, int]] = {}

    def add_group(self, group: Group) -> None:
        """Add a group's rows."""
        lowering_of(group.operation).forward(self, group)

    def input_row(self) -> int:
        """Gather, normalise and pack the images; returns the offset of scales and offsets."""
        planner = self.planner
        shape, halo = planner.graph.input_shape, planner.halo(INPUT)
        buffer = planner.buffer(shape, halo, planner.value_passes(INPUT))
        self.values[INPUT] = buffer
        normalisation = planner.allocate(2 * buffer.channels)
        self._emit_rows("input", K_INPUT, buffer, buffer.channels, normalisation)
        return normalisation

    def gradient_row(self, buffer: Buffer, name: str = "output gradient") -> None:
        """Pack the gradient of the network's output, or targets, from an array into a buffer."""
        # One channel suffices, as all have the same factor 1.
        self._emit_rows(name, K_OUTPUT_GRADIENT, buffer, 1, self.planner.constant([1.0, 0.0]))

    def _emit_rows(self, name: str, kernel: int, y: Buffer, channels: int, scale: int) -> None:
        """Add the row that packs an array's rows, with a scale and an offset for each channel."""
        table, numbers = self.planner.table(y.places()), {"out": channels, "scale": scale}
        values = row(kernel, **y.columns("y"), in_=y.elements, x_table=table, **numbers)
        self.planner.emit(name, values)

    def output_row(self, buffer: Buffer) -> None:
        """Copy a buffer, such as the network's output, to an array with one row per sample."""
        table = self.planner.table(buffer.places())
        values = row(K_OUTPUT, **buffer.columns("x"), in_=buffer.elements, x_table=table)
        self.planner.emit("output", values)

    def output(self, group: Group) -> Buffer:
        """The buffer that a group fills."""
        return self._value(group.target)

    def _value(self, index: int) -> Buffer:
        """The buffer of a node's output: its own, or its channels in a concatenation."""
        planner = self.planner
        if index not in self.values:
            shape = planner.shape(index)
            if index in planner.parts:
                whole, first = planner.parts[index]
                made = self._value(whole).part(first, map_shape(shape)[0])
            else:
                made = planner.value_buffer(index)
            self.values[index] = made
        return self.values[index]

    def is_rectified(self, index: int) -> bool:
        """Whether a node's output is that of a ReLU, possibly reshaped or after a dropout."""
        maker = self.planner.makers.get(index)
        if maker is None:
            return False
        renames = OPERATIONS[maker.operation].renames and len(maker.sources) == 1
        return maker.relu or (renames and self.is_rectified(maker.source))
