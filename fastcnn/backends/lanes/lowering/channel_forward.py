"""The forward pass with a channel in each lane, in which a block is one sample.

A block of 16 samples takes as long for one of them as for all. Here a vector holds 16 channels of a
pixel, so one sample fills the lanes. Weights are packed, and batch normalisation that is left is a
factor and a summand, before the first run.
"""

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes.convolution.channels import rows as conv_rows
from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.shared_forward import SharedForward
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer, channels_of, map_shape
from fastcnn.backends.lanes.planning.channel_planner import (
    ChannelPlanner,
    PlanarBuffer,
    lane_blocks,
)
from fastcnn.backends.lanes.planning.grouping import Group, Unsupported
from fastcnn.backends.lanes.planning.rows import (
    copy,
    element_columns,
    elementwise,
    formula_columns,
    fused,
    grid,
    pool_row,
    winner_row,
)
from fastcnn.operations import OPERATIONS, Elementwise


class ChannelForward(SharedForward):
    """Adds the rows of one group after the other.

    Attributes
    ----------
    values : dict of int to Buffer
        Each node's output.
    places : dict of int to ndarray
        Where each number of it is, in the order of the flattened output.
    """

    planner: ChannelPlanner

    def __init__(self, planner: ChannelPlanner) -> None:
        self.planner = planner
        self.values: dict[int, Buffer] = {}
        self.places: dict[int, np.ndarray] = {}

    def add_group(self, group: Group) -> None:
        """Add a group's rows.

        Raises
        ------
        Unsupported
        """
        is_elementwise = isinstance(OPERATIONS[group.operation], Elementwise)
        if not is_elementwise and group.operation not in SUPPORTED:
            raise Unsupported(f"{group.operation} with a channel in each lane")
        super().add_group(group)

    def _keep(self, index: int, buffer: Buffer, channels: int) -> Buffer:
        """Note a node's output."""
        c = np.arange(channels)[:, None]
        if isinstance(buffer, PlanarBuffer):
            places = c * buffer.channel + buffer.pixels()
        else:
            places = c // LANES * buffer.channel + c % LANES + buffer.pixels()
        self.values[index], self.places[index] = buffer, places.ravel()
        return buffer

    def output(self, group: Group) -> Buffer:
        """The buffer that a group fills."""
        channels = channels_of(self.planner.shape(group.target))
        return self._keep(group.target, self.planner.value_buffer(group.target), channels)

    def _is_flat(self, index: int) -> bool:
        """Whether a vector is what was a map: its numbers are not one after the other."""
        places, shape = self.places[index], self.planner.shape(index)
        return len(shape) == 1 and not np.array_equal(places, np.arange(len(places)))

    def input_row(self) -> int:
        """Normalise the samples; returns the place of factors and summands."""
        planner = self.planner
        shape = planner.graph.input_shape
        channels, height, width = map_shape(shape)
        planar = planner.is_planar(INPUT)
        make = planner.planes if planar else planner.buffer
        y = self._keep(
            INPUT, make(shape, planner.halo(INPUT), planner.value_passes(INPUT)), channels
        )
        normalisation = planner.allocate(2 * channels)
        columns: dict[str, int] = {"in": channels * height * width, "out": channels}
        planner.emit(
            "input",
            row(
                L.K_CHANNEL_INPUT,
                **y.columns("y"),
                positions=channels * height,
                mode=y.pixel,
                x_table=planner.table(self.places[INPUT][::width]),
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
            target = planner.reused((g.out_channels, *g.output))
            self._convolution(group, g, target)
            self._pooled(group, target, y)
            planner.release(target)
        else:
            self._convolution(group, g, y)

    def _convolution(self, group: Group, g: ConvGeometry, y: Buffer) -> None:
        weight = self.planner.parameter(group, "weight")
        assert weight is not None
        work = conv_rows.Sum(
            f"{group.node.name}: convolution" + (" + sum" if group.adds else "") + fused(group),
            self.values[group.source],
            y,
            weight,
            self._bias(group, g.out_channels),
            group.relu,
            self.values[group.sources[1]] if group.adds else None,
        )
        conv_rows.convolution(self.planner, g, work)

    def _bias(self, group: Group, outputs: int) -> np.ndarray:
        bias = self.planner.parameter(group, "bias")
        return np.zeros(outputs, np.float32) if bias is None else bias

    def _pooled(self, group: Group, x: Buffer, y: Buffer) -> None:
        """2x2 max pooling of a convolution's output."""
        h, w = grid(y.height, y.width)
        down, along = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
        windows = x.at(2 * h[:, None] + down, 2 * w[:, None] + along)
        winners = self.planner.like(y, passing=True)
        self.planner.emit(
            f"{group.node.name}: 2x2 max pooling",
            winner_row(self.planner, L.K_MAX_POOL, x, y, winners, windows),
        )

    def linear(self, group: Group) -> None:
        """Fully connected layer; its input's numbers may be anywhere."""
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        weight = planner.parameter(group, "weight")
        assert weight is not None
        outputs, inputs = weight.shape
        samples = np.arange(planner.blocks)
        planner.emit(
            f"{group.node.name}: linear" + fused(group),
            row(
                L.K_CHANNEL_LINEAR,
                x=x.offset,
                y=y.offset,
                w=planner.weight(conv_rows.packed(weight)),
                bias=conv_rows.biases(planner, self._bias(group, outputs)),
                relu=int(group.relu),
                channels=y.channels,
                taps=inputs,
                tap_table=planner.table(self.places[group.source]),
                positions=planner.blocks,
                x_table=planner.table(samples * x.block, 1),
                y_table=planner.table(samples * y.block, 1),
            ),
            whole=True,
        )

    def flatten(self, group: Group) -> None:
        """The same memory."""
        self._rename(group)

    def dropout(self, group: Group) -> None:
        """The same memory."""
        self._rename(group)

    dropout2d = dropout

    def _rename(self, group: Group) -> None:
        self.values[group.target] = self.values[group.source]
        self.places[group.target] = self.places[group.source]

    def _same_layout(self, group: Group, x: Buffer) -> Buffer:
        """The buffer of what keeps places: that of a flat map like its own."""
        if not self._is_flat(group.source):
            return self.output(group)
        made = self.planner.like(x, self.planner.value_passes(group.target))
        self.values[group.target], self.places[group.target] = made, self.places[group.source]
        return made

    def elementwise(self, group: Group) -> None:
        """A function of each element."""
        planner, x = self.planner, self.values[group.source]
        columns = formula_columns(planner, group, "value")
        for name in elementwise(group.operation).parameters:
            value = planner.parameter(group, name)
            assert value is not None
            if value.size > 1:
                raise Unsupported(f"{group.operation} with a parameter for each channel in lanes")
            columns["w"] = planner.weight(value)
        y = self._same_layout(group, x)
        columns |= element_columns(planner, x=x, y=y)
        planner.emit(f"{group.node.name}: {group.operation}", row(**columns))

    def joined(self, group: Group) -> list[Buffer]:
        """What meets in a group."""
        if any(self._is_flat(source) for source in group.sources):
            raise Unsupported(f"{group.operation} of flattened maps with a channel in each lane")
        return super().joined(group)

    def multiply(self, group: Group) -> None:
        """Product of two maps, one of which may be a factor for each channel."""
        channels = group.node.output_shape[0]
        if any(shape[0] != channels for shape in group.node.input_shapes):
            raise Unsupported("a factor for each pixel with a channel in each lane")
        super().multiply(group)

    def concat(self, group: Group) -> None:
        """Copies of blocks of channels, where each begins at the first lane."""
        sizes = [self.planner.shape(source)[0] for source in group.sources]
        values = self.joined(group)
        if any(size % LANES for size in sizes[:-1]):
            raise Unsupported("concat of other than 16 channels with a channel in each lane")
        y, first = self.output(group), 0
        for x in values:
            copy(self.planner, group.node.name, x, y.part(first, x.channels))
            first += x.channels

    def narrow(self, group: Group) -> None:
        """The channels where they are, if they begin at the first lane."""
        x = self.values[group.source]
        start, length = (group.node.arguments[name] for name in ("start", "length"))
        if self._is_flat(group.source):
            raise Unsupported("parts of flattened maps with a channel in each lane")
        if isinstance(x, PlanarBuffer):
            part = x.part(start, length)
        elif start % LANES:
            raise Unsupported("channels from other than a sixteenth with a channel in each lane")
        else:
            part = x.part(start // LANES, lane_blocks(length))
        self._keep(group.target, part, length)

    def batch_norm(self, group: Group) -> None:
        """Batch normalisation that no layer before it took up: a factor and a summand."""
        node, planner = group.node, self.planner
        if not node.arguments["track_running_stats"] or self._is_flat(group.source):
            raise Unsupported("this batch normalisation with a channel in each lane")
        mean, variance = (
            planner.state[node.buffers[name]].astype(np.float64)
            for name in ("running_mean", "running_var")
        )
        weight, bias = planner.parameter(group, "weight"), planner.parameter(group, "bias")
        scale = (1.0 if weight is None else weight) / np.sqrt(variance + node.arguments["eps"])
        shift = (0.0 if bias is None else bias) - mean * scale
        x, y = self.values[group.source], self.output(group)
        name = f"{node.name}: batch normalisation" + fused(group)
        work = conv_rows.Sum(name, x, y, scale[:, None], shift, group.relu)
        conv_rows.depthwise(planner, work, x.pixels(), np.zeros(1))

    def max_pool2d(self, group: Group) -> None:
        """Max pooling that is not fused."""
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        planner.emit(
            f"{group.node.name}: max pooling",
            pool_row(planner, L.K_MAX_POOL, group, x, y, planner.like(y, passing=True)),
        )


#: Operations that have rows here, besides element-wise ones.
SUPPORTED = (
    "subtract",
    "multiply",
    "concat",
    "narrow",
    "conv2d",
    "linear",
    "flatten",
    "dropout",
    "dropout2d",
    "add",
    "batch_norm",
    "max_pool2d",
    "avg_pool2d",
    "adaptive_avg_pool2d",
)
