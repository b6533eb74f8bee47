"""The forward pass with a channel in each lane, in which a block is one sample.

A block of 16 samples takes as long for one of them as for all. Here a vector holds 16 channels of a
pixel, so one sample fills the lanes. Weights are packed, and batch normalisation that is left is a
factor and a summand, before the first run.
"""

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.convolution.channels import rows as conv_rows
from fastcnn.backends.lanes.convolution.channels import tiles
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.channel_maps import ChannelMaps
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, channels_of, map_shape
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported
from fastcnn.backends.lanes.planning.rows import (
    element_columns,
    elementwise,
    formula_columns,
    fused,
    grid,
    winner_row,
)
from fastcnn.operations import OPERATIONS, Elementwise


class ChannelForward(ChannelMaps):
    """Adds the rows of one group after the other."""

    def add_group(self, group: Group) -> None:
        """Add a group's rows.

        Raises
        ------
        Unsupported
        """
        is_elementwise = isinstance(OPERATIONS[group.operation], Elementwise)
        if not is_elementwise and not hasattr(self, group.operation):
            raise Unsupported(f"{group.operation} with a channel in each lane")
        super().add_group(group)

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
        columns: dict[str, int] = {"in": channels * height * width, "out": channels}
        rows, step = self.places[INPUT][::width], y.pixel
        if height == width == 1 and np.array_equal(np.diff(rows), np.ones(channels - 1)):
            # Numbers that follow each other: one row.
            rows, step = rows[:1], 1
        planner.emit(
            "input",
            row(
                L.K_CHANNEL_INPUT,
                **y.columns("y"),
                positions=len(rows),
                mode=step,
                x_table=planner.table(rows),
                scale=normalisation,
                **columns,
            ),
        )
        return normalisation

    def output_row(self) -> None:
        """Copy the last node's output to a row for each sample."""
        last = len(self.planner.graph.nodes) - 1
        places = self.places[last]
        size: dict[str, int] = {"in": len(places)}
        self.planner.emit(
            "output",
            row(
                L.K_CHANNEL_OUTPUT,
                **self.values[last].columns("x"),
                x_table=self.planner.table(places),
                **size,
            ),
        )

    def conv2d(self, group: Group) -> None:
        """Convolution, with what is fused to it."""
        planner, g = self.planner, self.planner.geometry(group.node)
        y = self.output(group)
        if group.pooled:
            shape = (g.out_channels, *g.output)
            target = planner.buffer(shape) if group.whole else planner.reused(shape)
            conv_rows.convolution(planner, g, self._sum(group, g.out_channels, target))
            self._pooled(group, target, y)
            planner.release(target)
        else:
            conv_rows.convolution(planner, g, self._sum(group, g.out_channels, y))

    def conv_transpose2d(self, group: Group) -> None:
        """Transposed convolution."""
        g = self.planner.geometry(group.node)
        work = self._sum(group, g.group_inputs * g.groups, self.output(group))
        conv_rows.transposed(self.planner, g, work)

    def _sum(self, group: Group, outputs: int, y: Buffer) -> conv_rows.Sum:
        """What a convolution's rows compute."""
        weight = self.planner.parameter(group, "weight")
        assert weight is not None
        what = "transposed convolution" if group.operation == "conv_transpose2d" else "convolution"
        # A kernel for each channel works lane by lane.
        alone = group.node.arguments["groups"] > 1
        passing = not group.whole
        x = self.usual(group.source, passing) if alone else self.values[group.source]
        channels = np.arange(map_shape(group.node.input_shapes[0])[0])
        return conv_rows.Sum(
            f"{group.node.name}: {what}" + fused(group),
            x,
            y,
            weight,
            self._bias(group, outputs),
            rectifier(group),
            self.usual(group.sources[1], passing) if group.adds else None,
            channels if alone else self.lanes[group.source],
            group.whole,
        )

    def _bias(self, group: Group, outputs: int) -> np.ndarray:
        bias = self.planner.parameter(group, "bias")
        return np.zeros(outputs, np.float32) if bias is None else bias

    def _pooled(self, group: Group, x: Buffer, y: Buffer) -> None:
        """2x2 max pooling of a convolution's output."""
        h, w = grid(y.height, y.width)
        down, along = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
        windows = x.at(2 * h[:, None] + down, 2 * w[:, None] + along)
        self.planner.emit(
            f"{group.node.name}: 2x2 max pooling",
            winner_row(self.planner, x, y, None, windows),
        )

    def linear(self, group: Group) -> None:
        """Fully connected layer; its input's numbers may be anywhere."""
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        weight = planner.parameter(group, "weight")
        assert weight is not None
        name = f"{group.node.name}: linear" + fused(group)
        work = conv_rows.Sum(
            name, x, y, weight, self._bias(group, len(weight)), rectifier(group), whole=True
        )
        conv_rows.linear(planner, work, self.places[group.source])

    def flatten(self, group: Group) -> None:
        """The same memory."""
        self.rename(group)

    def dropout(self, group: Group) -> None:
        """The same memory."""
        self.rename(group)

    dropout2d = dropout

    def _same_layout(self, group: Group, x: Buffer) -> Buffer:
        """The buffer of what keeps places: that of a flat map like its own."""
        if group.source in self.lanes:
            return self.output(group)
        made = self.planner.like(x, self.planner.value_passes(group.target))
        self.values[group.target], self.places[group.target] = made, self.places[group.source]
        return made

    def elementwise(self, group: Group) -> None:
        """A function of each element."""
        planner, x = self.planner, self.values[group.source]
        columns = formula_columns(planner, group, "value")
        parameters = elementwise(group.operation).parameters
        lanes = self.lanes.get(group.source)
        values = [planner.parameter(group, name) for name in parameters]
        of_channels = any(value is not None and value.size > 1 for value in values)
        if lanes is None and of_channels:
            x = self.usual(group.source)
            lanes = np.arange(x.channels * LANES)[: channels_of(planner.shape(group.source))]
            y = self.keep(group.target, planner.value_buffer(group.target), lanes)
        else:
            y = self._same_layout(group, x)
        for value in values:
            assert value is not None
            if of_channels:
                vectors = np.zeros(x.channels * LANES, np.float32)
                vectors[lanes] = value
                columns |= {"w": planner.weight(vectors), "mode": L.FOR_LANES}
            else:
                columns |= {"w": planner.weight(value), "mode": L.FOR_ALL}
        columns |= element_columns(planner, x=x, y=y)
        planner.emit(f"{group.node.name}: {group.operation}", row(**columns))

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

    def batch_norm(self, group: Group) -> None:
        """Batch normalisation that no layer before it took up: a factor and a summand."""
        node, planner = group.node, self.planner
        if not node.arguments["track_running_stats"]:
            raise Unsupported("this batch normalisation with a channel in each lane")
        mean, variance = (
            planner.state[node.buffers[name]].astype(np.float64)
            for name in ("running_mean", "running_var")
        )
        weight, bias = planner.parameter(group, "weight"), planner.parameter(group, "bias")
        scale = (1.0 if weight is None else weight) / np.sqrt(variance + node.arguments["eps"])
        shift = (0.0 if bias is None else bias) - mean * scale
        (x,), y = self.joined(group), self.output(group)
        name = f"{node.name}: batch normalisation" + fused(group)
        lanes = self.lanes[group.target]
        work = conv_rows.Sum(name, x, y, scale[:, None], shift, rectifier(group), lanes=lanes)
        conv_rows.depthwise(planner, work, x.pixels(), np.zeros(1))


def rectifier(group: Group) -> int:
    """What is done to a group's sums, as rows say it."""
    return tiles.RELU6 if group.capped else int(group.relu)
