"""Rows of normalisation within samples, of the softmax and of local response normalisation."""

from typing import Any

import numpy as np

from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.layout import row
from fastcnn.backends.lanes.lowering.gradients import Gradients
from fastcnn.backends.lanes.lowering.shared_forward import SharedForward
from fastcnn.backends.lanes.planning.buffers import LANES, Buffer
from fastcnn.backends.lanes.planning.grouping import Group
from fastcnn.backends.lanes.planning.planner import Planner
from fastcnn.backends.lanes.planning.rows import (
    element_columns,
    fused,
    gradient_offset,
    parameter_offset,
    stored_eps,
)
from fastcnn.backends.sample_sets import Sets, sets_of


class SampleNormForward(SharedForward):
    """The forward rows, for :class:`~fastcnn.backends.lanes.lowering.forward.Forward`.

    Attributes
    ----------
    kept : dict of int to int or Buffer
        By node what the backward pass needs again: where the statistics of sets are, or divisors.
    """

    kept: dict[int, Any]

    def _normalise_samples(self, group: Group) -> None:
        planner, node = self.planner, group.node
        x, y, sets = self.values[group.source], self.output(group), _sets(group)
        columns = _set_columns(planner, sets, sets.axes, x=x, y=y)
        columns |= _weight_columns(planner, group, sets)
        place = -1
        if planner.backward:
            place = self.kept[group.target] = planner.allocate(_block(sets) * planner.blocks)
        planner.emit(
            f"{node.name}: {group.operation}" + fused(group),
            row(
                L.K_SAMPLE_NORM,
                **columns,
                extra=place,
                extra_block=_block(sets),
                scale=planner.constant([stored_eps(node)]),
                relu=int(group.relu),
            ),
        )

    layer_norm = layer_norm2d = group_norm = rms_norm = _normalise_samples

    def softmax(self, group: Group) -> None:
        """The softmax, or its logarithm."""
        sets = _sets(group)
        x, y = self.values[group.source], self.output(group)
        columns = _set_columns(self.planner, sets, sets.axes, x=x, y=y)
        self.planner.emit(
            f"{group.node.name}: {group.operation}",
            row(L.K_SOFTMAX, **columns, mode=_softmax_mode(group)),
        )

    log_softmax = softmax

    def local_response_norm(self, group: Group) -> None:
        """Division by a power of what the channels around hold."""
        planner = self.planner
        x, y = self.values[group.source], self.output(group)
        shape = (x.channels, x.height, x.width)
        divisors = self.kept[group.target] = planner.buffer(shape, passing=not planner.backward)
        columns = element_columns(planner, x=x, y=y, m=divisors)
        columns |= _response_columns(planner, group)
        name = f"{group.node.name}: {group.operation}"
        planner.emit(name, row(L.K_LOCAL_RESPONSE, **columns))


