"""The forward pass: where its values are, and the rows of its input and output."""

from typing import Any

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.kernels.inputs import K_INPUT, K_OUTPUT_GRADIENT
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.kernels.outputs import K_OUTPUT
from fastcnn.backends.lanes.lowering.shared_forward import SharedForward, lowering_of
from fastcnn.backends.lanes.planning.buffers import Buffer, map_shape
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.operations import OPERATIONS


class Forward(SharedForward):
    """Adds the forward rows of one group after the other.

    Attributes
    ----------
    values : dict of int to Buffer
        Each node's output.
    winners : dict of int to Buffer
        Which pixel of each window was the maximum.
    kept : dict of int to int or Buffer
        By node what else its backward pass needs again.
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.values: dict[int, Buffer] = {}
        self.winners: dict[int, Buffer] = {}
        self.kept: dict[int, Any] = {}
        #: By node of a convolution whose row also writes its output's moments: where they are.
        self.moments: dict[int, dict[str, int]] = {}

    def add_group(self, group: Group) -> None:
        """Add a group's rows."""
        lowering_of(group.operation).forward(self, group)

    def input_row(self) -> int:
        """Gather, normalise and pack the images; returns the place of factors and summands."""
        planner = self.planner
        shape, halo = planner.graph.input_shape, planner.halo(INPUT)
        buffer = planner.buffer(shape, halo, planner.value_passes(INPUT))
        self.values[INPUT] = buffer
        normalisation = planner.allocate(2 * buffer.channels)
        channel = np.arange(buffer.channels)[:, None] * buffer.channel
        columns: dict[str, int] = {
            "in": buffer.channels * buffer.height * buffer.width,
            "out": buffer.channels,
            "x_table": planner.table(channel + buffer.pixels()),
            "scale": normalisation,
        }
        planner.emit("input", row(K_INPUT, **buffer.columns("y"), **columns))
        return normalisation

    def gradient_row(self, buffer: Buffer, name: str = "output gradient") -> None:
        """Pack the gradient of the network's output, or targets, from an array into a buffer."""
        channel = np.arange(buffer.channels)[:, None] * buffer.channel
        # One channel, as they all have the same factor 1.
        columns: dict[str, int] = {
            "in": buffer.channels * buffer.height * buffer.width,
            "out": 1,
            "x_table": self.planner.table(channel + buffer.pixels()),
            "scale": self.planner.constant([1.0, 0.0]),
        }
        self.planner.emit(name, row(K_OUTPUT_GRADIENT, **buffer.columns("y"), **columns))

    def output_row(self, buffer: Buffer) -> None:
        """Copy a buffer, such as the network's output, to a row for each sample."""
        channel = np.arange(buffer.channels)[:, None] * buffer.channel
        table = self.planner.table(channel + buffer.pixels())
        size: dict[str, int] = {"in": buffer.channels * buffer.height * buffer.width}
        self.planner.emit("output", row(K_OUTPUT, **buffer.columns("x"), x_table=table, **size))

    def output(self, group: Group) -> Buffer:
        """The buffer that a group fills."""
        return self._value(group.target)

    def _value(self, index: int) -> Buffer:
        """The buffer of a node's output: its own, or its channels in what it is put into."""
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
        """Whether a ReLU made a node's output, or what it is another shape or a dropout of."""
        maker = self.planner.makers.get(index)
        if maker is None:
            return False
        renames = OPERATIONS[maker.operation].renames and len(maker.sources) == 1
        return maker.relu or (renames and self.is_rectified(maker.source))
