"""Rows of each operation's backward pass."""

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
    grid,
    input_taps,
    pack,
    pool_row,
    taps_of_phase,
    windows_of_two,
)

if TYPE_CHECKING:
    from fastcnn.backends.lanes.program import Buffer, ConvGeometry, Group, Planner

LANES = 16


class Backward:
    """Adds the backward rows of one group after the other, from the last."""

    def __init__(
        self,
        planner: Planner,
        values: dict[int, Buffer],
        winners: dict[int, Buffer],
        gradient: Buffer,
        training: bool,
        input_gradient: bool,
    ) -> None:
        self.planner = planner
        self.values = values
        self.winners = winners
        self.gradients = {len(planner.graph.nodes) - 1: gradient}
        self.masked: set[int] = set()
        self.training = training
        self.input_gradient = input_gradient
        # Outputs that end in a fused ReLU: whoever makes their gradient may mask it at once.
        self.rectified = {g.target for g in planner.groups if g.relu and not g.pooled}
        for group in planner.groups:
            renamed = values[group.target].offset == values[group.source].offset
            if renamed and group.source in self.rectified:
                self.rectified.add(group.target)

    def wanted(self, group: Group) -> Buffer | None:
        """The buffer of the input's gradient, or None where nobody needs it."""
        if group.source == INPUT and not self.input_gradient:
            return None
        passing = group.operation != "linear" and not self.planner.comes_from_a_batch(group.source)
        return self.gradients.setdefault(
            group.source, self.planner.like(self.values[group.source], passing)
        )

    def arrived(self, group: Group) -> Buffer:
        """The gradient of the group's output, behind its fused ReLU."""
        grad = self.gradients[group.target]
        if group.relu and not group.pooled and group.target not in self.masked:
            self.back_elementwise(group, grad, grad, self.values[group.target], L.ACT_RELU)
        return grad

    def mask(self, group: Group) -> dict[str, int]:
        """Columns that mask the input's gradient where the input was rectified."""
        if group.source not in self.rectified:
            return {}
        self.masked.add(group.source)
        return self.values[group.source].columns("m") | {"mode": L.MASKED}

    def back_elementwise(
        self, group: Group, x: Buffer, y: Buffer, output: Buffer, mode: int
    ) -> None:
        """The gradient of an element-wise function."""
        self.planner.emit(
            f"{group.node.name}: gradient of activation",
            row(
                L.K_ACTIVATION_BACKWARD, **x.columns("x"), **y.columns("y"),
                **output.columns("m"), mode=mode, **element_columns(self.planner, x, y),
            ),
        )  # fmt: skip

    def conv2d(self, group: Group) -> None:
        """Gradients of weight, bias and input."""
        planner, node = self.planner, group.node
        g = planner.geometry(node)
        count = g.out_channels * g.taps
        # Each block's gradient of the weights, behind it that of the biases.
        block = -(-(count + g.out_channels) // LANES) * LANES
        partial = planner.allocate(block * planner.blocks)
        bias = {"extra": partial + count, "extra_block": block}
        if group.pooled:
            grad = self._before_pooling(group, bias)
        else:
            grad = self.arrived(group)
            if "bias" in node.parameters:
                planner.emit(
                    f"{node.name}: bias gradient",
                    row(
                        L.K_BIAS_GRADIENT, **grad.columns("y"), channels=g.out_channels,
                        positions=grad.height * grad.width, y_table=planner.table(grad.pixels()),
                        y_channel=grad.channel, **bias,
                    ),
                )  # fmt: skip
        self._weight_gradient(group, g, grad, {"extra": partial, "extra_block": block})
        weight_at = planner.parameters[node.parameters["weight"]][0]
        self._reduce(node.name, weight_at, partial, block, count)
        if "bias" in node.parameters:
            bias_at = bias_offset(planner, group)
            self._reduce(node.name, bias_at, partial + count, block, g.out_channels)
        grad_x = self.wanted(group)
        if grad_x is not None:
            self._input_gradient(group, grad, grad_x)

    def _before_pooling(self, group: Group, bias: dict[str, int]) -> Buffer:
        """The gradient of a convolution's own output, from that of what is pooled behind it."""
        planner, node = self.planner, group.node
        pooled = self.gradients[group.target]
        grad = planner.buffer(node.output_shape, planner.gradient_halo(node), passing=True)
        h, w = windows_of_two(*node.output_shape[1:])
        planner.emit(
            f"{node.name}: gradients of pooling and bias",
            row(
                L.K_UNPOOL, **grad.columns("x"), **pooled.columns("y"),
                **self.winners[group.target].columns("m"), channels=grad.channels,
                positions=len(h) // 4, x_table=planner.table(grad.at(h, w)),
                y_table=planner.table(pooled.pixels()), x_channel=grad.channel,
                y_channel=pooled.channel, **bias,
            ),
        )  # fmt: skip
        return grad

    def _weight_gradient(
        self, group: Group, g: ConvGeometry, grad: Buffer, partial: dict[str, int]
    ) -> None:
        planner, x = self.planner, self.values[group.source]
        h, w = grid(*g.output)
        base = x.at(h * g.stride[0] - g.padding[0], w * g.stride[1] - g.padding[1])
        scratch = 4 * (g.taps + 16) * LANES + LANES
        planner.emit(
            f"{group.node.name}: weight gradient",
            row(
                L.K_WEIGHT_GRADIENT, **x.columns("x"), **grad.columns("y"),
                m=planner.allocate(scratch * planner.workers), m_slot=scratch, taps=g.taps,
                tap_table=planner.table(input_taps(planner, group, x), 1), positions=len(h),
                x_table=planner.table(base), y_table=planner.table(grad.at(h, w)),
                groups=g.groups, channels=g.group_outputs, x_group=g.group_inputs * x.channel,
                y_channel=grad.channel, **partial,
            ),
        )  # fmt: skip

    def _reduce(self, name: str, target: int, partial: int, block: int, count: int) -> None:
        """Plan the sum over blocks of a gradient; neighbours are summed by one row."""
        reductions = self.planner.reductions
        if reductions:
            last = reductions[-1][1]
            end = last[L.OUT]
            if (last[L.W] + end, last[L.EXTRA] + end) == (target, partial):
                last[L.OUT] += count
                return
        columns: dict[str, int] = {"out": count}
        values = row(L.K_REDUCE, w=target, extra=partial, extra_block=block, **columns)
        reductions.append((f"{name}: sum gradients", values))

    def _input_gradient(self, group: Group, grad: Buffer, grad_x: Buffer) -> None:
        """One convolution of the output's gradient for each phase of the stride.

        Input rows that are equal modulo the stride see the same kernel rows.
        """
        planner, node = self.planner, group.node
        g = planner.geometry(node)
        weight = planner.parameters[node.parameters["weight"]][0]
        index = weight + np.arange(g.out_channels * g.taps).reshape(
            g.groups, g.group_outputs, g.group_inputs, *g.kernel
        )
        mask = self.mask(group)
        for first_h in range(min(g.stride[0], g.input[0])):
            for first_w in range(min(g.stride[1], g.input[1])):
                rows, shift_h = taps_of_phase(g, 0, first_h)
                columns, shift_w = taps_of_phase(g, 1, first_w)
                taps = (
                    np.arange(g.group_outputs)[:, None, None] * grad.channel
                    + shift_h[:, None] * grad.row
                    + shift_w * LANES
                ).ravel()
                source = index[:, :, :, rows][..., columns]
                source = source.transpose(0, 2, 1, 3, 4).reshape(g.groups, g.group_inputs, -1)
                h, w = grid(
                    -(-(g.input[0] - first_h) // g.stride[0]),
                    -(-(g.input[1] - first_w) // g.stride[1]),
                )
                target = grad_x.at(first_h + h * g.stride[0], first_w + w * g.stride[1])
                planner.emit(
                    f"{node.name}: input gradient",
                    row(
                        L.K_CONV, **grad.columns("x"), **grad_x.columns("y"), **mask,
                        **ahead_columns(planner, taps, g.group_outputs, grad),
                        w=pack(planner, node.name, g.groups, g.group_inputs, source), bias=-1,
                        taps=len(taps), tap_table=planner.table(taps, 1), positions=len(h),
                        x_table=planner.table(grad.at(h, w), 1), y_table=planner.table(target, 1),
                        groups=g.groups, channels=g.group_inputs,
                        x_group=g.group_outputs * grad.channel, y_channel=grad_x.channel,
                    ),
                )  # fmt: skip

    def linear(self, group: Group) -> None:
        """Gradients of weight, bias and input, in one phase."""
        planner, node = self.planner, group.node
        grad = self.arrived(group)
        offset, (outputs, inputs) = planner.parameters[node.parameters["weight"]]
        width, transposed = planner.transposed[group.target]
        sizes: dict[str, int] = {"in": inputs, "out": outputs}
        scratch = planner.allocate(64 * planner.workers)
        planner.emit(
            f"{node.name}: weight gradient",
            row(
                L.K_OUTER, x=transposed, extra=width, **grad.columns("y"), w=offset, m=scratch,
                m_slot=64, **sizes,
            ),
            whole=True,
        )  # fmt: skip
        if "bias" in node.parameters:
            planner.emit(
                f"{node.name}: bias gradient",
                row(
                    L.K_LINEAR_BIAS_GRADIENT, **grad.columns("y"),
                    bias=bias_offset(planner, group), **sizes,
                ),
                whole=True, apart=False,
            )  # fmt: skip
        grad_x = self.wanted(group)
        if grad_x is not None:
            sizes = {"in": outputs, "out": inputs}
            planner.emit(
                f"{node.name}: input gradient",
                row(
                    L.K_LINEAR_BACKWARD, **grad.columns("x"), **grad_x.columns("y"), w=offset,
                    bias=-1, **self.mask(group), **sizes,
                ),
                whole=True, apart=False,
            )  # fmt: skip

    def flatten(self, group: Group) -> None:
        """The same memory, or a copy into the map with a halo."""
        self._renamed(group)

    def _renamed(self, group: Group) -> None:
        x, y = self.values[group.source], self.values[group.target]
        grad = self.gradients[group.target].reshaped(x.channels, x.height, x.width)
        if x.offset == y.offset:
            self.gradients[group.source] = grad
            if group.target in self.masked:
                self.masked.add(group.source)
            return
        grad_x = self.wanted(group)
        if grad_x is not None:
            self.planner.copy(group.node.name, grad, grad_x)

    def _activation(self, group: Group, mode: int) -> None:
        grad_x = self.wanted(group)
        if grad_x is not None:
            grad = self.gradients[group.target]
            self.back_elementwise(group, grad_x, grad, self.values[group.target], mode)

    def relu(self, group: Group) -> None:
        """ReLU that follows no convolution."""
        self._activation(group, L.ACT_RELU)

    def sigmoid(self, group: Group) -> None:
        """Sigmoid."""
        self._activation(group, L.ACT_SIGMOID)

    def tanh(self, group: Group) -> None:
        """Hyperbolic tangent."""
        self._activation(group, L.ACT_TANH)

    def dropout(self, group: Group) -> None:
        """The same mask as forward."""
        if not self.training:
            self._renamed(group)
            return
        grad_x = self.wanted(group)
        if grad_x is not None:
            grad = self.gradients[group.target]
            self.planner.emit(
                f"{group.node.name}: gradient of dropout",
                dropout_row(self.planner, group, grad, grad_x),
            )

    def max_pool2d(self, group: Group) -> None:
        """To the winners."""
        grad_x = self.wanted(group)
        if grad_x is not None:
            grad, winner = self.gradients[group.target], self.winners[group.target]
            self.planner.emit(
                f"{group.node.name}: gradient of max pooling",
                pool_row(self.planner, L.K_MAX_POOL_BACKWARD, group, grad_x, grad, winner),
            )

    def avg_pool2d(self, group: Group) -> None:
        """Spread over the windows."""
        grad_x = self.wanted(group)
        if grad_x is not None:
            self.planner.emit(
                f"{group.node.name}: gradient of average pooling",
                pool_row(
                    self.planner, L.K_AVG_POOL_BACKWARD, group, grad_x,
                    self.gradients[group.target], None,
                ),
            )  # fmt: skip