class SampleNormBackward(Gradients):
    """The backward rows, for :class:`~fastcnn.backends.lanes.lowering.backward.Backward`."""

    def _normalised_samples(self, group: Group, grad: Buffer) -> None:
        planner, node, sets = self.planner, group.node, _sets(group)
        x, grad = self.values[group.source], self.rectify(group, grad)
        statistics = {"extra": self.kept[group.target], "extra_block": _block(sets)}
        name = f"{node.name}: gradient of {group.operation}"
        self._sample_parameters(group, grad, sets, statistics)
        grad_x = self.wanted(group)
        if grad_x is not None:
            columns = _set_columns(planner, sets, sets.axes, x=x, y=grad, z=grad_x)
            columns |= _weight_columns(planner, group, sets) | statistics
            planner.emit(name, row(L.K_SAMPLE_NORM_GRADIENT, **columns))

    _layer_norm = _layer_norm2d = _group_norm = _rms_norm = _normalised_samples

    def _sample_parameters(
        self, group: Group, grad: Buffer, sets: Sets, statistics: dict[str, int]
    ) -> None:
        """The gradients of weight and bias: sums of a block, then over blocks."""
        planner, count = self.planner, sets.weights
        offsets = {name: gradient_offset(planner, group, name) for name in ("weight", "bias")}
        if max(offsets.values()) < 0:
            return
        others = tuple(axis for axis in range(len(sets.view)) if axis not in sets.weighted)
        columns = _set_columns(planner, sets, others, x=self.values[group.source], y=grad)
        columns["groups"] = 0
        numbers = np.concatenate(sets.number(sets.set_numbers(), others))
        block = -(-2 * count // LANES) * LANES
        partial = planner.allocate(block * planner.blocks)
        size: dict[str, int] = {"out": count}
        planner.emit(
            f"{group.node.name}: gradients of weight and bias",
            row(
                L.K_SAMPLE_NORM_PARAMETERS,
                **columns,
                **statistics,
                **size,
                m=partial,
                m_block=block,
                m_table=planner.table(numbers),
                w=offsets["weight"],
                bias=offsets["bias"],
            ),
        )
        for target in offsets.values():
            if target >= 0:
                self.sum_blocks(group, target, {"extra": partial, "extra_block": block}, count)
                partial += count

    def _softmax(self, group: Group, grad: Buffer) -> None:
        grad_x, sets = self.wanted(group), _sets(group)
        if grad_x is not None:
            y = self.values[group.target]
            columns = _set_columns(self.planner, sets, sets.axes, x=y, y=grad, z=grad_x)
            self.planner.emit(
                f"{group.node.name}: gradient of {group.operation}",
                row(L.K_SOFTMAX_GRADIENT, **columns, mode=_softmax_mode(group)),
            )

    _log_softmax = _softmax

    def _local_response_norm(self, group: Group, grad: Buffer) -> None:
        planner = self.planner
        grad_x = self.wanted(group)
        if grad_x is None:
            return
        x, divisors = self.values[group.source], self.kept[group.target]
        shares = planner.like(divisors, passing=True)
        columns = _response_columns(planner, group)
        columns |= {"extra": shares.offset, "extra_block": shares.slot}
        elements = element_columns(planner, x=x, y=grad, m=divisors)
        name = f"{group.node.name}: gradient of {group.operation}"
        planner.emit(f"{name}, shares", row(L.K_LOCAL_RESPONSE_SHARES, **elements, **columns))
        elements |= element_columns(planner, z=grad_x)
        planner.emit(name, row(L.K_LOCAL_RESPONSE_GRADIENT, **elements, **columns))


def _sets(group: Group) -> Sets:
    node = group.node
    return sets_of(group.operation, node.arguments, node.input_shapes[0])


def _block(sets: Sets) -> int:
    """Floats of a block's statistics."""
    return 2 * LANES * sets.count


def _set_columns(
    planner: Planner, sets: Sets, axes: tuple[int, ...], **buffers: Buffer
) -> dict[str, int]:
    """Columns of a row that goes over some buffers by sets, or by weights: along some axes."""
    columns: dict[str, int] = {}
    for name, buffer in buffers.items():
        places = np.arange(buffer.channels)[:, None] * buffer.channel + buffer.pixels()
        outer, inner = sets.number(places, axes)
        columns |= buffer.columns(name)
        columns[f"{name}_table"] = planner.table(np.concatenate([outer, inner]))
        columns |= {"groups": len(outer), "positions": len(inner)}
    return columns


def _weight_columns(planner: Planner, group: Group, sets: Sets) -> dict[str, int]:
    """Where weights are, and which of them belongs to each member of each set."""
    centred = group.operation != "rms_norm"
    columns = {
        "w": parameter_offset(planner, group, "weight"),
        "bias": parameter_offset(planner, group, "bias"),
        "mode": L.CENTRED if centred else L.AROUND_ZERO,
    }
    numbers = np.concatenate(sets.number(sets.weight_numbers(), sets.axes))
    return columns | {"m_table": planner.table(numbers)}


def _softmax_mode(group: Group) -> int:
    return L.LOGARITHM if group.operation == "log_softmax" else L.PROBABILITY


def _response_columns(planner: Planner, group: Group) -> dict[str, int]:
    a = group.node.arguments
    numbers = [a["alpha"] / a["size"], a["beta"], a["k"]]
    return {"taps": a["size"], "scale": planner.constant(numbers)}
