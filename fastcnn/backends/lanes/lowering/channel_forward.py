"""The forward pass with a channel in each lane, in which a block is one sample.

A block of 16 samples takes as long for one of them as for all. Here a vector holds 16 channels of a
pixel, so one sample fills the lanes. Weights are packed, and batch normalisation that is left is a
factor and a summand, before the first run.
"""

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.convolution.channels import tiles
from fastcnn.backends.lanes.convolution.channels.records import K_CHANNEL_INPUT, K_CHANNEL_OUTPUT
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.channel_values import ChannelValues
from fastcnn.backends.lanes.lowering.shared_forward import lowering_of
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, channels_of, map_shape
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported


class ChannelForward(ChannelValues):
    """Adds the rows of one group after the other."""

    def add_group(self, group: Group) -> None:
        """Add a group's rows, or raise Unsupported."""
        add = lowering_of(group.operation).channels
        if add is None:
            raise Unsupported(f"{group.operation} with a channel in each lane")
        add(self, group)

    def input_row(self) -> int:
        """Normalise the samples; returns the place of factors and summands."""
        planner = self.planner
        shape = planner.graph.input_shape
        channels, height, width = map_shape(shape)
        planar = planner.is_planar(INPUT)
        make = planner.planes if planar else planner.buffer
        made = make(shape, planner.halo(INPUT), planner.value_passes(INPUT))
        y = self.keep(INPUT, made, np.arange(channels))
        normalisation = planner.allocate(2 * channels)
        rows, step = self.places[INPUT][::width], y.pixel
        if height == width == 1 and np.array_equal(np.diff(rows), np.ones(channels - 1)):
            # Numbers that follow each other: one row.
            rows, step = rows[:1], 1
        values = row(
            K_CHANNEL_INPUT,
            **y.columns("y"),
            in_=channels * height * width,
            out=channels,
            positions=len(rows),
            mode=step,
            x_table=planner.table(rows),
            scale=normalisation,
        )
        planner.emit("input", values)
        return normalisation

    def output_row(self) -> None:
        """Copy the last node's output to a row for each sample."""
        last = len(self.planner.graph.nodes) - 1
        columns, places = self.values[last].columns("x"), self.places[last]
        table = self.planner.table(places)
        self.planner.emit(
            "output", row(K_CHANNEL_OUTPUT, **columns, in_=len(places), x_table=table)
        )

    def bias(self, group: Group, outputs: int) -> np.ndarray:
        """A layer's biases, or zeros."""
        bias = self.planner.parameter(group, "bias")
        return np.zeros(outputs, np.float32) if bias is None else bias

    def joined(self, group: Group) -> list[Buffer]:
        """What meets in a group; a factor for each pixel is spread over the lanes."""
        channels, shapes = channels_of(group.node.output_shape), group.node.input_shapes
        pixels = [channels > 1 == channels_of(shape) for shape in shapes]
        if not any(pixels):
            return super().joined(group)
        return [
            self._spread(source) if alone else self.usual(source)
            for source, alone in zip(group.sources, pixels, strict=True)
        ]

    def _spread(self, index: int) -> Buffer:
        """A map of one channel in all lanes."""
        _, height, width = map_shape(self.planner.shape(index))
        made = self.planner.buffer((LANES, height, width), passing=True)
        sources = np.repeat(self.places[index], LANES)
        targets = (made.pixels()[:, None] + np.arange(LANES)).ravel()
        self.move("a channel into all lanes", index, sources, made, targets)
        return made

    def rectifier(self, group: Group) -> int:
        """What is done to a group's sums, as rows say it."""
        return tiles.RELU6 if group.capped else int(group.relu)
