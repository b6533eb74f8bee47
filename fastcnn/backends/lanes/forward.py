"""Rows of each operation's forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.backends.graph import INPUT
from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.layout import row
from fastcnn.backends.lanes.rows import (
    ahead_columns,
    bias_offset,
    dropout_row,
    element_columns,
    fused,
    grid,
    input_taps,
    pack,
    pool_row,
    windows_of_two,
)

if TYPE_CHECKING:
    from fastcnn.backends.lanes.program import Buffer, Group, Planner

LANES = 16


class Forward:
    """Adds the forward rows of one group after the other."""

    def __init__(
        self,
        planner: Planner,
        values: dict[int, Buffer],
        winners: dict[int, Buffer],
        backward: bool,
        training: bool,
    ) -> None:
        self.planner = planner
        self.values = values
        self.winners = winners
        self.backward = backward
        self.training = training

    def input_row(self, normalisation: int) -> None:
        """Gather, normalise and pack the images."""
        buffer = self.values[INPUT]
        channel = np.arange(buffer.channels)[:, None] * buffer.channel
        table = self.planner.table(channel + buffer.pixels())
        size = buffer.channels * buffer.height * buffer.width
        columns: dict[str, int] = {"in": size, "out": buffer.channels}
        self.planner.emit(
            "input",
            row(L.K_INPUT, **buffer.columns("y"), x_table=table, scale=normalisation, **columns),
        )

    def output_row(self, buffer: Buffer) -> None:
        """Copy the network's output to a row for each sample."""
        channel = np.arange(buffer.channels)[:, None] * buffer.channel
        table = self.planner.table(channel + buffer.pixels())
        size: dict[str, int] = {"in": buffer.channels * buffer.height * buffer.width}
        self.planner.emit("output", row(L.K_OUTPUT, **buffer.columns("x"), x_table=table, **size))

    def output(self, group: Group) -> Buffer:
        """The buffer that a group fills."""
        shape = self.planner.graph.nodes[group.target].output_shape
        halo = self.planner.halo(group.target, self.backward)
        passing = not (self.backward or self.planner.feeds_a_batch(group.target))
        made = self.planner.buffer(shape, halo, passing)
        self.values[group.target] = made
        return made

    def conv2d(self, group: Group) -> None:
        """Convolution, with what is fused behind it."""
        planner, x, y = self.planner, self.values[group.source], self.output(group)
        g = planner.geometry(group.node)
        weight = planner.parameters[group.node.parameters["weight"]][0]
        source = weight + np.arange(g.out_channels * g.taps).reshape(g.groups, -1, g.taps)
        packed = pack(planner, group.node.name, g.groups, g.group_outputs, source)
        order = windows_of_two if group.pooled else grid
        h, w = order(*g.output)
        base = x.at(h * g.stride[0] - g.padding[0], w * g.stride[1] - g.padding[1])
        taps = input_taps(planner, group, x)
        columns = x.columns("x") | y.columns("y")
        columns |= ahead_columns(planner, taps, g.group_inputs, x)
        if group.pooled:
            self.winners[group.target] = planner.like(y, passing=not self.backward)
            columns |= self.winners[group.target].columns("m")
        planner.emit(
            f"{group.node.name}: convolution" + fused(group),
            row(
                L.K_CONV, **columns, w=packed, bias=bias_offset(planner, group), taps=g.taps,
                tap_table=planner.table(taps, 1), positions=len(h),
                x_table=planner.table(base, 4 if group.pooled else 1),
                y_table=planner.table(y.pixels(), 1), groups=g.groups,
                channels=g.group_outputs, x_group=g.group_inputs * x.channel,
                y_channel=y.channel, relu=int(group.relu),
                mode=L.POOLED if group.pooled else L.PLAIN,
            ),
        )  # fmt: skip

    def linear(self, group: Group) -> None:
        """Fully connected layer over the whole batch."""
        from fastcnn.backends.lanes.program import NO_HALO, Unsupported

        planner, x, y = self.planner, self.values[group.source], self.output(group)
        if x.halo != NO_HALO or y.halo != NO_HALO:
            raise Unsupported("a linear layer on a padded map")
        offset, (outputs, inputs) = planner.parameters[group.node.parameters["weight"]]
        columns: dict[str, int] = {"in": inputs, "out": outputs}
        planner.emit(
            f"{group.node.name}: linear" + fused(group),
            row(
                L.K_LINEAR, **x.columns("x"), **y.columns("y"), w=offset,
                bias=bias_offset(planner, group), relu=int(group.relu), **columns,
            ),
            whole=True,
        )  # fmt: skip
        if self.backward:
            # Rows of inputs for the weight gradient, made here because no barrier is needed.
            width = -(-inputs // 64) * 64
            transposed = planner.allocate(planner.blocks * LANES * width)
            planner.transposed[group.target] = width, transposed
            sizes: dict[str, int] = {"in": inputs, "out": width}
            planner.emit(
                f"{group.node.name}: transpose input",
                row(L.K_TRANSPOSE, **x.columns("x"), y=transposed, **sizes),
                whole=True, apart=False,
            )  # fmt: skip

    def flatten(self, group: Group) -> None:
        """Another name for the same memory, unless the map has a halo."""
        from fastcnn.backends.lanes.program import NO_HALO

        x = y = self.values[group.source]
        if x.halo != NO_HALO:
            y = self.planner.buffer((x.channels, x.height, x.width))
            self.planner.copy(group.node.name, x, y)
        self.values[group.target] = y.reshaped(x.channels * x.height * x.width, 1, 1)

    def elementwise(self, group: Group, y: Buffer, mode: int) -> None:
        """A function of each element."""
        x = self.values[group.source]
        self.planner.emit(
            f"{group.node.name}: {group.operation}",
            row(
                L.K_ACTIVATION, **x.columns("x"), **y.columns("y"), mode=mode,
                **element_columns(self.planner, x, y),
            ),
        )  # fmt: skip

    def relu(self, group: Group) -> None:
        """ReLU that follows no convolution."""
        self.elementwise(group, self.output(group), L.ACT_RELU)

    def sigmoid(self, group: Group) -> None:
        """Sigmoid."""
        self.elementwise(group, self.output(group), L.ACT_SIGMOID)

    def tanh(self, group: Group) -> None:
        """Hyperbolic tangent."""
        self.elementwise(group, self.output(group), L.ACT_TANH)

    def dropout(self, group: Group) -> None:
        """Dropout; outside training the same memory, or a copy where halos differ."""
        x = self.values[group.source]
        if not self.training and self.planner.halo(group.target, self.backward) == x.halo:
            self.values[group.target] = x
            return
        y = self.output(group)
        if not self.training:
            self.planner.copy(group.node.name, x, y)
            return
        self.planner.emit(f"{group.node.name}: dropout", dropout_row(self.planner, group, x, y))

    def max_pool2d(self, group: Group) -> None:
        """Max pooling that is not fused."""
        x, y = self.values[group.source], self.output(group)
        self.winners[group.target] = self.planner.like(y, passing=not self.backward)
        self.planner.emit(
            f"{group.node.name}: max pooling",
            pool_row(self.planner, L.K_MAX_POOL, group, x, y, self.winners[group.target]),
        )

    def avg_pool2d(self, group: Group) -> None:
        """Average pooling."""
        x, y = self.values[group.source], self.output(group)
        self.planner.emit(
            f"{group.node.name}: average pooling",
            pool_row(self.planner, L.K_AVG_POOL, group, x, y, None),
        )
