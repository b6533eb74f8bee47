"""The forward walk of the program for few samples: a channel in each lane, a sample per block.

A block of 16 samples takes equally long for one sample as for all. Here a vector holds 16 channels
of a pixel, so a single sample fills the lanes. Weights are packed before the first run, and batch
normalisation that is not folded becomes a scale and an offset.
"""

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.convolution.channel_direct import records, tiles
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.channel_values import ChannelValues
from fastcnn.backends.lanes.lowering.shared_forward import lowering_of
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, channels_of, map_shape
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported


class ChannelForward(ChannelValues):
    """Adds the rows of a network, group by group."""

    def add_group(self, group: Group) -> None:
        """Add a group's rows, or raise Unsupported."""
        add = lowering_of(group.operation).channels
        if add is None:
            raise Unsupported(f"{group.operation} with a channel in each lane")
        add(self, group)

    def input_row(self) -> int:
        """Normalise the samples; returns the offset of scales and offsets."""
        planner = self.planner
        shape = planner.graph.input_shape
        channels, height, width = map_shape(shape)
        planar = planner.is_planar(INPUT)
        make = planner.planes if planar else planner.buffer
        made = make(shape, planner.halo(INPUT), planner.value_passes(INPUT))
        y = self.keep(INPUT, made, np.arange(channels))
        normalisation = planner.allocate(2 * channels)
        places, step = self.places[INPUT], y.pixel
        rows = places[::width]
        if (np.diff(places.reshape(channels, -1)) == step).all():
            # A channel without padding is one row.
            rows = places[:: height * width]
        if height == width == 1 and (np.diff(rows) == 1).all():
            # Contiguous values: one row.
            rows, step = rows[:1], 1
        values = row(
            records.K_CHANNEL_INPUT,
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
        """Copy the last node's output to an array with one row per sample."""
        last = len(self.planner.graph.nodes) - 1
        columns, places = self.values[last].columns("x"), self.places[last]
        table = self.planner.table(places)
        self.planner.emit(
            "output", row(records.K_CHANNEL_OUTPUT, **columns, in_=len(places), x_table=table)
        )

    def bias(self, group: Group, outputs: int) -> np.ndarray:
        """A layer's biases, or zeros."""
        bias = self.planner.parameter(group, "bias")
        return np.zeros(outputs, np.float32) if bias is None else bias

    def joined(self, group: Group) -> list[Buffer]:
        """The inputs of a group; a factor per pixel is broadcast over the lanes."""
        channels, shapes = channels_of(group.node.output_shape), group.node.input_shapes
        pixels = [channels > 1 == channels_of(shape) for shape in shapes]
        if not any(pixels):
            return super().joined(group)
        return [
            self._spread(source) if alone else self.usual(source)
            for source, alone in zip(group.sources, pixels, strict=True)
        ]

    def _spread(self, index: int) -> Buffer:
        """Broadcast a map of one channel to all lanes."""
        _, height, width = map_shape(self.planner.shape(index))
        made = self.planner.buffer((LANES, height, width), passing=True)
        sources = np.repeat(self.places[index], LANES)
        targets = (made.pixels()[:, None] + np.arange(LANES)).ravel()
        self.move("a channel into all lanes", index, sources, made, targets)
        return made

    def rectifier(self, group: Group) -> int:
        """The value of the column RELU for a group's activation."""
        return tiles.RELU6 if group.capped else int(group.relu)
